//! Which packets leave a host, all of them captured. Needs root.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use bt_fast::{
    base::InfoHash,
    codec::{
        extension::ExtensionHandshake,
        handshake::{Handshake, Reserved},
        message::Message,
        metainfo::{Metainfo, MetainfoLimits},
    },
};

use crate::loopback::{DEADLINE, Fixture, LISTEN_PORT, NAME, Seed, exit_code};
use crate::support::{
    bencode::{dictionary, list, string},
    bt_fast,
    capture::{Capture, Packet},
    http_client,
    net::NetPair,
    process::{Running, run},
    tracker::Tracker,
    wire_peer::{Heard, ListeningPeer, WirePeer, any_peer_id},
};

const LEN: u64 = 1 << 20;
/// ICMPv6 with which a kernel says that its link has come up (RFC 4861, RFC 3810): router and neighbour solicitation, report.
const LINK_IS_UP: [u8; 3] = [133, 135, 143];
/// Where nobody listens: one at an address that nobody has.
const STRANGERS: [SocketAddr; 2] = [stranger(1), stranger(99)];

const fn stranger(n: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, n)), 7099)
}

/// Everything by which clients hear of others without a tracker of their own: a DHT node (BEP 5), peers (BEP 11), trackers
/// (BEP 28).
fn gossip(peer: &mut WirePeer) {
    let messages = vec![(b"ut_pex".to_vec(), 2), (b"lt_tex".to_vec(), 3)];
    let handshake = ExtensionHandshake { messages, ..ExtensionHandshake::default() }.encode();
    peer.say(&Message::Extended { id: 0, payload: &handshake });
    peer.say(&Message::HaveNone);
    peer.send(&[&[0, 0, 0, 3, 9][..], &stranger(1).port().to_be_bytes()].concat());
    let added: Vec<u8> = STRANGERS
        .iter()
        .flat_map(|stranger| match stranger.ip() {
            IpAddr::V4(ip) => [&ip.octets()[..], &stranger.port().to_be_bytes()].concat(),
            IpAddr::V6(_) => unreachable!("they are of IPv4"),
        })
        .collect();
    let peers = dictionary([("added", string(added)), ("added.f", string([2; 2])), ("dropped", string(""))]).0;
    let trackers = STRANGERS.map(|stranger| string(format!("udp://{stranger}/announce")));
    let trackers = dictionary([("added", list(trackers))]).0;
    peer.say(&Message::Extended { id: 2, payload: &peers });
    peer.say(&Message::Extended { id: 3, payload: &trackers });
}

/// A peer that gossips with whoever connects to it, and stays.
fn gossiping_peer(ip: Ipv4Addr, info_hash: InfoHash, piece_count: u32) -> ListeningPeer {
    ListeningPeer::start(ip, piece_count, move |mut peer| {
        if peer.hear_handshake().is_some() {
            peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id: any_peer_id() }.encode());
            gossip(&mut peer);
            while !matches!(peer.hear(), Heard::Closed | Heard::Silence) {}
        }
    })
}

/// What may leave.
struct Allowed {
    tracker: SocketAddr,
    /// Whom the tracker named.
    peers: BTreeSet<SocketAddr>,
    /// Who is not bt-fast: what it sends is its own affair.
    others: [SocketAddr; 2],
}

impl Allowed {
    fn allows(&self, packet: &Packet) -> bool {
        let Some(to) = packet.destination else { return false };
        let source = packet.source.map(|ip| SocketAddr::new(ip, packet.source_port));
        let destination = SocketAddr::new(to, packet.destination_port);
        let is_named = |ip| self.tracker.ip() == ip || self.peers.iter().any(|peer| peer.ip() == ip);
        match packet.protocol.as_str() {
            "arp" => is_named(to),
            "icmpv6" => LINK_IS_UP.contains(&packet.icmp_type) && matches!(to, IpAddr::V6(to) if to.is_multicast()),
            "tcp" => {
                source.is_some_and(|source| self.others.contains(&source))
                    || destination == self.tracker
                    || self.peers.contains(&destination)
                    // An answer to a peer that connected to us.
                    || (packet.source_port == LISTEN_PORT && is_named(to))
            }
            _ => false,
        }
    }
}

/// Seeds and gets a torrent that `create` makes with these arguments, with a peer beside them that gossips: every packet of
/// both hosts that neither the tracker nor a peer that it named was sent.
fn strange_packets(arguments: &[&str]) -> Vec<Packet> {
    let mut fixture = Fixture::file(LEN);
    fixture.torrent = fixture.scratch.join("with trackers.torrent");
    let mut create = bt_fast();
    create.args(["create", "-l", "32K"]).args(arguments).arg("-o").arg(&fixture.torrent);
    run(create.arg(fixture.source.join(NAME)), DEADLINE).success();
    fixture.metainfo = Metainfo::decode(&fs::read(&fixture.torrent).unwrap(), &MetainfoLimits::default()).unwrap();
    let (info_hash, piece_count) = (fixture.metainfo.info_hash, fixture.piece_count());

    let net = NetPair::new();
    let [here, there]: [SocketAddr; 2] = [&net.left, &net.right].map(|host| (host.ip, LISTEN_PORT).into());
    let tracker = Tracker::start(&net.left, fixture.scratch.path());
    let tracker_address: SocketAddr = Tracker::address(net.left.ip);
    let gossips = net.right.inside(|| {
        let peer = gossiping_peer(net.right.ip, info_hash, piece_count);
        let escaped: String = info_hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
        let announce = format!("/announce?info_hash={escaped}&port={}&left=1", peer.address.port());
        assert_eq!(http_client::get(tracker_address, &announce, "").status, 200);
        peer
    });
    net.add_default_routes();
    let captures = [&net.left, &net.right].map(|host| Capture::start(host, fixture.scratch.path()));

    let seed = Seed::start(&net.left.command(&fixture.seed_command(here)), here, &fixture.scratch.join("seed.log"));
    let visitor = net.right.inside(|| {
        let mut peer = WirePeer::greet(here, info_hash, piece_count, Reserved::ours());
        gossip(&mut peer);
        peer
    });
    let target = fixture.scratch.folder("target");
    let mut get = bt_fast();
    get.arg("get").arg(&fixture.torrent).arg("-o").arg(&target).args(["--down", "1M", "--listen", &there.to_string()]);
    let mut get = Running::start("get", &net.right.command(&get), &fixture.scratch.join("get.log"));
    assert_eq!(exit_code(&mut get, DEADLINE), Some(0), "{}", get.log_tail());
    fixture.assert_complete(&target);
    assert!(gossips.connections() > 0);
    drop(visitor);
    seed.stop();

    let named = tracker.announces();
    let named = named.iter().map(|announce| {
        let text = |key: &str| announce[key].as_str().unwrap();
        SocketAddr::new(text("ip").parse().unwrap(), text("port").parse().unwrap())
    });
    let allowed =
        Allowed { tracker: tracker_address, peers: named.collect(), others: [tracker_address, gossips.address] };
    assert_eq!(allowed.peers, BTreeSet::from([here, there, gossips.address]));
    let packets: Vec<Packet> = captures.into_iter().flat_map(Capture::stop).collect();
    let went_to =
        |to| packets.iter().any(|packet| SocketAddr::new(packet.destination.unwrap(), packet.destination_port) == to);
    assert!(went_to(tracker_address) && went_to(here) && went_to(gossips.address), "{packets:#?}");
    packets.into_iter().filter(|packet| !allowed.allows(packet)).collect()
}

/// M11
#[test]
fn private_torrents_contact_only_their_tracker_and_its_peers() {
    let url = Tracker::url(NetPair::LEFT_IP);
    let strange = strange_packets(&["-p", "-a", &url]);
    assert!(strange.is_empty(), "{strange:#?}");
}

/// The same eyes on a torrent with one more tracker see that it is asked, as nothing else is.
#[test]
fn the_capture_sees_a_second_tracker_of_a_public_torrent() {
    let url = Tracker::url(NetPair::LEFT_IP);
    let dead = stranger(1);
    let strange = strange_packets(&["-a", &format!("http://{dead}/announce"), "-a", &url]);
    let is_dead = |ip: Option<IpAddr>, port| ip == Some(dead.ip()) && port == dead.port();
    let asked = |packet: &Packet| is_dead(packet.destination, packet.destination_port);
    let refused = |packet: &Packet| is_dead(packet.source, packet.source_port);
    assert!(strange.iter().any(asked) && strange.iter().all(|packet| asked(packet) || refused(packet)), "{strange:#?}");
}
