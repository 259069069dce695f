use super::*;
use proptest::prelude::*;

const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";

fn parse(text: &str) -> Magnet {
    Magnet::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_whole_link_is_read_and_written() {
    let text = format!(
        "magnet:?xt=urn:btih:{HEX}&dn=a%20b%2Fc%26&xl=1234&tr=http%3A%2F%2Ft.example%2Fannounce%3Fpass%3Da%2Bb\
         &tr=udp%3A%2F%2Ft.example%3A6969&ws=http%3A%2F%2Fw.example%2Fx&x.pe=192.0.2.7:6881&x.pe=[2001:db8::1]:6882\
         &x.pe=peer.example:6883"
    );
    let magnet = parse(&text);
    assert_eq!(magnet.info_hash.to_string(), HEX);
    assert_eq!(magnet.name.as_deref(), Some(&b"a b/c&"[..]));
    assert_eq!(magnet.len, Some(1234));
    assert_eq!(magnet.trackers, ["http://t.example/announce?pass=a+b", "udp://t.example:6969"]);
    assert_eq!(magnet.web_seeds, ["http://w.example/x"]);
    let peers = [
        PeerAddress::Socket("192.0.2.7:6881".parse().unwrap()),
        PeerAddress::Socket("[2001:db8::1]:6882".parse().unwrap()),
        PeerAddress::Name("peer.example".into(), 6883),
    ];
    assert_eq!(magnet.peers, peers);
    assert_eq!(magnet.encode(), text);
}

#[test]
fn the_info_hash_may_be_base32_or_upper_case() {
    let bytes = parse(&format!("magnet:?xt=urn:btih:{HEX}")).info_hash;
    for text in ["YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", "yex6dqdlxisuvhoj6um3gnnkpqjwpkek", &HEX.to_uppercase()] {
        assert_eq!(parse(&format!("MAGNET:?dn=x&xt=URN:btih:{text}")).info_hash, bytes, "{text}");
    }
    assert_eq!(parse(&format!("magnet:?xt=urn%3Abtih%3A{HEX}")).info_hash, bytes);
}

#[test]
fn links_are_read_in_every_pasted_form() {
    let clean = format!("magnet:?xt=urn:btih:{HEX}&dn=a%20b&tr=http%3A%2F%2Ft.example%2Fannounce");
    let expected = parse(&clean);
    let (half, rest) = clean.split_at(40);
    for text in [
        format!("  {clean}\r\n"),
        format!("<{clean}>"),
        format!("\"{clean}\""),
        format!("{half}\r\n    {rest}"),
        format!("{half}\n{rest}"),
        clean.replace('&', "&amp;"),
        clean.replace('&', "&amp;amp;"),
        clean.replace('&', "&#38;"),
        clean.replace('&', " & "),
        clean.replace("magnet:?", "magnet://?"),
        clean.replace("magnet:?", "Magnet:/?"),
        clean.replace("magnet:?", "magnet:"),
        clean.replace("magnet:?", "MAGNET: ?"),
        clean.replace("%20", " "),
        clean.replace("btih:c12f", "btih: c12f "),
        clean.replace("xt=urn:btih", "XT=URN:BTIH"),
        clean.replace('%', "%25").replace(':', "%3A").replace('?', "%3F").replace('&', "%26").replace('=', "%3D"),
    ] {
        assert!(Magnet::is_meant(text.as_bytes()), "{text}");
        let found = Magnet::parse(text.as_bytes()).map_err(|error| format!("{text}: {error}"));
        assert_eq!(found.as_ref().map(|found| found.info_hash), Ok(expected.info_hash), "{text}");
        assert_eq!(found.unwrap().name, expected.name, "{text}");
    }
    let spaced = parse(&format!("magnet:?xt=urn:btih:{HEX}&tr=http://t.example/a b&ws=http://b\u{fc}cher.example/"));
    assert_eq!(spaced.trackers, ["http://t.example/a%20b"]);
    assert_eq!(spaced.web_seeds, ["http://xn--bcher-kva.example/"]);
}

#[test]
fn a_bare_info_hash_is_a_link() {
    let expected = Some(Magnet::new(parse(&format!("magnet:?xt=urn:btih:{HEX}")).info_hash));
    for text in [HEX, &HEX.to_uppercase(), "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", &format!(" {HEX}\n")] {
        assert_eq!(Magnet::from_info_hash(text.as_bytes()), expected, "{text}");
        assert!(!Magnet::is_meant(text.as_bytes()));
    }
    for text in ["", "c12fe1c06bba254a9dc9f519b335aa7c1367a8", &format!("{HEX}.torrent"), "x.torrent"] {
        assert_eq!(Magnet::from_info_hash(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn numbered_parameters_count_and_unknown_ones_do_not() {
    let magnet = parse(&format!(
        "magnet:?xt.1=urn:btih:{HEX}&xt.2=urn:sha1:X&tr.1=http://a/&tr.12=http://b/&tr.x=http://c/&so=0&&=&x=%zz&dn=a+b"
    ));
    assert_eq!(magnet.trackers, ["http://a/", "http://b/"]);
    assert_eq!(magnet.name.unwrap(), b"a b");
}

#[test]
fn links_without_a_torrent_are_refused_with_the_reason() {
    let v2 = format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32));
    let hybrid = format!("{v2}&xt=urn:btih:{HEX}");
    assert!(Magnet::parse(hybrid.as_bytes()).is_ok());
    for (text, error) in [
        ("", MagnetError::NotMagnet),
        ("magnet", MagnetError::NotMagnet),
        ("magnet%3a%zz", MagnetError::NotMagnet),
        (HEX, MagnetError::NotMagnet),
        ("magnet:", MagnetError::NoInfoHash),
        ("http://x/", MagnetError::NotMagnet),
        ("magnet:?", MagnetError::NoInfoHash),
        ("magnet:?xt=urn:sha1:abc", MagnetError::NoInfoHash),
        ("magnet:?xt=urn:btih:", MagnetError::BadInfoHash),
        ("magnet:?xt=urn:btih:zz2fe1c06bba254a9dc9f519b335aa7c1367a88a", MagnetError::BadInfoHash),
        ("magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a8", MagnetError::BadInfoHash),
        ("magnet:?xt=urn:btih:1EX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", MagnetError::BadInfoHash),
        (&v2, MagnetError::V2Only),
        (&format!("magnet:?xt=urn:btih:{HEX}&xt=urn:btih:{}", HEX.replace('c', "d")), MagnetError::TwoInfoHashes),
        (&format!("magnet:?xt=urn:btih:{HEX}&dn={}", "x".repeat(65_536)), MagnetError::TooLong),
    ] {
        assert_eq!(Magnet::parse(text.as_bytes()), Err(error), "{text}");
    }
}

#[test]
fn unusable_hints_are_ignored_and_their_number_is_bounded() {
    let mut text = format!("magnet:?xt=urn:btih:{HEX}&tr=ftp://x/&tr=http:///a&tr=http://a%0d%0ab/&tr=%zz&ws=udp://x/");
    text += "&x.pe=1.2.3.4&x.pe=1.2.3.4:0&x.pe=:80&x.pe=a%1bb:80&x.pe=a:99999&x.pe=1.2.3.4:80&x.pe=1.2.3.4:80";
    for n in 0..300 {
        let _ = write!(text, "&tr=http://t{n}/&x.pe=10.0.0.1:{}&ws=http://w{n}/", n + 1);
    }
    let magnet = parse(&text);
    assert_eq!((magnet.trackers.len(), magnet.peers.len(), magnet.web_seeds.len()), (256, 64, 64));
    assert_eq!(magnet.peers[0], PeerAddress::Socket("1.2.3.4:80".parse().unwrap()));
}

proptest! {
    #[test]
    fn a_written_link_is_read_back(hash in any::<[u8; 20]>(), name in prop::collection::vec(any::<u8>(), 1..40)) {
        let magnet = Magnet { name: Some(name), trackers: vec!["http://t/a?b=c&d".into()], ..Magnet::new(InfoHash(hash)) };
        prop_assert_eq!(Magnet::parse(magnet.encode().as_bytes()).unwrap(), magnet);
    }

    #[test]
    fn arbitrary_text_is_refused_or_read_back(
        bytes in prop::collection::vec(any::<u8>(), 0..200), parameters in likely_parameters()
    ) {
        let link = format!("magnet:?xt=urn:btih:{HEX}");
        for text in [&[link.as_bytes(), b"&", &bytes].concat(), &[link.as_bytes(), &parameters].concat(), &bytes] {
            if let Ok(magnet) = Magnet::parse(text) {
                prop_assert!(magnet.trackers.len() <= limits::TRACKER_COUNT_MAX);
                prop_assert!(magnet.web_seeds.len() <= limits::WEB_SEED_COUNT_MAX);
                prop_assert!(magnet.peers.len() <= limits::MAGNET_PEERS_MAX);
                prop_assert_eq!(Magnet::parse(magnet.encode().as_bytes()), Ok(magnet));
            }
        }
    }
}

/// Known parameters with nearly right values.
fn likely_parameters() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "dn=",
        "xl=1",
        "tr=http://t/",
        "tr=udp://",
        "ws=https://w/",
        "x.pe=a.b:",
        "x.pe=1.2.3.4:",
    ]);
    let parameter =
        (start, prop_oneof!["[0-9]{0,6}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..9)]);
    let parameters = prop::collection::vec(parameter, 0..9);
    parameters
        .prop_map(|list| list.into_iter().flat_map(|(start, end)| [b"&", start.as_bytes(), &end].concat()).collect())
}
