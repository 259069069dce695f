//! A bencode writer for malformed torrents: keys stay in the given order, and nothing is validated.

/// An encoded value.
#[derive(Clone, Debug)]
pub(crate) struct Bencoded(pub(crate) Vec<u8>);

pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Bencoded {
    Bencoded(bytes.as_ref().to_vec())
}

pub(crate) fn integer(value: impl std::fmt::Display) -> Bencoded {
    raw(format!("i{value}e"))
}

pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Bencoded {
    let bytes = bytes.as_ref();
    Bencoded([format!("{}:", bytes.len()).as_bytes(), bytes].concat())
}

pub(crate) fn list(items: impl IntoIterator<Item = Bencoded>) -> Bencoded {
    let mut out = b"l".to_vec();
    for item in items {
        out.extend(item.0);
    }
    out.push(b'e');
    Bencoded(out)
}

pub(crate) fn dictionary<'a>(entries: impl IntoIterator<Item = (&'a str, Bencoded)>) -> Bencoded {
    let mut out = b"d".to_vec();
    for (key, value) in entries {
        out.extend(string(key).0);
        out.extend(value.0);
    }
    out.push(b'e');
    Bencoded(out)
}
