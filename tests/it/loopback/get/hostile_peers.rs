//! Odd and hostile peers against `get`: the file is exact in the end, and peers that break the rules are disconnected.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bt_fast::{
    base::InfoHash,
    codec::{
        handshake::{Handshake, Reserved},
        message::Message,
    },
};

use crate::loopback::{
    DEADLINE, Fixture, PIECE_LEN, event, own_ip,
    scripted_seeder::{Copy, Reply, seeder},
    warnings,
};
use crate::support::{
    process::{run, wait_until},
    wire_peer::{ListeningPeer, Received, WirePeer, any_peer_id},
};

const LEN: u64 = (1 << 20) + 5000;
const PLAIN: Reserved = Reserved([0; 8]);

fn corrupted(block: &[u8]) -> Vec<u8> {
    let mut block = block.to_vec();
    block[100] ^= 0x40;
    block
}

#[test]
fn one_wrong_block_is_forgiven() {
    let fixture = Fixture::file(LEN);
    let peer = seeder(&fixture, own_ip(), |number, _, block| {
        Reply::Block(if number == 5 { corrupted(block) } else { block.to_vec() })
    });
    let finished = fixture.get(&fixture.scratch.folder("target"), &[peer.address]);
    let complete = event(&finished.stdout, "complete").unwrap();
    assert_eq!(complete["corrupt"], PIECE_LEN);
    assert_eq!(complete["downloaded"], LEN + u64::from(PIECE_LEN));
}

#[test]
fn a_peer_that_always_corrupts_is_banned() {
    let fixture = Fixture::file(LEN);
    let bad = seeder(&fixture, own_ip(), |_, _, block| Reply::Block(corrupted(block)));
    // The honest peer waits until the corrupting one is banned.
    let bad_ended = bad.ended();
    let good = seeder(&fixture, own_ip(), move |_, _, block| {
        wait_until(Duration::from_secs(20), || bad_ended.load(Ordering::Relaxed) > 0);
        Reply::Block(block.to_vec())
    });
    let finished = fixture.get(&fixture.scratch.folder("target"), &[bad.address, good.address]);
    let banned = warnings(&finished.stderr);
    assert!(banned.len() == 1 && banned[0].contains(&format!("{} is banned", bad.address.ip())), "{finished:#?}");
    assert_eq!(bad.connections(), 1);
}

/// With all sources banned, the last line names the piece.
#[test]
fn a_piece_corrupt_at_every_source_is_named() {
    let fixture = Fixture::file(LEN);
    let corrupter = || {
        let reply = |_, (index, ..): (u32, u32, u32), block: &[u8]| {
            Reply::Block(if index == 2 { corrupted(block) } else { block.to_vec() })
        };
        seeder(&fixture, own_ip(), reply)
    };
    let corrupters = [corrupter(), corrupter(), corrupter()];
    let peers = corrupters.each_ref().map(|peer| peer.address);
    let finished = run(&fixture.get_command(&fixture.scratch.folder("target"), &peers), DEADLINE);
    assert_eq!(finished.code, Some(4), "{finished:#?}");
    let last = finished.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("piece 2 never verified (3 peers sent wrong data)"), "{finished:#?}");
}

#[test]
fn occasional_corruption_does_not_reach_the_file() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let bad = seeder(&fixture, own_ip(), |number, _, block| {
        Reply::Block(if number % 7 == 3 { corrupted(block) } else { block.to_vec() })
    });
    fixture.get(&fixture.scratch.folder("target"), &[bad.address, seed.address]);
}

/// Smart ban: only blocks of the corrupting peer differ from the verified piece, although several peers contributed.
#[test]
fn a_peer_that_corrupts_one_block_per_piece_is_named() {
    let fixture = Fixture::file_with_piece_len(8 << 20, 256 << 10);
    let slowly = |block: &[u8]| {
        std::thread::sleep(Duration::from_millis(1));
        block.to_vec()
    };
    let corrupter = seeder(&fixture, own_ip(), move |number, _, block| {
        // It is honest at first: an unproven peer would send its first piece alone and be banned for it.
        Reply::Block(if number > 20 && number % 4 == 0 { corrupted(&slowly(block)) } else { slowly(block) })
    });
    let honest: Vec<_> =
        (0..4).map(|_| seeder(&fixture, own_ip(), move |_, _, block| Reply::Block(slowly(block)))).collect();
    let peers: Vec<_> = [&corrupter].into_iter().chain(&honest).map(|peer| peer.address).collect();
    let finished = run(fixture.get_command(&fixture.scratch.folder("target"), &peers).arg("-v"), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    fixture.assert_complete(&fixture.scratch.join("target"));
    let named: Vec<_> = finished.stderr.lines().filter(|line| line.contains("was corrupted by")).collect();
    let corrupter = corrupter.address.ip().to_string();
    assert!(!named.is_empty() && named.iter().all(|line| line.ends_with(&corrupter)), "{finished:#?}");
    let banned: Vec<_> = finished.stderr.lines().filter(|line| line.contains("is banned")).collect();
    assert!(banned.len() == 1 && banned[0].contains(&corrupter), "{finished:#?}");
}

#[test]
fn a_seeder_that_sends_nothing_does_not_delay_the_download() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let silent = seeder(&fixture, own_ip(), |_, _, _| Reply::Nothing);
    fixture.get(&fixture.scratch.folder("target"), &[silent.address, seed.address]);
}

/// Starts a peer that runs `action` after the handshake and reports how the connection ends.
fn misbehaving_peer(
    fixture: &Fixture,
    action: impl Fn(&mut WirePeer) + Send + Sync + 'static,
) -> (SocketAddr, mpsc::Receiver<Received>) {
    let copy = Copy::of(fixture);
    let (sender, reported) = mpsc::channel();
    let sender = Mutex::new(sender);
    let script = move |mut peer: WirePeer| {
        if copy.open(&mut peer) {
            action(&mut peer);
            let end = loop {
                if let end @ (Received::Closed | Received::Silence) = peer.receive() {
                    break end;
                }
            };
            let _ = sender.lock().unwrap().send(end);
        }
    };
    (ListeningPeer::start(own_ip(), fixture.piece_count(), script).address, reported)
}

#[test]
fn unrequested_blocks_close_the_connection() {
    type Action = fn(&mut WirePeer);
    let actions: [(&str, Action); 4] = [
        ("off the grid", |peer| peer.send_piece(0, 1, &[7; 16 << 10])),
        ("too long", |peer| peer.send_piece(0, 0, &[7; (16 << 10) + 1])),
        ("past the end", |peer| peer.send_piece(1 << 20, 0, &[7; 16 << 10])),
        ("without end", |peer| peer.send(&[0xff; 64])),
    ];
    for (what, action) in actions {
        let fixture = Fixture::file(LEN);
        let (address, reported) = misbehaving_peer(&fixture, action);
        // The honest peer is slow, so that the download does not end before the other peer is disconnected.
        let good = seeder(&fixture, own_ip(), |_, _, block| {
            std::thread::sleep(Duration::from_millis(5));
            Reply::Block(block.to_vec())
        });
        fixture.get(&fixture.scratch.folder("target"), &[address, good.address]);
        assert_eq!(reported.recv_timeout(DEADLINE), Ok(Received::Closed), "{what}");
    }
}

#[test]
fn a_foreign_torrent_or_protocol_closes_the_connection() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let other = ListeningPeer::start(own_ip(), fixture.piece_count(), |mut peer| {
        peer.send(&Handshake { reserved: PLAIN, info_hash: InfoHash([7; 20]), peer_id: any_peer_id() }.encode());
        peer.receive_handshake();
        peer.receive_until_closed();
    });
    let web = ListeningPeer::start(own_ip(), fixture.piece_count(), |mut peer| {
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.receive_handshake();
        peer.receive_until_closed();
    });
    fixture.get(&fixture.scratch.folder("target"), &[other.address, web.address, seed.address]);
}

/// A peer without extensions chokes after every eighth block and then drops all pending requests (BEP 3).
#[test]
fn a_peer_that_chokes_repeatedly_can_complete_a_download() {
    let fixture = Fixture::file(LEN);
    let copy = Copy::of(&fixture);
    let piece_count = fixture.piece_count();
    let peer = ListeningPeer::start(own_ip(), piece_count, move |mut peer| {
        let Some(_) = peer.receive_handshake() else { return };
        peer.send(&Handshake { reserved: PLAIN, info_hash: copy.info_hash, peer_id: any_peer_id() }.encode());
        (0..piece_count).for_each(|index| peer.send_message(&Message::Have { index }));
        peer.receive_until(|received| *received == Received::Interested);
        let mut sent = 0;
        peer.send_message(&Message::Unchoke);
        loop {
            match peer.receive() {
                Received::Request { index, begin, length } => {
                    peer.send_piece(index, begin, copy.block(index, begin, length));
                    sent += 1;
                    if sent % 8 == 0 {
                        peer.send_message(&Message::Choke);
                        peer.set_timeout(Duration::from_millis(100));
                        while matches!(peer.receive(), Received::Request { .. }) {}
                        peer.set_timeout(DEADLINE);
                        peer.send_message(&Message::Unchoke);
                    }
                }
                Received::Closed | Received::Silence => return,
                _ => {}
            }
        }
    });
    let finished = fixture.get(&fixture.scratch.folder("target"), &[peer.address]);
    assert_eq!(event(&finished.stdout, "complete").unwrap()["downloaded"], LEN);
}

#[test]
fn interest_follows_the_pieces_of_a_peer() {
    let fixture = Fixture::file(LEN);
    let copy = Copy::of(&fixture);
    let (sender, reported) = mpsc::channel();
    let sender = Mutex::new(sender);
    let bitfield_len = fixture.piece_count().div_ceil(8) as usize;
    let served = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let peer = ListeningPeer::start(own_ip(), fixture.piece_count(), move |mut peer| {
        let Some(_) = peer.receive_handshake() else { return };
        peer.send(&Handshake { reserved: PLAIN, info_hash: copy.info_hash, peer_id: any_peer_id() }.encode());
        // The peer has no piece at first, then announces pieces 3 and 4 in turn.
        peer.send_message(&Message::Bitfield(&vec![0; bitfield_len]));
        let mut received = Vec::new();
        for piece in [3, 4] {
            peer.send_message(&Message::Have { index: piece });
            peer.send_message(&Message::Unchoke);
            loop {
                match peer.receive() {
                    Received::Request { index, begin, length } => {
                        assert_eq!(index, piece);
                        peer.send_piece(index, begin, copy.block(index, begin, length));
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    Received::Have(_) | Received::Other | Received::HaveNone => {}
                    other => received.push(other.clone()),
                }
                if matches!(
                    received.last(),
                    None | Some(Received::NotInterested | Received::Closed | Received::Silence)
                ) && !received.is_empty()
                {
                    break;
                }
            }
        }
        let _ = sender.lock().unwrap().send(received);
    });
    let target = fixture.scratch.folder("target");
    let command = fixture.get_command(&target, &[peer.address]);
    let mut get = crate::support::process::Running::start("get", &command, &fixture.scratch.join("get.log"));
    let received = reported.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{error}\n{}", get.log_tail()));
    let expected = [Received::Interested, Received::NotInterested, Received::Interested, Received::NotInterested];
    assert_eq!(received, expected);
    assert_eq!(served.load(Ordering::Relaxed), 4);
}

#[test]
fn a_disconnect_within_a_block_loses_only_that_block() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let copy = Copy::of(&fixture);
    let peer = ListeningPeer::start(own_ip(), fixture.piece_count(), move |mut peer| {
        if copy.open(&mut peer) {
            peer.receive_until(|received| matches!(received, Received::Request { .. } | Received::Closed));
            peer.send(&[&[0, 0, 0x40, 9, 7][..], &[0; 8], &[1; 5000]].concat());
        }
    });
    fixture.get(&fixture.scratch.folder("target"), &[peer.address, seed.address]);
}

#[test]
fn a_download_completes_byte_by_byte() {
    let fixture = Fixture::file(40_000);
    let copy = Copy::of(&fixture);
    let peer = ListeningPeer::start(own_ip(), fixture.piece_count(), move |mut peer| {
        let one_by_one = |peer: &mut WirePeer, bytes: &[u8]| bytes.iter().for_each(|byte| peer.send(&[*byte]));
        let Some(_) = peer.receive_handshake() else { return };
        let ours = Handshake { reserved: Reserved::ours(), info_hash: copy.info_hash, peer_id: any_peer_id() };
        one_by_one(&mut peer, &ours.encode());
        let mut opening = Vec::new();
        [Message::HaveAll, Message::Unchoke].iter().for_each(|message| message.encode(&mut opening));
        one_by_one(&mut peer, &opening);
        loop {
            match peer.receive() {
                Received::Request { index, begin, length } => {
                    let head = bt_fast::codec::message::encode_piece_head(index, begin, length);
                    one_by_one(&mut peer, &[&head, copy.block(index, begin, length)].concat());
                }
                Received::Closed | Received::Silence => return,
                _ => {}
            }
        }
    });
    fixture.get(&fixture.scratch.folder("target"), &[peer.address]);
}

#[test]
fn a_lost_peer_is_reconnected() {
    let fixture = Fixture::file(LEN);
    let copy = Copy::of(&fixture);
    let visits = AtomicUsize::new(0);
    let peer = ListeningPeer::start(own_ip(), fixture.piece_count(), move |mut peer| {
        let limit = if visits.fetch_add(1, Ordering::Relaxed) == 0 { 20 } else { usize::MAX };
        let mut sent = 0;
        if !copy.open(&mut peer) {
            return;
        }
        while sent < limit {
            match peer.receive() {
                Received::Request { index, begin, length } => {
                    peer.send_piece(index, begin, copy.block(index, begin, length));
                    sent += 1;
                }
                Received::Closed | Received::Silence => return,
                _ => {}
            }
        }
    });
    fixture.get(&fixture.scratch.folder("target"), &[peer.address]);
    assert_eq!(peer.connections(), 2);
}

/// The seeder is fast for 32 MiB, so that `get` receives large batches; then it sends only a choke and a few rejects.
#[test]
fn a_choke_from_a_fast_seeder_is_processed() {
    let fixture = Fixture::file(48 << 20);
    let copy = Copy::of(&fixture);
    let served = AtomicUsize::new(0);
    let seeder = ListeningPeer::start(own_ip(), fixture.piece_count(), move |mut peer| {
        if !copy.open(&mut peer) {
            return;
        }
        loop {
            match peer.receive() {
                Received::Request { index, begin, length } if served.load(Ordering::Relaxed) == 2048 => {
                    // Let the download receive all blocks first.
                    std::thread::sleep(Duration::from_millis(100));
                    peer.send_message(&Message::Choke);
                    peer.send_message(&Message::Reject { index, begin, length });
                    peer.set_timeout(Duration::from_millis(100));
                    loop {
                        match peer.receive() {
                            Received::Request { index, begin, length } => {
                                peer.send_message(&Message::Reject { index, begin, length });
                            }
                            Received::Silence => break,
                            _ => {}
                        }
                    }
                    peer.set_timeout(DEADLINE);
                    peer.send_message(&Message::Unchoke);
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Received::Request { index, begin, length } => {
                    served.fetch_add(1, Ordering::Relaxed);
                    peer.send_piece(index, begin, copy.block(index, begin, length));
                }
                Received::Closed | Received::Silence => return,
                _ => {}
            }
        }
    });
    let finished = fixture.get(&fixture.scratch.folder("target"), &[seeder.address]);
    assert!(event(&finished.stdout, "complete").unwrap()["seconds"].as_f64().unwrap() < 20.0, "{finished:#?}");
}
