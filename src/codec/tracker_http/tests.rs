use super::*;
use crate::base::{InfoHash, PeerId, limits};
use crate::codec::bencode::{BencodeError, Kind, Value};
use proptest::prelude::*;

fn query<'a>() -> AnnounceQuery<'a> {
    AnnounceQuery {
        info_hash: InfoHash(*b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a"),
        peer_id: PeerId(*b"-FB0100-abcdefghij +"),
        ip: None,
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Event::Empty,
        numwant: 80,
        key: 0xab,
        tracker_id: None,
    }
}

fn peer(address: &str) -> TrackerPeer {
    let address: std::net::SocketAddr = address.parse().unwrap();
    TrackerPeer { host: PeerHost::Ip(address.ip()), port: address.port(), peer_id: None }
}

#[test]
fn the_query_has_every_key_of_bep_3_escaped() {
    let expected = "http://t.example/announce?\
        info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A&peer_id=-FB0100-abcdefghij%20%2B\
        &port=6881&uploaded=1&downloaded=2&left=3&compact=1&numwant=80&key=000000AB";
    assert_eq!(query().append_to("http://t.example/announce"), expected);
    let full =
        AnnounceQuery { event: Event::Started, ip: Some("origin.example"), tracker_id: Some(b"a&b=\x00"), ..query() };
    let tail = "&event=started&ip=origin.example&trackerid=a%26b%3D%00";
    assert_eq!(full.append_to("http://t.example/announce"), format!("{expected}{tail}"));
}

#[test]
fn the_query_is_appended_to_any_url() {
    for (url, start) in [
        ("http://t/a", "http://t/a?info_hash="),
        ("http://t/a?", "http://t/a?info_hash="),
        ("http://t/a?pass=x", "http://t/a?pass=x&info_hash="),
        ("http://t/a?pass=x&", "http://t/a?pass=x&info_hash="),
        ("http://t/a?pass=x#top", "http://t/a?pass=x&info_hash="),
        ("http://t/a#top?", "http://t/a?info_hash="),
    ] {
        assert!(query().append_to(url).starts_with(start), "{url}");
    }
}

#[test]
fn our_tracker_reads_the_query_back() {
    let sent = AnnounceQuery { event: Event::Stopped, ip: Some("2001:db8::1"), tracker_id: Some(b"\xff&"), ..query() };
    let url = sent.append_to("http://t/announce");
    let read = decode_query(url.split_once('?').unwrap().1).unwrap();
    let expected = OwnedAnnounceQuery {
        info_hash: sent.info_hash,
        peer_id: sent.peer_id,
        ip: Some("2001:db8::1".into()),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Event::Stopped,
        numwant: Some(80),
        key: Some(b"000000AB".to_vec()),
        compact: Some(true),
        no_peer_id: false,
        tracker_id: Some(b"\xff&".to_vec()),
    };
    assert_eq!(read, expected);
}

#[test]
fn our_tracker_is_strict_only_about_keys_that_bep_3_requires() {
    let base = "info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=+bbbbbbbbbbbbbbbbbb%2b&port=1&uploaded=0&downloaded=0&left=0";
    let read = decode_query(base).unwrap();
    assert_eq!(read.peer_id, PeerId(*b" bbbbbbbbbbbbbbbbbb+"));
    assert_eq!((read.event, read.numwant, read.compact, read.ip), (Event::Empty, None, None, None));
    let odd = format!("{base}&event=paused&numwant=-1&compact=0&port=2&ip=&no_peer_id=1&x&=&&y=%zz");
    let read = decode_query(&odd).unwrap();
    assert_eq!((read.event, read.numwant, read.compact, read.port), (Event::Empty, None, Some(false), 1));
    assert!(read.no_peer_id && read.ip.is_none());
    let without = |key: &str| {
        let left: Vec<&str> = base.split('&').filter(|param| !param.starts_with(key)).collect();
        decode_query(&left.join("&"))
    };
    for key in ["info_hash", "peer_id", "port"] {
        assert_eq!(without(key), Err(QueryError::Missing { key }));
    }
    assert_eq!((without("uploaded").unwrap().uploaded, without("downloaded").unwrap().downloaded), (0, 0));
    assert_eq!(without("left").unwrap().left, LEFT_UNKNOWN);
    assert_eq!(decode_query(&format!("left=-1&{base}")).unwrap().left, LEFT_UNKNOWN);
    for (key, bad) in [
        ("info_hash", "info_hash=short"),
        ("info_hash", "info_hash=%4"),
        ("info_hash", "info_hash=%zzaaaaaaaaaaaaaaaaaaa"),
        ("peer_id", "peer_id=aaaaaaaaaaaaaaaaaaaaa"),
        ("port", "port=65536"),
        ("port", "port="),
        ("left", "left=x"),
        ("uploaded", "uploaded=1e9"),
    ] {
        assert_eq!(decode_query(&format!("{bad}&{base}")), Err(QueryError::Invalid { key }), "{bad}");
    }
    assert_eq!(decode_query(&"a".repeat(2049)), Err(QueryError::TooLong { max: 2048 }));
}

#[test]
fn peers_are_read_in_three_forms() {
    let reply = decode_reply(
        b"d8:completei5e11:external ip4:\x0a\x00\x00\x0110:incompletei7e8:intervali1800e12:min intervali60e\
        5:peers12:\x7f\x00\x00\x01\x1a\xe1\x01\x02\x03\x04\x00\x50\
        6:peers618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1\
        10:tracker id2:id15:warning message4:a\x1b[me",
    )
    .unwrap();
    let expected = AnnounceReply {
        interval: Some(1800),
        min_interval: Some(60),
        tracker_id: Some(b"id".to_vec()),
        complete: Some(5),
        incomplete: Some(7),
        warning: Some("a\\x1b[m".into()),
        peers: vec![peer("127.0.0.1:6881"), peer("1.2.3.4:80"), peer("[2001:db8::1]:6881")],
        peers_skipped: 0,
        external_ip: Some("10.0.0.1".parse().unwrap()),
    };
    assert_eq!(reply, expected);

    let reply = decode_reply(
        b"d8:intervali1e5:peersld2:ip9:127.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881ee\
        d2:ip12:peer.example4:porti1eed2:ip3:::14:porti2eeee",
    )
    .unwrap();
    let named = TrackerPeer { host: PeerHost::Name("peer.example".into()), port: 1, peer_id: None };
    let with_id = TrackerPeer { peer_id: Some(PeerId([b'a'; 20])), ..peer("127.0.0.1:6881") };
    assert_eq!(reply.peers, [with_id, named, peer("[::1]:2")]);
}

#[test]
fn unusable_peers_are_skipped_and_counted() {
    let reply = decode_reply(b"d5:peers13:\x7f\x00\x00\x01\x1a\xe1\x7f\x00\x00\x01\x00\x00\xffe").unwrap();
    assert_eq!((reply.peers, reply.peers_skipped), (vec![peer("127.0.0.1:6881")], 2));
    let reply = decode_reply(
        b"d5:peersld2:ip7:1.2.3.44:porti0eed2:ip7:1.2.3.44:porti65536eed2:ip7:1.2.3.4e\
        d4:porti1eed2:ip4:a\x1b[m4:porti1eed2:ip0:4:porti1eei1e4:spamee",
    )
    .unwrap();
    assert_eq!((reply.peers.len(), reply.peers_skipped), (0, 8));
    let mapped = b"d6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x01\x02\x03\x04\0\x50e";
    assert_eq!(decode_reply(mapped).unwrap().peers, [peer("1.2.3.4:80")]);
    let many = [b"d5:peers600000:".as_slice(), &[1; 600_000], b"e"].concat();
    assert_eq!(decode_reply(&many).unwrap().peers.len(), limits::TRACKER_REPLY_PEERS_MAX);
}

#[test]
fn numbers_out_of_range_are_absent() {
    for text in ["-1", "9223372036854775808", "-99999999999999999999"] {
        let reply = decode_reply(format!("d8:completei{text}e8:intervali{text}ee").as_bytes()).unwrap();
        assert_eq!((reply.interval, reply.complete), (None, None));
    }
    let reply = decode_reply(b"d8:intervali0e5:peersi3e10:tracker idi1ee\r\n").unwrap();
    assert_eq!(reply, AnnounceReply { interval: Some(0), ..Default::default() });
    let long = format!("d5:peers0:10:tracker id501:{}e", "x".repeat(501));
    assert_eq!(decode_reply(long.as_bytes()).unwrap().tracker_id, None);
}

#[test]
fn a_refusal_is_printable_and_bounded() {
    let failure = |bytes: &[u8]| match decode_reply(bytes) {
        Err(TrackerReplyError::Failure { reason, retry_in }) => (reason, retry_in),
        other => panic!("{other:?}"),
    };
    assert_eq!(failure(b"d14:failure reason4:go\x1b!e"), ("go\\x1b!".into(), None));
    assert_eq!(failure(&encode_failure("unregistered torrent")), ("unregistered torrent".into(), None));
    assert_eq!(failure(b"d14:failure reason1:x8:retry in5:nevere").1, Some(RetryIn::Never));
    assert_eq!(failure(b"d14:failure reason1:x8:retry ini5ee").1, Some(RetryIn::Minutes(5)));
    assert_eq!(failure(b"d14:failure reason1:x8:retry in2:15e").1, Some(RetryIn::Minutes(15)));
    assert_eq!(failure(b"d14:failure reason1:x8:retry ini-5ee").1, None);
    assert_eq!(failure(b"d14:failure reasoni7ee").0, "i7e");
    let long = format!("d14:failure reason9999:{}e", "x".repeat(9999));
    assert_eq!(failure(long.as_bytes()).0.len(), limits::TRACKER_TEXT_LEN_MAX);
}

#[test]
fn bodies_that_are_no_reply_are_refused() {
    assert!(matches!(decode_reply(b"<html>"), Err(TrackerReplyError::Malformed(_))));
    assert_eq!(decode_reply(b"le"), Err(TrackerReplyError::NotDictionary(Kind::List)));
    for text in ["de", "d8:interval2:no5:peersi-1ee", "d8:completei1e6:peers6i0ee"] {
        assert_eq!(decode_reply(text.as_bytes()), Err(TrackerReplyError::Empty), "{text}");
    }
    let deep = [b"d5:peers".as_slice(), &[b'l'; 10_000]].concat();
    let error = TrackerReplyError::Malformed(BencodeError::TooDeep { offset: 15, max: 8 });
    assert_eq!(decode_reply(&deep), Err(error));
}

#[test]
fn our_replies_are_read_back_in_every_form() {
    let id = Some(PeerId([7; 20]));
    let reply = AnnounceReply {
        interval: Some(1800),
        min_interval: Some(30),
        tracker_id: Some(vec![1, 2]),
        complete: Some(1),
        incomplete: Some(2),
        warning: Some("careful".into()),
        peers: vec![TrackerPeer { peer_id: id, ..peer("1.2.3.4:5") }, peer("[2001:db8::1]:6")],
        peers_skipped: 0,
        external_ip: Some("2001:db8::2".parse().unwrap()),
    };
    let without_ids = AnnounceReply { peers: vec![peer("1.2.3.4:5"), peer("[2001:db8::1]:6")], ..reply.clone() };
    let again = |form| decode_reply(&encode_reply(&reply, form)).unwrap();
    assert_eq!(again(PeerForm::Compact), without_ids);
    assert_eq!(again(PeerForm::Dictionaries { peer_ids: true }), reply);
    assert_eq!(again(PeerForm::Dictionaries { peer_ids: false }), without_ids);
    // BEP 3 requires both keys, also in an empty swarm.
    assert_eq!(encode_reply(&AnnounceReply::default(), PeerForm::Compact), b"d8:intervali0e5:peers0:e");
}

proptest! {
    #[test]
    fn ids_of_any_bytes_survive_the_query(info_hash in any::<[u8; 20]>(), peer_id in any::<[u8; 20]>()) {
        let sent = AnnounceQuery { info_hash: InfoHash(info_hash), peer_id: PeerId(peer_id), ..query() };
        let url = sent.append_to("http://t/announce");
        prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic()));
        let read = decode_query(url.split_once('?').unwrap().1).unwrap();
        prop_assert_eq!((read.info_hash, read.peer_id), (sent.info_hash, sent.peer_id));
    }

    #[test]
    fn arbitrary_replies_are_refused_or_read_back(
        bytes in prop::collection::vec(any::<u8>(), 0..200), likely in likely_reply()
    ) {
        let peers = Value::dictionary([("peers", Value::Bytes(bytes.clone()))]).encode();
        for body in [bytes, peers, likely] {
            let Ok(mut reply) = decode_reply(&body) else { continue };
            prop_assert!(reply.peers.len() <= limits::TRACKER_REPLY_PEERS_MAX);
            prop_assert!(reply.peers.iter().all(|peer| peer.port != 0));
            reply.interval.get_or_insert(0);
            reply.peers_skipped = 0;
            // Escaped text may be longer than the bytes that were read.
            reply.warning = reply.warning.filter(|text| text.len() <= limits::TRACKER_TEXT_LEN_MAX);
            let written = encode_reply(&reply, PeerForm::Dictionaries { peer_ids: true });
            prop_assert_eq!(decode_reply(&written), Ok(reply));
        }
    }

    #[test]
    fn arbitrary_queries_are_refused_or_read_back(text in ".{0,100}", likely in likely_parameters()) {
        let _ = decode_query(&text);
        for parameters in [text, likely] {
            let whole = format!("info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=bbbbbbbbbbbbbbbbbbbb&port=1&{parameters}");
            let Ok(read) = decode_query(&whole) else { continue };
            prop_assert_eq!((read.info_hash.0, read.peer_id.0, read.port), ([b'a'; 20], [b'b'; 20], 1));
            let again = AnnounceQuery {
                info_hash: read.info_hash,
                peer_id: read.peer_id,
                ip: read.ip.as_deref(),
                port: read.port,
                uploaded: read.uploaded,
                downloaded: read.downloaded,
                left: read.left,
                event: read.event,
                numwant: read.numwant.unwrap_or(0),
                key: 0,
                tracker_id: read.tracker_id.as_deref(),
            };
            let url = again.append_to("http://t/announce");
            let again = decode_query(url.split_once('?').unwrap().1).unwrap();
            prop_assert_eq!(again.numwant, Some(read.numwant.unwrap_or(0)));
            let unwritten = OwnedAnnounceQuery {
                numwant: read.numwant, key: read.key.clone(), compact: read.compact, no_peer_id: read.no_peer_id, ..again
            };
            prop_assert_eq!(unwritten, read);
        }
    }
}

/// Known keys with values of any type.
fn likely_reply() -> impl Strategy<Value = Vec<u8>> {
    let keys =
        vec!["interval", "min interval", "complete", "peers", "peers6", "tracker id", "warning message", "external ip"];
    let value = prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(Value::Bytes),
        prop::collection::vec(likely_peer(), 0..4).prop_map(Value::List),
    ];
    prop::collection::vec((prop::sample::select(keys), value), 0..9)
        .prop_map(|entries| Value::dictionary(entries).encode())
}

fn likely_peer() -> impl Strategy<Value = Value> {
    let host = prop_oneof!["[a-z0-9._-]{0,9}", "[0-9]{1,3}\\.0\\.0\\.[0-9]{1,3}", "::[0-9a-f]{1,4}"];
    (host, -1..70_000_i64, prop::collection::vec(any::<u8>(), 19..21)).prop_map(|(host, port, id)| {
        Value::dictionary([("ip", host.as_str().into()), ("port", Value::Integer(port)), ("peer id", Value::Bytes(id))])
    })
}

/// Known parameters with nearly right values.
fn likely_parameters() -> impl Strategy<Value = String> {
    let keys =
        vec!["ip", "uploaded", "downloaded", "left", "event", "numwant", "key", "compact", "no_peer_id", "trackerid"];
    let value = prop_oneof!["-?[0-9]{1,20}", "started|completed|stopped|paused", "(%[0-9A-F]{2}|[a-z.:+]){0,9}"];
    prop::collection::vec((prop::sample::select(keys), value), 0..9).prop_map(|parameters| {
        parameters.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
    })
}
