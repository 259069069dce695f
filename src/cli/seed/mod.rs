//! `bt-fast seed`.

mod made;
mod origin;
mod reachable;
mod until;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use made::Made;
use origin::Origin;
use tokio::sync::mpsc;
use until::Until;
use watch::{Surroundings, Watch};

use super::activation::Handed;
use super::checks::Check;
use super::exit::{Exit, Failure};
use super::interrupt;
use super::metainfo_file::load_metainfo;
use super::notify;
use super::options::{SeedOptions, VerifyMode, folder_of, is_torrent};
use super::output::Output;
use super::progress::TransferSnapshot;
use super::records::Record;
use super::transfer::{self, tiers, transfer};
use crate::base::escape::printable;
use crate::base::units::Bytes;
use crate::base::{Bitfield, InfoHash, limits};
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;
use crate::create::remembered::Observation;
use crate::create::{Control, verify};
use crate::engine::{self, Changes, Config, EngineError, Listen, Report, Source, survey};
use crate::storage::Presence;

/// Files that are named when they are not as they should be; the rest are counted.
const MISFITS_SHOWN_MAX: usize = 10;

pub(super) fn run(options: SeedOptions, output: &Output) -> Result<(), Failure> {
    let stop = interrupt::flag()?;
    let mut handed = Handed::take(&["peers", "web", "tracker", "admin"])?;
    handed.check(options.web.is_some())?;
    let reload = interrupt::reload_flag()?;
    if let Some(folder) = &options.watch {
        std::fs::read_dir(folder).map_err(|error| Failure::io("can't watch", &shown(folder), &error))?;
    }
    let (sources, names) = prepare_all(&options, &stop, output)?;
    let total_len = Arc::new(AtomicU64::new(names.iter().map(|named| named.total_len).sum()));
    let mut config = Config {
        rates: options.rates,
        super_seed: options.super_seed,
        ..transfer::config(&options.network, &options.engine, options.serving, limits::CONNECTIONS_SEED_MAX)
    };
    if let Some(listener) = handed.peers.take() {
        config.listen = Listen::Handed(listener);
    }
    let origin = options.web.as_ref().map(|web| {
        let monitor = Arc::default();
        config.monitor = Some(Arc::clone(&monitor));
        let torrents: Vec<_> = sources.iter().map(|one| (one.metainfo.clone(), one.folder.clone())).collect();
        Origin::start(
            web,
            std::mem::take(&mut handed),
            options.network.announce_ip.as_deref(),
            &torrents,
            &monitor,
            &stop,
        )
    });
    let origin = origin.transpose()?;
    let port = OnceLock::new();
    let watched = options.watch.as_deref().map(|folder| {
        let (changes, inbox) = mpsc::channel(limits::CHANGES_AT_ONCE);
        let around = Surroundings {
            options: &options,
            output,
            origin: origin.as_ref(),
            peer_id: config.identity.peer_id,
            port: &port,
            total_len: &total_len,
            stop: &stop,
            reload: &reload,
            changes,
        };
        (Watch::new(folder, names.iter().map(|named| named.info_hash), around), inbox)
    });
    let (watch, changes) = watched.unzip();
    let session = Session { config: &config, names: &names, origin: origin.as_ref(), port: &port, stop: &stop, output };
    let report = thread::scope(|scope| {
        watch.map(|watch| scope.spawn(|| watch.run()));
        let until = Until::new(options.until, Arc::clone(&total_len));
        let report = session.run(sources, changes, until);
        stop.store(true, Ordering::Relaxed);
        report
    })?;
    notify::stopping();
    origin.into_iter().for_each(Origin::join);
    let copies = Copies { uploaded: report.totals.uploaded, total_len: total_len.load(Ordering::Relaxed) };
    output.message(format_args!("sent {copies} in {:.1} s", report.elapsed.as_secs_f64()));
    output.record(&Record::Stopped { seconds: report.elapsed.as_secs_f64(), transfer: transfer(&report) });
    Ok(())
}

/// What the command line names, each torrent once.
fn prepare_all(
    options: &SeedOptions,
    stop: &AtomicBool,
    output: &Output,
) -> Result<(Vec<Source>, Vec<Named>), Failure> {
    let (mut sources, mut names) = (Vec::<Source>::new(), Vec::new());
    for path in &options.torrents {
        let (source, trust) = prepare(path, options, stop, output)?;
        if sources.iter().any(|known| known.metainfo.info_hash == source.metainfo.info_hash) {
            output.warning(format_args!("{}: the same torrent was named before and is seeded once", shown(path)));
            continue;
        }
        names.push(Named::new(&source.metainfo, &source.have, &trust));
        sources.push(source);
    }
    Ok((sources, names))
}

/// What runs while it serves.
struct Session<'a> {
    config: &'a Config,
    /// The torrents of the command line.
    names: &'a [Named],
    origin: Option<&'a Origin>,
    /// Told as soon as it is known.
    port: &'a OnceLock<u16>,
    stop: &'a AtomicBool,
    output: &'a Output,
}

impl Session<'_> {
    fn run(&self, sources: Vec<Source>, changes: Option<Changes>, mut until: Until) -> Result<Report, EngineError> {
        let Self { config, names, origin, port, stop, output } = *self;
        let progress = output.transfer_progress("seeding", None);
        engine::run_with(config, sources, changes, stop, &mut |now| {
            if port.set(now.port).is_ok() {
                origin.iter().for_each(|origin| origin.open(now.port, config.identity.peer_id));
                names.iter().for_each(|named| named.announce(now.port, origin, output));
                notify::ready(&format!("seeding on port {}", now.port));
            }
            progress.update(TransferSnapshot {
                done: now.uploaded,
                down_bytes_per_s: now.down_bytes_per_s,
                up_bytes_per_s: now.up_bytes_per_s,
                peers: now.peer_count,
            });
            if let Some(why) = until.met(now, || origin.map_or(0, Origin::completed)) {
                output.message(format_args!("stopping: {why}"));
                stop.store(true, Ordering::Relaxed);
            }
        })
    }
}

/// A `.torrent` with its content, or content whose torrent is made.
fn prepare(path: &Path, options: &SeedOptions, stop: &AtomicBool, output: &Output) -> Result<(Source, Trust), Failure> {
    if !is_torrent(path) {
        let Made { metainfo, folder, trust } = made::make(path, &options.engine.metainfo, stop, output)?;
        let have = Bitfield::full(metainfo.info.geometry.piece_count());
        return Ok((source(metainfo, folder, have, &trust, options), trust));
    }
    let metainfo = load_metainfo(path, &options.engine.metainfo, output)?;
    let folder = options.data.clone().unwrap_or_else(|| folder_of(path));
    let (have, trust) = match options.verify {
        VerifyMode::Full => (hash_all(&metainfo, &folder, stop, output)?, Trust::Checked),
        VerifyMode::Lazy => match recall(&metainfo, &folder) {
            Some(date) => (Bitfield::full(metainfo.info.geometry.piece_count()), Trust::Remembered(date)),
            None => (look(&metainfo, &folder, output)?, Trust::None),
        },
        VerifyMode::Never => (look(&metainfo, &folder, output)?, Trust::Blind),
    };
    if have.is_empty() && have.piece_count() > 0 {
        let line = format!(
            "no data: {}: nothing of '{}' is there and right: name its folder with --data",
            shown(&folder),
            printable(&metainfo.info.name)
        );
        return Err(Failure::new(Exit::Mismatch, line));
    }
    Ok((source(metainfo, folder, have, &trust, options), trust))
}

fn source(metainfo: Metainfo, folder: PathBuf, have: Bitfield, trust: &Trust, options: &SeedOptions) -> Source {
    let tiers = tiers(&metainfo.tiers, &options.network);
    let trusted = !matches!(trust, Trust::None);
    Source { metainfo, folder, have, choices: None, trusted, target: None, tiers, peers: Vec::new() }
}

/// Why content need not be hashed before it is served.
enum Trust {
    /// It has just been hashed.
    Checked,
    /// A check found it right, at this time in seconds since 1970, and no file has changed since.
    Remembered(i64),
    /// The user said so.
    Blind,
    /// It has to be.
    None,
}

struct Named {
    info_hash: InfoHash,
    name: String,
    total_len: u64,
    pieces_served: usize,
    pieces: u32,
    remembered: Option<i64>,
}

impl Named {
    fn new(metainfo: &Metainfo, have: &Bitfield, trust: &Trust) -> Self {
        Self {
            info_hash: metainfo.info_hash,
            name: printable(&metainfo.info.name),
            total_len: metainfo.info.geometry.total_len(),
            pieces_served: have.count(),
            pieces: metainfo.info.geometry.piece_count(),
            remembered: if let Trust::Remembered(date) = trust { Some(*date) } else { None },
        }
    }

    fn announce(&self, port: u16, origin: Option<&Origin>, output: &Output) {
        if let Some(origin) = origin {
            origin.tell(self.info_hash, &self.name, port, output);
        }
        let Self { info_hash, name, total_len, pieces_served, pieces, remembered } = self;
        let (info_hash, pieces_served, pieces, remembered) =
            (info_hash.to_string(), *pieces_served, *pieces, *remembered);
        output.message(format_args!("seeding {name} ({}) on port {port}; Ctrl-C stops", Bytes(*total_len)));
        output.record(&Record::Seeding { info_hash, name, port, pieces_served, pieces, remembered });
    }
}

/// `3.2 GiB, 1.6 copies`
struct Copies {
    uploaded: u64,
    total_len: u64,
}

impl std::fmt::Display for Copies {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let copies = self.uploaded as f64 / self.total_len.max(1) as f64;
        write!(f, "{}, {copies:.2} copies,", Bytes(self.uploaded))
    }
}

/// When all of this content was found right, if no file has changed since.
fn recall(metainfo: &Metainfo, folder: &Path) -> Option<i64> {
    Check::begin().recall(metainfo.info_hash, &Observation::of_content(&metainfo.info, folder)?)
}

/// Every piece is hashed; those that are right are served.
fn hash_all(metainfo: &Metainfo, folder: &Path, stop: &AtomicBool, output: &Output) -> Result<Bitfield, Failure> {
    let check = Check::begin();
    let before = Observation::of_content(&metainfo.info, folder);
    let progress = output.content_progress("checking", metainfo.info.geometry.total_len());
    let control = Control { cancel: stop, progress: &|done| progress.update(done) };
    let report = verify(&metainfo.info, folder, None, control)?;
    drop(progress);
    check.conclude(metainfo, folder, before.as_ref(), report.is_match());
    let wrong = report.have.piece_count() - report.have.count();
    if wrong > 0 {
        output.warning(format_args!(
            "{}: {wrong} of {} pieces are missing or wrong in {} and are not served",
            printable(&metainfo.info.name),
            report.have.piece_count(),
            shown(folder)
        ));
    }
    Ok(report.have)
}

/// File lengths alone; content is hashed before it is served, or trusted.
fn look(metainfo: &Metainfo, folder: &Path, output: &Output) -> Result<Bitfield, Failure> {
    let found = survey(&metainfo.info, folder)?;
    if !found.have.is_empty() {
        for (path, presence) in found.misfits.iter().take(MISFITS_SHOWN_MAX) {
            let what = match presence {
                Presence::Absent => "is missing",
                Presence::Here { .. } => "is too short",
            };
            output.warning(format_args!("{} {what}: its pieces are not served", shown(path)));
        }
        if found.misfits.len() > MISFITS_SHOWN_MAX {
            output.warning(format_args!("{} more files are not served", found.misfits.len() - MISFITS_SHOWN_MAX));
        }
    }
    Ok(found.have)
}
