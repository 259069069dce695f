//! `bench swarm`: an origin and its downloaders on this machine, one process each.
//!
//! The bound is derived from measurements of the same run. In each round, *pairs* measure the machine: every downloader
//! gets the content from its own origin, all at the same time. The swarm moves, hashes and writes the same bytes with
//! fewer processes, so it cannot be much faster than the pairs. If links have a rate limit, each kind is measured alone
//! before the rounds.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::finish::{Finish, Traffic};
use super::fluid_bound;
use crate::bench::content::write_random;
use crate::bench::loopback::{RECORD_INTERVAL, Settings, create, start, start_tracker};
use crate::bench::process::Running;
use crate::bench::{BenchError, Machine, gb_per_s, io_error};
use crate::codec::metainfo::{Info, Metainfo, MetainfoLimits};
use crate::create::{Control, verify};

/// The rate limits of the processes' links, in bytes per second; `None` for no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Links {
    /// The limit of a downloader, in each direction.
    pub link: Option<u64>,
    /// The upload limit of the origin.
    pub origin: Option<u64>,
}

/// The duration of the measurement of a link.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// The shortest transfer time from which a rate is computed.
const PROBE_TIME_MIN: Duration = Duration::from_millis(200);

/// The measured rates of the links in bytes per second; infinite without a limit.
#[derive(Debug, Clone, Copy)]
struct Measured {
    origin: f64,
    up: f64,
    down: f64,
}

/// The result: the round with the median efficiency. Times are in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct FleetFigures {
    /// The content length, which each downloader receives.
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
    /// The measured rates in bytes per second, each kind of link alone.
    pub origin_measured: Option<f64>,
    pub up_measured: Option<f64>,
    pub down_measured: Option<f64>,
    /// The time until the last downloader of the pairs is complete.
    pub pairs_s: f64,
    /// Its bound is the maximum of `pairs_s` and the bound of the measured links.
    #[serde(flatten)]
    pub finish: Finish,
    /// The rate of all downloaders together, in 10^9 bytes per second.
    pub gb_per_s: f64,
    /// The efficiency of the last downloader in every round, in ascending order.
    pub round_efficiency_last: Vec<f64>,
}

/// The result of one swarm, from the records of its processes.
struct SwarmResult {
    finished_s: Vec<f64>,
    sent_by_origin: u64,
    downloaded: u64,
    wasted: u64,
}

/// Runs all rounds. Calls `phase` with a description of each phase.
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
    if links.link.or(links.origin).is_some() {
        phase("measuring the links");
    }
    let measured = measure(settings, links, &alone, &from)?;
    let mut rounds = Vec::new();
    for number in 1..=settings.rounds {
        phase(&format!("round {number} of {}: pairs", settings.rounds));
        let pairs_s = in_folder(settings, &info, |to| pairs(settings, &alone, &from, to))?;
        phase(&format!("round {number} of {}: the swarm", settings.rounds));
        let swarm_result = in_folder(settings, &info, |to| swarm(settings, links, &tracked, &from, to))?;
        let round = figures(settings, links, measured, pairs_s, swarm_result);
        rounds.push(FleetFigures { piece_length: info.geometry.piece_len(), ..round });
    }
    rounds.sort_by(|a, b| a.finish.efficiency_last.total_cmp(&b.finish.efficiency_last));
    let round_efficiency_last = rounds.iter().map(|round| round.finish.efficiency_last).collect();
    let median = rounds.get(rounds.len() / 2).cloned().ok_or(BenchError::Differs)?;
    Ok(FleetFigures { round_efficiency_last, ..median })
}

/// Runs `transfer` into a new folder, verifies the received content, and removes the folder.
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
    fs::remove_dir_all(&to).map_err(io_error("remove the received files"))?;
    Ok(outcome)
}

fn folder_of(to: &Path, peer: usize) -> PathBuf {
    to.join(peer.to_string())
}

/// Starts a process that serves the content. Returns it with its port.
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

/// Starts all downloaders and calls `watch` for each on a separate thread. `more` returns additional flags of a
/// downloader.
fn downloaders<T: Send>(
    settings: &Settings,
    torrent: &Path,
    to: &Path,
    more: impl Fn(usize) -> Vec<OsString>,
    watch: impl Fn(Running) -> Result<T, BenchError> + Sync,
) -> Result<Vec<T>, BenchError> {
    let mut gets = Vec::new();
    for peer in 0..settings.peer_count {
        let mut flags: Vec<OsString> = vec!["-o".into(), folder_of(to, peer).into()];
        // A process that seeds afterwards writes through the page cache, so pairs do the same.
        flags.extend(["--json-interval", RECORD_INTERVAL, "--write", "buffered"].map(OsString::from));
        flags.extend(more(peer));
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

fn flag(name: &str, rate: Option<u64>) -> Vec<OsString> {
    rate.map(|rate| [name.into(), rate.to_string().into()]).into_iter().flatten().collect()
}

fn from_port(port: u64) -> [OsString; 2] {
    ["--peer".into(), format!("127.0.0.1:{port}").into()]
}

/// Measures each kind of link with a limit: the origin's, and a downloader's in each direction. The other side has no
/// limit.
fn measure(settings: &Settings, links: Links, torrent: &Path, from: &Path) -> Result<Measured, BenchError> {
    let measured = |limit: Option<u64>, sides: [&str; 2]| {
        if limit.is_none() {
            return Ok::<f64, BenchError>(f64::INFINITY);
        }
        let to = settings.folder.join("probe");
        fs::create_dir(&to).map_err(io_error("make a folder"))?;
        let limits = sides.map(|side| if side.is_empty() { Vec::new() } else { flag(side, limit) });
        let rate = probe(settings, torrent, from, &to, &limits)?;
        fs::remove_dir_all(&to).map_err(io_error("remove the received files"))?;
        Ok(rate)
    };
    Ok(Measured {
        origin: measured(links.origin, ["--up", ""])?,
        up: measured(links.link, ["--up", ""])?,
        down: measured(links.link, ["", "--down"])?,
    })
}

/// Measures the rate from a seeder to a downloader with these flags, in bytes per second.
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn probe(
    settings: &Settings,
    torrent: &Path,
    from: &Path,
    to: &Path,
    [seed, get]: &[Vec<OsString>; 2],
) -> Result<f64, BenchError> {
    let (mut origin, port) = origin(settings, torrent, from, seed)?;
    let mut flags: Vec<OsString> = vec!["-o".into(), to.into(), "--seed".into()];
    flags.extend(["--json-interval", RECORD_INTERVAL].map(OsString::from));
    flags.extend(from_port(port));
    flags.extend_from_slice(get);
    let mut get = start("get", torrent, &flags, settings)?;
    let (mut first, mut rate) = (None, f64::INFINITY);
    loop {
        let record = get.wait_for("progress", &mut |_| ())?;
        let (done, now) = (number(&record, "bytes_done"), Instant::now());
        if done == 0 {
            continue;
        }
        let (done_before, before) = *first.get_or_insert((done, now));
        let took = now - before;
        if took >= PROBE_TIME_MIN {
            rate = (done - done_before) as f64 / took.as_secs_f64();
        }
        if done >= settings.len || took >= PROBE_TIME {
            break;
        }
    }
    drop(get);
    origin.stop("stopped")?;
    Ok(rate)
}

/// Returns the seconds until every downloader is complete from its own origin.
fn pairs(settings: &Settings, torrent: &Path, from: &Path, to: &Path) -> Result<f64, BenchError> {
    let all = ["--slots".into(), "all".into()];
    let origins: Vec<(Running, u64)> =
        (0..settings.peer_count).map(|_| origin(settings, torrent, from, &all)).collect::<Result<_, _>>()?;
    let flags = |peer: usize| {
        let port = origins.get(peer).map_or(0, |&(_, port)| port);
        from_port(port).into_iter().chain(["--seed".into()]).collect()
    };
    let finished = finish(settings, torrent, to, flags)?;
    let last = finished.iter().map(|&(at_s, _)| at_s).fold(0.0, f64::max);
    for (_, mut get) in finished {
        get.stop("complete")?;
    }
    for (mut origin, _) in origins {
        origin.stop("stopped")?;
    }
    Ok(last)
}

/// Runs all downloaders until they are complete. Returns their completion times in seconds and the processes, which
/// keep seeding.
fn finish(
    settings: &Settings,
    torrent: &Path,
    to: &Path,
    more: impl Fn(usize) -> Vec<OsString>,
) -> Result<Vec<(f64, Running)>, BenchError> {
    let started = Instant::now();
    downloaders(settings, torrent, to, more, |mut get| {
        loop {
            let record = get.wait_for("progress", &mut |_| ())?;
            if number(&record, "bytes_done") >= settings.len {
                return Ok((started.elapsed().as_secs_f64(), get));
            }
        }
    })
}

fn swarm(settings: &Settings, links: Links, torrent: &Path, from: &Path, to: &Path) -> Result<SwarmResult, BenchError> {
    let (mut origin, _) = origin(settings, torrent, from, &flag("--up", links.origin))?;
    let mut flags: Vec<OsString> = vec!["--seed".into()];
    flags.extend(flag("--up", links.link));
    flags.extend(flag("--down", links.link));
    let finished = finish(settings, torrent, to, |_| flags.clone())?;
    let (mut finished_s, gets): (Vec<f64>, Vec<Running>) = finished.into_iter().unzip();
    finished_s.sort_by(f64::total_cmp);
    let mut swarm_result = SwarmResult { finished_s, sent_by_origin: 0, downloaded: 0, wasted: 0 };
    for mut get in gets {
        let record = get.stop("complete")?;
        swarm_result.downloaded += number(&record, "downloaded");
        swarm_result.wasted += number(&record, "wasted");
    }
    swarm_result.sent_by_origin = number(&origin.stop("stopped")?, "uploaded");
    Ok(swarm_result)
}

fn number(record: &Value, key: &str) -> u64 {
    record.get(key).and_then(Value::as_u64).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn figures(
    settings: &Settings,
    links: Links,
    measured: Measured,
    pairs_s: f64,
    swarm_result: SwarmResult,
) -> FleetFigures {
    let (len, leechers) = (settings.len as f64, settings.peer_count);
    let Measured { origin, up, down } = measured;
    let t_min_s = pairs_s.max(fluid_bound(len, leechers, origin, down, leechers as f64 * up));
    let known = |rate: f64| rate.is_finite().then_some(rate);
    let SwarmResult { finished_s, sent_by_origin, downloaded, wasted } = swarm_result;
    let traffic = Traffic { origin_copies: sent_by_origin as f64 / len, wasted, received: downloaded + wasted };
    let finish = Finish::new(t_min_s, &finished_s, finished_s.len(), &traffic);
    FleetFigures {
        bytes: settings.len,
        piece_length: 0,
        leechers,
        rounds: settings.rounds,
        place: settings.to.name(),
        link_bytes_per_s: links.link,
        origin_bytes_per_s: links.origin,
        machine: Machine::this(),
        origin_measured: known(origin),
        up_measured: known(up),
        down_measured: known(down),
        pairs_s,
        gb_per_s: gb_per_s(settings.len * leechers as u64, finish.t_last_s),
        finish,
        round_efficiency_last: Vec::new(),
    }
}
