//! Odd and hostile peers against `get`: the file is exact in the end, and whoever breaks the rules is gone.

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
    wire_peer::{Heard, ListeningPeer, WirePeer, any_peer_id},
};

const LEN: u64 = (1 << 20) + 5000;
const PLAIN: Reserved = Reserved([0; 8]);

fn spoiled(block: &[u8]) -> Vec<u8> {
    let mut block = block.to_vec();
    block[100] ^= 0x40;
    block
}

#[test]
fn one_wrong_block_is_forgiven() {
    let fixture = Fixture::file(LEN);
    let peer = seeder(&fixture, own_ip(), |number, _, block| {
        Reply::Block(if number == 5 { spoiled(block) } else { block.to_vec() })
    });
    let finished = fixture.get(&fixture.scratch.folder("target"), &[peer.address]);
    let complete = event(&finished.stdout, "complete").unwrap();
    assert_eq!(complete["corrupt"], PIECE_LEN);
    assert_eq!(complete["downloaded"], LEN + u64::from(PIECE_LEN));
}

#[test]
fn a_peer_that_always_corrupts_is_banned() {
    let fixture = Fixture::file(LEN);
    let bad = seeder(&fixture, own_ip(), |_, _, block| Reply::Block(spoiled(block)));
    // The honest one waits until the other has shown what it is.
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

/// Nobody is left to ask: the last line names the piece.
#[test]
fn a_piece_corrupt_at_every_source_is_named() {
    let fixture = Fixture::file(LEN);
    let liar = || {
        let reply = |_, (index, ..): (u32, u32, u32), block: &[u8]| {
            Reply::Block(if index == 2 { spoiled(block) } else { block.to_vec() })
        };
        seeder(&fixture, own_ip(), reply)
    };
    let liars = [liar(), liar(), liar()];
    let peers = liars.each_ref().map(|peer| peer.address);
    let finished = run(&fixture.get_command(&fixture.scratch.folder("target"), &peers), DEADLINE);
    assert_eq!(finished.code, Some(4), "{finished:#?}");
    let last = finished.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("piece 2 never verified (3 peers sent it wrong)"), "{finished:#?}");
}

#[test]
fn occasional_corruption_does_not_reach_the_file() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let bad = seeder(&fixture, own_ip(), |number, _, block| {
        Reply::Block(if number % 7 == 3 { spoiled(block) } else { block.to_vec() })
    });
    fixture.get(&fixture.scratch.folder("target"), &[bad.address, seed.address]);
}

/// Its blocks alone differ once the pieces are right, however many had a part in them.
#[test]
fn a_peer_that_corrupts_one_block_per_piece_is_named() {
    let fixture = Fixture::file_with_piece_len(8 << 20, 256 << 10);
    let slowly = |block: &[u8]| {
        std::thread::sleep(Duration::from_millis(1));
        block.to_vec()
    };
    let liar = seeder(&fixture, own_ip(), move |number, _, block| {
        // At first it is like the others: a stranger would be banned for the first piece, which it sends alone.
        Reply::Block(if number > 20 && number % 4 == 0 { spoiled(&slowly(block)) } else { slowly(block) })
    });
    let honest: Vec<_> =
        (0..4).map(|_| seeder(&fixture, own_ip(), move |_, _, block| Reply::Block(slowly(block)))).collect();
    let peers: Vec<_> = [&liar].into_iter().chain(&honest).map(|peer| peer.address).collect();
    let finished = run(fixture.get_command(&fixture.scratch.folder("target"), &peers).arg("-v"), DEADLINE);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    fixture.assert_complete(&fixture.scratch.join("target"));
    let named: Vec<_> = finished.stderr.lines().filter(|line| line.contains("had been spoilt by")).collect();
    let liar = liar.address.ip().to_string();
    assert!(!named.is_empty() && named.iter().all(|line| line.ends_with(&liar)), "{finished:#?}");
    let banned: Vec<_> = finished.stderr.lines().filter(|line| line.contains("is banned")).collect();
    assert!(banned.len() == 1 && banned[0].contains(&liar), "{finished:#?}");
}

#[test]
fn a_seeder_that_sends_nothing_does_not_delay_the_download() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let liar = seeder(&fixture, own_ip(), |_, _, _| Reply::Nothing);
    fixture.get(&fixture.scratch.folder("target"), &[liar.address, seed.address]);
}

/// A seeder that, after the handshake, does one thing and listens for what follows.
fn misfit(
    fixture: &Fixture,
    deed: impl Fn(&mut WirePeer) + Send + Sync + 'static,
) -> (SocketAddr, mpsc::Receiver<Heard>) {
    let copy = Copy::of(fixture);
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let script = move |mut peer: WirePeer| {
        if copy.open(&mut peer) {
            deed(&mut peer);
            let end = loop {
                if let end @ (Heard::Closed | Heard::Silence) = peer.hear() {
                    break end;
                }
            };
            let _ = tell.lock().unwrap().send(end);
        }
    };
    (ListeningPeer::start(own_ip(), fixture.piece_count(), script).address, told)
}

#[test]
fn unrequested_blocks_close_the_connection() {
    type Deed = fn(&mut WirePeer);
    let deeds: [(&str, Deed); 4] = [
        ("off the grid", |peer| peer.send_piece(0, 1, &[7; 16 << 10])),
        ("too long", |peer| peer.send_piece(0, 0, &[7; (16 << 10) + 1])),
        ("past the end", |peer| peer.send_piece(1 << 20, 0, &[7; 16 << 10])),
        ("without end", |peer| peer.send(&[0xff; 64])),
    ];
    for (what, deed) in deeds {
        let fixture = Fixture::file(LEN);
        let (address, told) = misfit(&fixture, deed);
        // The honest one is slow, so that the other is still there to be dropped.
        let good = seeder(&fixture, own_ip(), |_, _, block| {
            std::thread::sleep(Duration::from_millis(5));
            Reply::Block(block.to_vec())
        });
        fixture.get(&fixture.scratch.folder("target"), &[address, good.address]);
        assert_eq!(told.recv_timeout(DEADLINE), Ok(Heard::Closed), "{what}");
    }
}

#[test]
fn a_foreign_torrent_or_protocol_closes_the_connection() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let other = ListeningPeer::start(own_ip(), fixture.piece_count(), |mut peer| {
        peer.send(&Handshake { reserved: PLAIN, info_hash: InfoHash([7; 20]), peer_id: any_peer_id() }.encode());
        peer.hear_handshake();
        peer.hear_close();
    });
    let web = ListeningPeer::start(own_ip(), fixture.piece_count(), |mut peer| {
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.hear_handshake();
        peer.hear_close();
    });
    fixture.get(&fixture.scratch.folder("target"), &[other.address, web.address, seed.address]);
}

/// A peer without extensions that chokes after every eighth block, and forgets what it was asked then, as BEP 3 has it.
#[test]
fn a_peer_that_chokes_repeatedly_can_complete_a_download() {
    let fixture = Fixture::file(LEN);
    let copy = Copy::of(&fixture);
    let piece_count = fixture.piece_count();
    let peer = ListeningPeer::start(own_ip(), piece_count, move |mut peer| {
        let Some(_) = peer.hear_handshake() else { return };
        peer.send(&Handshake { reserved: PLAIN, info_hash: copy.info_hash, peer_id: any_peer_id() }.encode());
        (0..piece_count).for_each(|index| peer.say(&Message::Have { index }));
        peer.hear_until(|heard| *heard == Heard::Interested);
        let mut sent = 0;
        peer.say(&Message::Unchoke);
        loop {
            match peer.hear() {
                Heard::Request { index, begin, length } => {
                    peer.send_piece(index, begin, copy.block(index, begin, length));
                    sent += 1;
                    if sent % 8 == 0 {
                        peer.say(&Message::Choke);
                        peer.set_patience(Duration::from_millis(100));
                        while matches!(peer.hear(), Heard::Request { .. }) {}
                        peer.set_patience(DEADLINE);
                        peer.say(&Message::Unchoke);
                    }
                }
                Heard::Closed | Heard::Silence => return,
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
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let bitfield_len = fixture.piece_count().div_ceil(8) as usize;
    let served = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let peer = ListeningPeer::start(own_ip(), fixture.piece_count(), move |mut peer| {
        let Some(_) = peer.hear_handshake() else { return };
        peer.send(&Handshake { reserved: PLAIN, info_hash: copy.info_hash, peer_id: any_peer_id() }.encode());
        // Nothing at first, then pieces 3 and 4, one after the other.
        peer.say(&Message::Bitfield(&vec![0; bitfield_len]));
        let mut heard = Vec::new();
        for piece in [3, 4] {
            peer.say(&Message::Have { index: piece });
            peer.say(&Message::Unchoke);
            loop {
                match peer.hear() {
                    Heard::Request { index, begin, length } => {
                        assert_eq!(index, piece);
                        peer.send_piece(index, begin, copy.block(index, begin, length));
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                    Heard::Have(_) | Heard::Other | Heard::HaveNone => {}
                    other => heard.push(other.clone()),
                }
                if matches!(heard.last(), None | Some(Heard::NotInterested | Heard::Closed | Heard::Silence))
                    && !heard.is_empty()
                {
                    break;
                }
            }
        }
        let _ = tell.lock().unwrap().send(heard);
    });
    let target = fixture.scratch.folder("target");
    let command = fixture.get_command(&target, &[peer.address]);
    let mut get = crate::support::process::Running::start("get", &command, &fixture.scratch.join("get.log"));
    let heard = told.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{error}\n{}", get.log_tail()));
    let expected = [Heard::Interested, Heard::NotInterested, Heard::Interested, Heard::NotInterested];
    assert_eq!(heard, expected);
    assert_eq!(served.load(Ordering::Relaxed), 4);
}

#[test]
fn a_disconnect_within_a_block_loses_only_that_block() {
    let fixture = Fixture::file(LEN);
    let seed = fixture.seed();
    let copy = Copy::of(&fixture);
    let peer = ListeningPeer::start(own_ip(), fixture.piece_count(), move |mut peer| {
        if copy.open(&mut peer) {
            peer.hear_until(|heard| matches!(heard, Heard::Request { .. } | Heard::Closed));
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
        let Some(_) = peer.hear_handshake() else { return };
        let ours = Handshake { reserved: Reserved::ours(), info_hash: copy.info_hash, peer_id: any_peer_id() };
        one_by_one(&mut peer, &ours.encode());
        let mut opening = Vec::new();
        [Message::HaveAll, Message::Unchoke].iter().for_each(|message| message.encode(&mut opening));
        one_by_one(&mut peer, &opening);
        loop {
            match peer.hear() {
                Heard::Request { index, begin, length } => {
                    let head = bt_fast::codec::message::encode_piece_head(index, begin, length);
                    one_by_one(&mut peer, &[&head, copy.block(index, begin, length)].concat());
                }
                Heard::Closed | Heard::Silence => return,
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
            match peer.hear() {
                Heard::Request { index, begin, length } => {
                    peer.send_piece(index, begin, copy.block(index, begin, length));
                    sent += 1;
                }
                Heard::Closed | Heard::Silence => return,
                _ => {}
            }
        }
    });
    fixture.get(&fixture.scratch.folder("target"), &[peer.address]);
    assert_eq!(peer.connections(), 2);
}

/// Fast for 32 MiB, so that little bytes need not be waited for; then a few of them say all.
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
            match peer.hear() {
                Heard::Request { index, begin, length } if served.load(Ordering::Relaxed) == 2048 => {
                    // All that came before has been received.
                    std::thread::sleep(Duration::from_millis(100));
                    peer.say(&Message::Choke);
                    peer.say(&Message::Reject { index, begin, length });
                    peer.set_patience(Duration::from_millis(100));
                    loop {
                        match peer.hear() {
                            Heard::Request { index, begin, length } => {
                                peer.say(&Message::Reject { index, begin, length });
                            }
                            Heard::Silence => break,
                            _ => {}
                        }
                    }
                    peer.set_patience(DEADLINE);
                    peer.say(&Message::Unchoke);
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Heard::Request { index, begin, length } => {
                    served.fetch_add(1, Ordering::Relaxed);
                    peer.send_piece(index, begin, copy.block(index, begin, length));
                }
                Heard::Closed | Heard::Silence => return,
                _ => {}
            }
        }
    });
    let finished = fixture.get(&fixture.scratch.folder("target"), &[seeder.address]);
    assert!(event(&finished.stdout, "complete").unwrap()["seconds"].as_f64().unwrap() < 20.0, "{finished:#?}");
}
