use super::*;
use proptest::prelude::*;

const ROOMY: Limits = Limits { depth_max: 32, tokens_max: 10_000 };

fn decode(bytes: &[u8]) -> Result<Document<'_>, BencodeError> {
    Document::decode(bytes, &ROOMY)
}

/// Returns a node as a tree for writing; integers beyond `i64` stay raw.
fn value(node: Node<'_, '_>) -> Value {
    match node.kind() {
        Kind::Bytes => Value::from(node.as_bytes().unwrap()),
        Kind::Integer => node.as_i64().map_or_else(|| Value::Raw(node.raw().to_vec()), Value::Integer),
        Kind::List => Value::List(node.items().map(value).collect()),
        Kind::Dictionary => Value::dictionary(node.entries().map(|(key, entry)| (key, value(entry)))),
    }
}

#[test]
fn the_examples_of_bep_3_are_read() {
    assert_eq!(decode(b"4:spam").unwrap().root().as_bytes(), Some(&b"spam"[..]));
    assert_eq!(decode(b"i3e").unwrap().root().as_i64(), Some(3));
    assert_eq!(decode(b"i-3e").unwrap().root().as_i64(), Some(-3));
    assert_eq!(decode(b"i0e").unwrap().root().as_i64(), Some(0));
    let list = decode(b"l4:spam4:eggse").unwrap();
    let items: Vec<_> = list.root().items().map(|item| item.as_bytes().unwrap()).collect();
    assert_eq!(items, [b"spam", b"eggs"]);
    let cow = decode(b"d3:cow3:moo4:spam4:eggse").unwrap();
    assert_eq!(cow.root().get(b"cow").unwrap().as_bytes(), Some(&b"moo"[..]));
    assert_eq!(cow.root().get(b"spam").unwrap().as_bytes(), Some(&b"eggs"[..]));
    assert!(cow.root().get(b"egg").is_none());
    let spam = decode(b"d4:spaml1:a1:bee").unwrap();
    let spam = spam.root().get(b"spam").unwrap();
    assert_eq!((spam.kind(), spam.items().count(), spam.raw(), spam.offset()), (Kind::List, 2, &b"l1:a1:be"[..], 7));
}

#[test]
fn values_are_written_with_sorted_keys() {
    let entries = [("spam", Value::List(vec!["a".into(), Value::Integer(-3)])), ("Z", "".into()), ("a", 0u32.into())];
    assert_eq!(Value::dictionary(entries).encode(), b"d1:Z0:1:ai0e4:spaml1:ai-3eee");
    assert_eq!(Value::from(u64::MAX).encode(), b"i18446744073709551615e");
    assert_eq!(Value::Raw(b"le".to_vec()).encode(), b"le");
}

#[test]
fn each_malformation_has_its_own_error() {
    use BencodeError::*;
    let cases: &[(&[u8], BencodeError)] = &[
        (b"", UnexpectedEnd { offset: 0 }),
        (b"i", UnexpectedEnd { offset: 1 }),
        (b"i12", UnexpectedEnd { offset: 3 }),
        (b"12", UnexpectedEnd { offset: 2 }),
        (b"l4:spam", UnexpectedEnd { offset: 7 }),
        (b"d3:cow", UnexpectedEnd { offset: 6 }),
        (b"d3:cow3:moo", UnexpectedEnd { offset: 11 }),
        (b"e", UnexpectedByte { offset: 0, byte: b'e' }),
        (b"x", UnexpectedByte { offset: 0, byte: b'x' }),
        (b"-1:a", UnexpectedByte { offset: 0, byte: b'-' }),
        (b" i1e", UnexpectedByte { offset: 0, byte: b' ' }),
        (b"4spam", UnexpectedByte { offset: 1, byte: b's' }),
        (b"i+3e", UnexpectedByte { offset: 1, byte: b'+' }),
        (b"i1.5e", UnexpectedByte { offset: 2, byte: b'.' }),
        (b"i--1e", UnexpectedByte { offset: 2, byte: b'-' }),
        (b"li1ei 2ee", UnexpectedByte { offset: 5, byte: b' ' }),
        (b"ie", EmptyInteger { offset: 0 }),
        (b"li1ei-ee", EmptyInteger { offset: 4 }),
        (b"i-0e", NegativeZero { offset: 0 }),
        (b"i03e", LeadingZero { offset: 0 }),
        (b"i00e", LeadingZero { offset: 0 }),
        (b"i-03e", LeadingZero { offset: 0 }),
        (b"l04:spame", LeadingZero { offset: 1 }),
        (b"5:spam", StringPastEnd { offset: 0 }),
        (b"l1:a99999999999999999999999:e", StringPastEnd { offset: 4 }),
        (b"18446744073709551615:a", StringPastEnd { offset: 0 }),
        (b"di1ei2ee", KeyNotString { offset: 1 }),
        (b"d1:a0:lee", KeyNotString { offset: 6 }),
        (b"d3:cowe", KeyWithoutValue { offset: 6 }),
        (b"i1ei2e", TrailingBytes { offset: 3 }),
        (b"4:spam\n", TrailingBytes { offset: 6 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(bytes).map(|_| ()), Err(error.clone()), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn integers_of_any_size_are_carried() {
    let digits = "9".repeat(100_000);
    let text = format!("d1:ai{digits}e1:bi-9223372036854775808ee");
    let document = decode(text.as_bytes()).unwrap();
    let large = document.root().get(b"a").unwrap();
    assert_eq!((large.kind(), large.as_i64(), large.raw().len()), (Kind::Integer, None, 100_002));
    assert_eq!(document.root().get(b"b").unwrap().as_i64(), Some(i64::MIN));
    assert_eq!(document.root().raw(), text.as_bytes());
}

#[test]
fn depth_and_number_of_values_are_limited() {
    let levels = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    assert!(decode(&levels(32)).is_ok());
    assert_eq!(decode(&levels(33)).map(|_| ()), Err(BencodeError::TooDeep { offset: 32, max: 32 }));
    for unit in ["l", "d1:a", "ld1:a"] {
        let bytes = unit.repeat((60 << 20) / unit.len()).into_bytes();
        assert!(matches!(decode(&bytes), Err(BencodeError::TooDeep { max: 32, .. })), "{unit}");
    }
    let limits = Limits { depth_max: 1, tokens_max: 3 };
    assert!(Document::decode(b"l0:0:e", &limits).is_ok());
    let error = Document::decode(b"l0:0:0:e", &limits).map(|_| ());
    assert_eq!(error, Err(BencodeError::TooManyTokens { offset: 5, max: 3 }));
    assert_eq!(size_of::<Token>(), 8, "four bytes of table for each byte of the densest input");
}

#[test]
fn unsorted_and_repeated_keys_are_read_and_reported() {
    assert_eq!(decode(b"d1:a0:1:b0:e").unwrap().disorder(), None);
    assert_eq!(decode(b"d1:b0:1:a0:e").unwrap().disorder(), Some(6));
    assert_eq!(decode(b"d1:B0:1:a0:2:aa0:e").unwrap().disorder(), None);
    let repeated = decode(b"d1:ai1e1:ai2ee").unwrap();
    assert_eq!(repeated.disorder(), Some(7));
    assert_eq!(repeated.root().get(b"a").unwrap().as_i64(), Some(1));
    // Each dictionary has its own order, also around an inner one.
    assert_eq!(decode(b"d1:bd1:a0:e1:c0:e").unwrap().disorder(), None);
    assert_eq!(decode(b"d1:bd1:x0:e1:a0:e").unwrap().disorder(), Some(11));
}

#[test]
fn a_value_can_be_read_from_the_front() {
    let (document, consumed) = Document::decode_prefix(b"d5:piecei0eepayload", &ROOMY).unwrap();
    assert_eq!(consumed, 12);
    assert_eq!(document.root().raw(), b"d5:piecei0ee");
}

#[test]
fn accessors_of_another_type_return_nothing() {
    let document = decode(b"ll1:aei1e1:xe").unwrap();
    let [list, integer, bytes] = document.root().items().collect::<Vec<_>>().try_into().ok().unwrap();
    for node in [list, integer, bytes] {
        assert_eq!(node.entries().count(), 0);
        assert!(node.get(b"a").is_none());
    }
    assert_eq!((list.as_bytes(), list.as_i64()), (None, None));
    assert_eq!((integer.as_bytes(), integer.items().count()), (None, 0));
    assert_eq!((bytes.as_i64(), bytes.items().count()), (None, 0));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes),
        any::<i64>().prop_map(Value::Integer),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let key = prop::collection::vec(any::<u8>(), 0..4);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::btree_map(key, inner, 0..6).prop_map(Value::Dictionary),
        ]
    })
}

/// Bytes that are often nearly valid.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let word =
        prop::sample::select(vec!["d", "l", "e", "i", "i1e", "-", "0", "1", "2", ":", "1:a", "1:b", "0:", "i0e"]);
    prop::collection::vec(word, 0..30).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn written_values_are_read_back(written in any_value()) {
        let bytes = written.encode();
        let document = decode(&bytes).unwrap();
        prop_assert_eq!(value(document.root()), written);
        prop_assert_eq!(document.disorder(), None);
        prop_assert_eq!(document.root().raw(), &bytes);
    }

    #[test]
    fn an_accepted_sorted_input_is_canonical(bytes in likely_bytes()) {
        if let Ok(document) = decode(&bytes) && document.disorder().is_none() {
            prop_assert_eq!(value(document.root()).encode(), bytes);
        }
    }

    #[test]
    fn the_raw_bytes_of_a_value_decode_to_it(written in any_value()) {
        fn check(node: Node<'_, '_>) {
            let again = decode(node.raw()).unwrap();
            assert_eq!(value(again.root()), value(node));
            node.items().for_each(check);
            node.entries().for_each(|(_, entry)| check(entry));
        }
        check(decode(&written.encode()).unwrap().root());
    }

    #[test]
    fn a_cut_value_is_never_accepted(written in any_value(), cut in any::<prop::sample::Index>()) {
        let bytes = written.encode();
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_back(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), likely_bytes()]
    ) {
        if let Ok(document) = decode(&bytes) {
            prop_assert_eq!(document.root().raw(), &bytes[..]);
            let read = value(document.root());
            let written = read.encode();
            let again = decode(&written).unwrap();
            prop_assert_eq!(again.disorder(), None);
            prop_assert_eq!(value(again.root()), read);
        }
    }
}
