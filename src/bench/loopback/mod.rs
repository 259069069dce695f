//! `bench loopback`: creates, tracks, seeds, downloads and verifies random content on this machine, and compares with
//! the bare pair.
//!
//! `seed` and each `get` are processes, as users run them, so that the processor time of each side is measured
//! separately.

mod figures;
mod settings;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;
use std::{fs, io};

use serde_json::Value;

pub use figures::{CpuKinds, CpuTime, Figures, FloorShare, Side};
use figures::{Ended, Round};
use settings::write_flag;
pub use settings::{Medium, Settings};

use super::at_most::Probe;
use super::content::write_random;
use super::floor::{direct_write_rate, memory_copy_rate};
use super::pair::{FileMode, PairFigures, PairSettings, Work, pair};
use super::process::Running;
use super::{BenchError, io_error};
use crate::codec::metainfo::{Attributes, Draft, DraftFiles, FileEntry, Metainfo, MetainfoLimits};
use crate::create::{Control, Plan, piece_len, verify};
use crate::engine::WriteMode;
use crate::hash::sha1_batch;
use crate::io::{Driver, event_loop};
use crate::tracker::Table;
use crate::web::listener::{self, Bounds};
use crate::web::tracker::{Tracker, http};

/// Interval of progress records, as `--json-interval` takes it: the shortest one.
pub(in crate::bench) const RECORD_INTERVAL: &str = "50ms";

/// Maximum number of bytes to write when the disk is measured.
const PROBE_LEN_MAX: u64 = 256 << 20;

/// Runs every round with each driver in turn. Returns the figures of each. `phase` is called with a description of each
/// step.
pub fn run(settings: &Settings, phase: &mut dyn FnMut(&str)) -> Result<Vec<Figures>, BenchError> {
    let from = settings.folder.join("seed");
    fs::create_dir(&from).map_err(io_error("make a folder"))?;
    let tracker = start_tracker().map_err(io_error("start the tracker"))?;
    let tiers = vec![vec![tracker]];
    let torrent = settings.folder.join("content.torrent");
    let create_s = if settings.to == Medium::Nowhere {
        phase("hashing");
        fs::write(&torrent, null_torrent(settings, tiers)).map_err(io_error("write the torrent"))?;
        None
    } else {
        phase("making content");
        let content = from.join("content.bin");
        write_random(&content, settings.len, settings.len).map_err(io_error("make content"))?;
        phase("creating");
        Some(create(&content, &torrent, settings, tiers)?)
    };
    let metainfo = fs::read(&torrent).map_err(io_error("read the torrent"))?;
    let Ok(metainfo) = Metainfo::decode(&metainfo, &MetainfoLimits::default()) else {
        return Err(BenchError::Differs);
    };

    let mut rounds: Vec<(Driver, Vec<Round>)> = settings.drivers.iter().map(|&driver| (driver, Vec::new())).collect();
    for number in 1..=settings.rounds {
        let mut say = |what: &str| phase(&format!("round {number} of {}: {what}", settings.rounds));
        let floor = if settings.with_floor {
            say("bare pair");
            Some(bare_pair(settings, metainfo.info.geometry.piece_len())?)
        } else {
            None
        };
        let probe = if settings.with_floor { probe(settings)? } else { Probe::default() };
        for (driver, rounds) in &mut rounds {
            say(&format!("transferring ({})", driver.name()));
            let to = settings.folder.join("get");
            fs::create_dir(&to).map_err(io_error("make a folder"))?;
            let mut round = transfer(settings, *driver, &torrent, &from, &to)?;
            if settings.to != Medium::Nowhere {
                say("verifying");
                round.verify_s = Some(verify_all(&metainfo, settings, &to)?);
            }
            rounds.push(Round { floor, probe, ..round });
            fs::remove_dir_all(&to).map_err(io_error("remove the received files"))?;
        }
    }
    let piece_len = metainfo.info.geometry.piece_len();
    let figures = |(driver, rounds)| Figures::of(settings, driver, piece_len, create_s, rounds);
    Ok(rounds.into_iter().map(figures).collect())
}

/// Verifies the download of every peer. Returns the seconds that it took.
fn verify_all(metainfo: &Metainfo, settings: &Settings, to: &Path) -> Result<f64, BenchError> {
    let started = Instant::now();
    for peer in 0..settings.peer_count {
        let control = Control { cancel: &AtomicBool::new(false), progress: &|_| () };
        if !verify(&metainfo.info, &folder_of(to, peer), None, control)?.is_match() {
            return Err(BenchError::Differs);
        }
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Runs the bare pair with the same number of bytes, written in the same way.
fn bare_pair(settings: &Settings, piece_len: u32) -> Result<PairFigures, BenchError> {
    let path = settings.folder.join("pair.bin");
    let work = match settings.to {
        Medium::Nowhere => Work::Hash,
        _ => {
            let is_buffered = settings.write == WriteMode::Buffered;
            let mode = if is_buffered { FileMode::Buffered } else { FileMode::Direct };
            Work::Write { path: path.clone(), mode }
        }
    };
    let len = settings.len * settings.peer_count as u64;
    let figures = pair(&PairSettings { len, piece_len, work, hash_kernel: settings.hash_kernel })?;
    if settings.to != Medium::Nowhere {
        fs::remove_file(path).map_err(io_error("remove the written file"))?;
    }
    Ok(figures)
}

/// Measures the disk, if the downloads wait for it, and memory.
fn probe(settings: &Settings) -> Result<Probe, BenchError> {
    let path = settings.folder.join("probe.bin");
    let disk = settings.waits_for_disk().then(|| direct_write_rate(&path, settings.len.min(PROBE_LEN_MAX)));
    Ok(Probe { disk: disk.transpose()?, memory: Some(memory_copy_rate()?) })
}

fn folder_of(to: &Path, peer: usize) -> PathBuf {
    to.join(peer.to_string())
}

/// Seconds since the start, a peer, and the bytes that it had by then.
type Progress = (f64, usize, u64);

fn transfer(settings: &Settings, driver: Driver, torrent: &Path, from: &Path, to: &Path) -> Result<Round, BenchError> {
    let mut flags: Vec<OsString> = ["--verify", "none", "--data"].map(Into::into).into();
    flags.push(from.into());
    flags.extend(["--io", driver.name()].map(OsString::from));
    flags.extend_from_slice(&settings.seed_flags);
    let mut seed = start("seed", torrent, &flags, settings)?;
    seed.wait_for("seeding", &mut |_| ())?;
    let started = Instant::now();
    let mut gets = Vec::new();
    for peer in 0..settings.peer_count {
        let mut flags: Vec<OsString> = vec!["-o".into(), folder_of(to, peer).into()];
        flags.extend(["--write", write_flag(settings.write), "--json-interval", RECORD_INTERVAL].map(OsString::from));
        flags.extend(["--io", driver.name()].map(OsString::from));
        flags.extend_from_slice(&settings.get_flags);
        gets.push(start("get", torrent, &flags, settings)?);
    }
    let progress = Mutex::new(Vec::new());
    let note = |peer: usize, done: Option<u64>| {
        if let (Some(done), Ok(mut progress)) = (done, progress.lock()) {
            progress.push((started.elapsed().as_secs_f64(), peer, done));
        }
    };
    let watch = |peer: usize, mut get: Running| {
        let done = |record: &Value| record.get("bytes_done").and_then(Value::as_u64);
        let complete = get.wait_for("complete", &mut |record| note(peer, done(record)))?;
        note(peer, Some(settings.len));
        get.wait()?;
        Ok((started.elapsed().as_secs_f64(), Ended::of(&complete).with_system_calls(get.system_calls())))
    };
    let ends: Vec<Result<(f64, Ended), BenchError>> = thread::scope(|scope| {
        let watch = &watch;
        let threads: Vec<_> =
            gets.into_iter().enumerate().map(|(peer, get)| scope.spawn(move || watch(peer, get))).collect();
        let panicked = |_| Err(BenchError::Ended { side: "get", line: "its reader panicked".into() });
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let (peer_s, got): (Vec<f64>, Vec<Ended>) = ends.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let sent = Ended::of(&seed.stop("stopped")?).with_system_calls(seed.system_calls());
    let progress: Vec<Progress> = progress.into_inner().unwrap_or_default();
    Ok(Round {
        progress: total(progress, settings.peer_count),
        peer_s,
        sent,
        got,
        verify_s: None,
        floor: None,
        probe: Probe::default(),
    })
}

/// Sums the progress of all peers.
fn total(mut progress: Vec<Progress>, peer_count: usize) -> Vec<(f64, u64)> {
    let mut done = vec![0; peer_count];
    let sum = |(at, peer, bytes): Progress| {
        if let Some(done) = done.get_mut(peer) {
            *done = bytes;
        }
        (at, done.iter().sum())
    };
    progress.sort_by(|a, b| a.0.total_cmp(&b.0));
    progress.into_iter().map(sum).collect()
}

pub(in crate::bench) fn start(
    side: &'static str,
    torrent: &Path,
    flags: &[OsString],
    settings: &Settings,
) -> Result<Running, BenchError> {
    let mut arguments: Vec<OsString> = vec![side.into(), torrent.into()];
    arguments
        .extend(["--json", "--listen", "127.0.0.1:0", "--hash-kernel", settings.hash_kernel.name()].map(Into::into));
    arguments.extend(["--rings".into(), settings.ring_count.to_string().into()]);
    arguments.extend(["--arena".into(), settings.arena_len.to_string().into()]);
    arguments.extend_from_slice(flags);
    Running::start(side, arguments, &[])
}

/// Hashes the content and writes the torrent. Returns the seconds that hashing took.
pub(in crate::bench) fn create(
    content: &Path,
    torrent: &Path,
    settings: &Settings,
    tiers: Vec<Vec<String>>,
) -> Result<f64, BenchError> {
    let options = crate::create::Settings {
        piece_len: settings.piece_len,
        attributes: Attributes { tiers, ..Default::default() },
        ..Default::default()
    };
    let started = Instant::now();
    let plan = Plan::new(content, &options, Some(torrent))?;
    let created = plan.build(&options, Control { cancel: &AtomicBool::new(false), progress: &|_| () })?;
    let seconds = started.elapsed().as_secs_f64();
    fs::write(torrent, created.bytes).map_err(io_error("write the torrent"))?;
    Ok(seconds)
}

/// Makes the torrent of a single pad file.
fn null_torrent(settings: &Settings, tiers: Vec<Vec<String>>) -> Vec<u8> {
    let piece_len = settings.piece_len.unwrap_or_else(|| piece_len::automatic(settings.len));
    let zeros = vec![0; piece_len as usize];
    let last_len = usize::try_from(settings.len % u64::from(piece_len)).unwrap_or(0);
    let (whole, last) = (sha1_batch([[&zeros[..]]]), sha1_batch([[&zeros[..last_len]]]));
    let whole_count = usize::try_from(settings.len / u64::from(piece_len)).unwrap_or(0);
    let mut pieces = vec![whole[0]; whole_count];
    if last_len > 0 {
        pieces.extend(last);
    }
    let path = vec![b".pad".to_vec(), settings.len.to_string().into_bytes()];
    let files = DraftFiles::Many(vec![FileEntry { path, len: settings.len, pad: true, symlink: None }]);
    let attributes = Attributes { tiers, ..Default::default() };
    Draft { attributes, ..Draft::new(b"content".to_vec(), piece_len, files, pieces) }.encode()
}

/// Starts a tracker on a thread of this process, which runs until the process ends. Returns its URL.
pub(in crate::bench) fn start_tracker() -> io::Result<String> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = event_loop().map_err(io::Error::other)?;
    thread::Builder::new().name("tracker".into()).spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            listener::serve(listener, Bounds::default(), http::router(Tracker::new(Table::open()))).await;
            Ok::<_, io::Error>(())
        })
    })?;
    Ok(format!("http://127.0.0.1:{port}/announce"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_all_peers_adds_up() {
        let progress = vec![(0.2, 1, 5), (0.1, 0, 10), (0.3, 0, 20), (0.4, 7, 1)];
        assert_eq!(total(progress, 2), [(0.1, 10), (0.2, 15), (0.3, 25), (0.4, 25)]);
    }
}
