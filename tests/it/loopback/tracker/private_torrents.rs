//! Private torrents: captures all packets that leave a host and checks their destinations. Needs root.

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
    wire_peer::{ListeningPeer, Received, WirePeer, any_peer_id},
};

const LEN: u64 = 1 << 20;
/// ICMPv6 types that the kernel sends when a link comes up (RFC 4861, RFC 3810): router solicitation, neighbor
/// solicitation and multicast report.
const LINK_IS_UP: [u8; 3] = [133, 135, 143];
/// Addresses without a listener that no tracker has named. The second belongs to no host.
const UNLISTED: [SocketAddr; 2] = [unlisted(1), unlisted(99)];

const fn unlisted(n: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, n)), 7099)
}

/// Sends every message that names peers or trackers: a DHT port (BEP 5), peer exchange (BEP 11), tracker exchange
/// (BEP 28).
fn gossip(peer: &mut WirePeer) {
    let messages = vec![(b"ut_pex".to_vec(), 2), (b"lt_tex".to_vec(), 3)];
    let handshake = ExtensionHandshake { messages, ..ExtensionHandshake::default() }.encode();
    peer.send_message(&Message::Extended { id: 0, payload: &handshake });
    peer.send_message(&Message::HaveNone);
    peer.send(&[&[0, 0, 0, 3, 9][..], &unlisted(1).port().to_be_bytes()].concat());
    let added: Vec<u8> = UNLISTED
        .iter()
        .flat_map(|unlisted| match unlisted.ip() {
            IpAddr::V4(ip) => [&ip.octets()[..], &unlisted.port().to_be_bytes()].concat(),
            IpAddr::V6(_) => unreachable!("the addresses are IPv4"),
        })
        .collect();
    let peers = dictionary([("added", string(added)), ("added.f", string([2; 2])), ("dropped", string(""))]).0;
    let trackers = UNLISTED.map(|unlisted| string(format!("udp://{unlisted}/announce")));
    let trackers = dictionary([("added", list(trackers))]).0;
    peer.send_message(&Message::Extended { id: 2, payload: &peers });
    peer.send_message(&Message::Extended { id: 3, payload: &trackers });
}

/// Starts a peer that calls [`gossip`] on each connection and keeps it open.
fn gossiping_peer(ip: Ipv4Addr, info_hash: InfoHash, piece_count: u32) -> ListeningPeer {
    ListeningPeer::start(ip, piece_count, move |mut peer| {
        if peer.receive_handshake().is_some() {
            peer.send(&Handshake { reserved: Reserved::ours(), info_hash, peer_id: any_peer_id() }.encode());
            gossip(&mut peer);
            while !matches!(peer.receive(), Received::Closed | Received::Silence) {}
        }
    })
}

/// The packets that may leave a host.
struct Allowed {
    tracker: SocketAddr,
    /// The peers that the tracker named.
    peers: BTreeSet<SocketAddr>,
    /// Sources of packets that are not bt-fast and therefore ignored.
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
                    // An answer on a connection that the peer opened.
                    || (packet.source_port == LISTEN_PORT && is_named(to))
            }
            _ => false,
        }
    }
}

/// Seeds and downloads a torrent that `create` makes with these arguments, while another peer sends [`gossip`]. Returns
/// the packets of both hosts that went neither to the tracker nor to a peer that it named.
fn unexpected_packets(arguments: &[&str]) -> Vec<Packet> {
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
        let mut peer = WirePeer::connect_with_handshake(here, info_hash, piece_count, Reserved::ours());
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

/// No packet leaves for any other destination.
#[test]
fn private_torrents_contact_only_their_tracker_and_its_peers() {
    let url = Tracker::url(NetPair::LEFT_IP);
    let unexpected = unexpected_packets(&["-p", "-a", &url]);
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

/// Control: the same capture of a public torrent with a second tracker shows packets to that tracker and to no other
/// destination.
#[test]
fn the_capture_sees_a_second_tracker_of_a_public_torrent() {
    let url = Tracker::url(NetPair::LEFT_IP);
    let dead = unlisted(1);
    let unexpected = unexpected_packets(&["-a", &format!("http://{dead}/announce"), "-a", &url]);
    let is_dead = |ip: Option<IpAddr>, port| ip == Some(dead.ip()) && port == dead.port();
    let asked = |packet: &Packet| is_dead(packet.destination, packet.destination_port);
    let refused = |packet: &Packet| is_dead(packet.source, packet.source_port);
    assert!(
        unexpected.iter().any(asked) && unexpected.iter().all(|packet| asked(packet) || refused(packet)),
        "{unexpected:#?}"
    );
}
