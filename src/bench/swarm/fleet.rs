//! `bench swarm`: an origin and its downloaders, each a process of its own, on this machine.
//!
//! What the machine can do is measured in the same round by the *star*: every downloader gets everything straight from the
//! origin and knows nobody else. The swarm moves, hashes and writes the same bytes, so it can't be expected to be faster.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::{fluid_bound, jain};
use crate::bench::content::write_random;
use crate::bench::loopback::{PROGRESS_MS, Settings, create, start, start_tracker};
use crate::bench::process::Running;
use crate::bench::{BenchError, Machine, gb_per_s, io_error};
use crate::codec::metainfo::{Info, Metainfo, MetainfoLimits};
use crate::create::{Control, verify};

/// Bytes per second of each process's link, where it has a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Links {
    /// A downloader's, up and down.
    pub link: Option<u64>,
    /// The origin's, up.
    pub origin: Option<u64>,
}

/// What came of it: the round whose efficiency is the median. Times are seconds.
#[derive(Debug, Clone, Serialize)]
pub struct FleetFigures {
    /// Of the content; each downloader gets that much.
    pub bytes: u64,
    pub piece_length: u32,
    pub leechers: usize,
    pub rounds: usize,
    /// `disk` or `memory`.
    pub place: &'static str,
    pub link_bytes_per_s: Option<u64>,
    pub origin_bytes_per_s: Option<u64>,
    #[serde(flatten)]
    pub machine: Machine,
    /// The star: until the last downloader has everything from the origin.
    pub star_s: f64,
    /// The later of the star's time and the bound of the links.
    pub t_min_s: f64,
    pub t_first_s: f64,
    pub t_p50_s: f64,
    pub t_last_s: f64,
    pub efficiency_last: f64,
    pub efficiency_p50: f64,
    /// Received by all, in 10^9 bytes per second.
    pub gb_per_s: f64,
    pub origin_copies: f64,
    /// Jain's index of the finish times.
    pub jain: f64,
    /// Bytes received twice or in vain, of all received.
    pub waste: f64,
    /// Of every round.
    pub round_efficiency_last: Vec<f64>,
}

/// One swarm, as its processes told it.
struct Swarmed {
    finished_s: Vec<f64>,
    sent_by_origin: u64,
    downloaded: u64,
    wasted: u64,
}

/// Runs every round; `phase` hears what is being done.
pub fn fleet(settings: &Settings, links: Links, phase: &mut dyn FnMut(&str)) -> Result<FleetFigures, BenchError> {
    let from = settings.folder.join("origin");
    fs::create_dir(&from).map_err(io_error("make a folder"))?;
    phase("making content");
    let content = from.join("content.bin");
    write_random(&content, settings.len, settings.len).map_err(io_error("make content"))?;
    let tracker = start_tracker().map_err(io_error("start the tracker"))?;
    phase("creating");
    let [alone, tracked] = ["alone.torrent", "tracked.torrent"].map(|name| settings.folder.join(name));
    create(&content, &alone, settings, Vec::new())?;
    create(&content, &tracked, settings, vec![vec![tracker]])?;
    let bytes = fs::read(&tracked).map_err(io_error("read the torrent"))?;
    let Ok(Metainfo { info, .. }) = Metainfo::decode(&bytes, &MetainfoLimits::default()) else {
        return Err(BenchError::Differs);
    };
    let mut rounds = Vec::new();
    for number in 1..=settings.rounds {
        phase(&format!("round {number} of {}: the star", settings.rounds));
        let star_s = in_folder(settings, &info, |to| star(settings, &alone, &from, to))?;
        phase(&format!("round {number} of {}: the swarm", settings.rounds));
        let swarmed = in_folder(settings, &info, |to| swarm(settings, links, &tracked, &from, to))?;
        rounds.push(figures(settings, links, info.geometry.piece_len(), star_s, swarmed));
    }
    rounds.sort_by(|a, b| a.efficiency_last.total_cmp(&b.efficiency_last));
    let round_efficiency_last = rounds.iter().map(|round| round.efficiency_last).collect();
    let median = rounds.get(rounds.len() / 2).cloned().ok_or(BenchError::Differs)?;
    Ok(FleetFigures { round_efficiency_last, ..median })
}

/// Runs `transfer` into a new folder, looks at every byte that came, and removes it.
fn in_folder<T>(
    settings: &Settings,
    info: &Info,
    transfer: impl FnOnce(&Path) -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    let to = settings.folder.join("get");
    fs::create_dir(&to).map_err(io_error("make a folder"))?;
    let outcome = transfer(&to)?;
    for peer in 0..settings.peer_count {
        let control = Control { cancel: &AtomicBool::new(false), progress: &|_| () };
        if !verify(info, &folder_of(&to, peer), None, control)?.is_match() {
            return Err(BenchError::Differs);
        }
    }
    fs::remove_dir_all(&to).map_err(io_error("remove what was received"))?;
    Ok(outcome)
}

fn folder_of(to: &Path, peer: usize) -> PathBuf {
    to.join(peer.to_string())
}

/// A process that serves the content; and its port.
fn origin(settings: &Settings, torrent: &Path, from: &Path, more: &[OsString]) -> Result<(Running, u64), BenchError> {
    let mut flags: Vec<OsString> = ["--verify", "none", "--data"].map(Into::into).into();
    flags.push(from.into());
    flags.extend_from_slice(more);
    flags.extend_from_slice(&settings.seed_flags);
    let mut origin = start("seed", torrent, &flags, settings)?;
    let seeding = origin.wait_for("seeding", &mut |_| ())?;
    let port = seeding.get("port").and_then(Value::as_u64).unwrap_or(0);
    Ok((origin, port))
}

/// Starts all downloaders, and calls `watch` for each on a thread of its own.
fn downloaders<T: Send>(
    settings: &Settings,
    torrent: &Path,
    to: &Path,
    more: &[OsString],
    watch: impl Fn(Running) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    let mut gets = Vec::new();
    for peer in 0..settings.peer_count {
        let mut flags: Vec<OsString> = vec!["-o".into(), folder_of(to, peer).into()];
        // Who seeds afterwards writes through the page cache: the star does the same.
        flags.extend(["--progress-ms", PROGRESS_MS, "--write", "buffered"].map(OsString::from));
        flags.extend_from_slice(more);
        flags.extend_from_slice(&settings.get_flags);
        gets.push(start("get", torrent, &flags, settings)?);
    }
    thread::scope(|scope| {
        let watch = &watch;
        let threads: Vec<_> = gets.into_iter().map(|get| scope.spawn(move || watch(get))).collect();
        let panicked = |_| Err(BenchError::Ended { side: "get", line: "its reader panicked".into() });
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}

/// Seconds until everybody has everything straight from the origin.
fn star(settings: &Settings, torrent: &Path, from: &Path, to: &Path) -> Result<f64, BenchError> {
    let (mut origin, port) = origin(settings, torrent, from, &["--slots".into(), "all".into()])?;
    let started = Instant::now();
    let peer = ["--peer".into(), format!("127.0.0.1:{port}").into()];
    downloaders(settings, torrent, to, &peer, |mut get| {
        get.wait_for("complete", &mut |_| ())?;
        get.wait()
    })?;
    let seconds = started.elapsed().as_secs_f64();
    origin.stop("stopped")?;
    Ok(seconds)
}

fn swarm(settings: &Settings, links: Links, torrent: &Path, from: &Path, to: &Path) -> Result<Swarmed, BenchError> {
    let limit = |flag: &str, rate: Option<u64>| {
        rate.map(|rate| [flag.into(), rate.to_string().into()]).into_iter().flatten().collect::<Vec<OsString>>()
    };
    let (mut origin, _) = origin(settings, torrent, from, &limit("--up", links.origin))?;
    let mut flags: Vec<OsString> = vec!["--seed".into()];
    flags.extend(limit("--up", links.link));
    flags.extend(limit("--down", links.link));
    let started = Instant::now();
    let finished = downloaders(settings, torrent, to, &flags, |mut get| {
        loop {
            let record = get.wait_for("progress", &mut |_| ())?;
            if number(&record, "bytes_done") >= settings.len {
                return Ok((started.elapsed().as_secs_f64(), get));
            }
        }
    })?;
    let (mut finished_s, gets): (Vec<f64>, Vec<Running>) = finished.into_iter().unzip();
    finished_s.sort_by(f64::total_cmp);
    let mut swarmed = Swarmed { finished_s, sent_by_origin: 0, downloaded: 0, wasted: 0 };
    for mut get in gets {
        let record = get.stop("complete")?;
        swarmed.downloaded += number(&record, "downloaded");
        swarmed.wasted += number(&record, "wasted");
    }
    swarmed.sent_by_origin = number(&origin.stop("stopped")?, "uploaded");
    Ok(swarmed)
}

fn number(record: &Value, key: &str) -> u64 {
    record.get(key).and_then(Value::as_u64).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn figures(settings: &Settings, links: Links, piece_length: u32, star_s: f64, swarmed: Swarmed) -> FleetFigures {
    let (len, leechers) = (settings.len as f64, settings.peer_count);
    let rate = |rate: Option<u64>| rate.map_or(f64::INFINITY, |rate| rate as f64);
    let (origin, link) = (rate(links.origin), rate(links.link));
    let t_min_s = star_s.max(fluid_bound(len, leechers, origin, link, leechers as f64 * link));
    let times = &swarmed.finished_s;
    let at = |index: usize| times.get(index).copied().unwrap_or(f64::INFINITY);
    let (first, p50, last) = (at(0), at(times.len() / 2), at(times.len().saturating_sub(1)));
    FleetFigures {
        bytes: settings.len,
        piece_length,
        leechers,
        rounds: settings.rounds,
        place: settings.to.name(),
        link_bytes_per_s: links.link,
        origin_bytes_per_s: links.origin,
        machine: Machine::this(),
        star_s,
        t_min_s,
        t_first_s: first,
        t_p50_s: p50,
        t_last_s: last,
        efficiency_last: t_min_s / last,
        efficiency_p50: t_min_s / p50,
        gb_per_s: gb_per_s(settings.len * leechers as u64, last),
        origin_copies: swarmed.sent_by_origin as f64 / len,
        jain: jain(times),
        waste: swarmed.wasted as f64 / (swarmed.downloaded + swarmed.wasted).max(1) as f64,
        round_efficiency_last: Vec::new(),
    }
}
