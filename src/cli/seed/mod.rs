//! `bt-fast seed`.

mod intake;
mod made;
mod origin;
mod reachable;
mod until;
mod watch;

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use intake::{Intake, Surroundings};
use made::{Content, Made};
use origin::{Origin, PeerSide};
use tokio::sync::mpsc;
use until::Until;
use watch::Watch;

use super::activation::Handed;
use super::checks::Check;
use super::exit::{Exit, Failure};
use super::interrupt::{self, Hangup};
use super::metainfo_file::load_metainfo;
use super::notify;
use super::options::{SeedOptions, VerifyMode, folder_of, is_torrent};
use super::output::Output;
use super::progress::{ContentProgress, TransferProgress, TransferSnapshot};
use super::records::Record;
use super::transfer::{self, tiers, transfer};
use crate::base::escape::printable;
use crate::base::units::Bytes;
use crate::base::{Bitfield, FileIdentity, InfoHash, limits};
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;
use crate::create::{Control, observe, verify, verify_with};
use crate::engine::{self, Changes, Config, Contents, EngineError, Listen, Provenance, Report, Source, Survey, survey};
use crate::storage::Presence;
use crate::web::site::{PendingList, Published};

/// Files that are named when they are not as they should be; the rest are counted.
const MISFITS_SHOWN_MAX: usize = 10;
/// How often the service manager is told of progress at most.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long the listening sockets stay closed, at most, until the first content is hashed, where there is nothing else to
/// serve: small content is there when the first client asks for it.
const FIRST_CONTENT_WAIT: Duration = Duration::from_secs(5);

pub(super) fn run(options: SeedOptions, output: &Output) -> Result<(), Failure> {
    let stop = interrupt::flag(if options.watch.is_some() { Hangup::Reloads } else { Hangup::Ends })?;
    let mut handed = Handed::take(&["peers", "web", "tracker", "admin"])?;
    handed.check(options.web.is_some())?;
    let reload = if options.watch.is_some() { interrupt::reload_flag()? } else { Arc::default() };
    if let Some(folder) = &options.watch {
        std::fs::read_dir(folder).map_err(|error| Failure::io("can't watch", &shown(folder), &error))?;
    }
    let contents = Arc::default();
    let Ready { sources, published, names, later, refusals } = prepare_at_once(&options, &contents, output)?;
    let total_len = Arc::new(AtomicU64::new(names.iter().map(|named| named.total_len).sum()));
    let mut config = config(&options, &contents, handed.peers.take());
    let origin = options.web.as_ref().map(|web| {
        let monitor = config.monitor.insert(Arc::default());
        let peer_side = PeerSide::new(&config.listen, options.network.announce_ip.as_deref());
        Origin::start(web, std::mem::take(&mut handed), peer_side, published, monitor, &contents, &stop)
    });
    let origin = origin.transpose()?;
    let pending = origin.as_ref().map_or_else(Arc::default, Origin::pending);
    let (port, known) = (OnceLock::new(), Mutex::new(names.iter().map(|named| named.info_hash).collect()));
    let is_complete = AtomicBool::new(later.is_empty());
    let (changes, inbox) = mpsc::channel(limits::CHANGES_AT_ONCE);
    let around = Surroundings {
        options: &options,
        output,
        origin: origin.as_ref(),
        peer_id: config.identity.peer_id,
        port: &port,
        total_len: &total_len,
        known: &known,
        pending: &pending,
        stop: &stop,
        changes,
    };
    let watch = options.watch.as_deref().map(|folder| Watch::new(folder, around.clone(), &reload));
    let (first_hashed, is_first_hashed) = sync_channel(0);
    let served_count = names.len();
    let intake = Intake { paths: &later, around, refusals, served_count, is_done: &is_complete, first_hashed };
    // Without a sender the session knows that nothing joins it any more.
    let intake = (!later.is_empty()).then_some(intake);
    let session = Session {
        config: &config,
        names: &names,
        origin: origin.as_ref(),
        pending: &pending,
        is_complete: &is_complete,
        port: &port,
        stop: &stop,
        output,
    };
    let (report, nothing_left) = thread::scope(|scope| {
        watch.map(|watch| scope.spawn(|| watch.run()));
        let intake = intake.map(|intake| scope.spawn(|| intake.run()));
        if names.is_empty() && !later.is_empty() {
            notify::starting("hashing the first content");
            let _ = is_first_hashed.recv_timeout(FIRST_CONTENT_WAIT);
        }
        let until = Until::new(options.until, Arc::clone(&total_len));
        let report = session.run(sources, Some(inbox), until);
        stop.store(true, Ordering::Relaxed);
        (report, intake.and_then(|intake| intake.join().ok().flatten()))
    });
    notify::stopping();
    origin.into_iter().for_each(Origin::join);
    let report = report?;
    if let Some(failure) = nothing_left {
        return Err(failure);
    }
    conclude(&report, total_len.load(Ordering::Relaxed), output);
    Ok(())
}

/// The session's settings; `listener` is the socket for peers if one was handed over.
fn config(options: &SeedOptions, contents: &Arc<Contents>, listener: Option<TcpListener>) -> Config {
    let config = transfer::config(&options.network, &options.engine, options.serving, limits::CONNECTIONS_SEED_MAX);
    Config {
        contents: Arc::clone(contents),
        rates: options.rates,
        super_seed: options.super_seed,
        listen: listener.map_or(config.listen, Listen::Handed),
        ..config
    }
}

fn conclude(report: &Report, total_len: u64, output: &Output) {
    let copies = Copies { uploaded: report.totals.uploaded, total_len };
    output.message(format_args!("sent {copies} in {:.1} s", report.elapsed.as_secs_f64()));
    output.record(&Record::Stopped { seconds: report.elapsed.as_secs_f64(), transfer: transfer(report) });
}

/// What the command line names.
struct Ready<'a> {
    /// Torrents that are served from the start, each once.
    sources: Vec<Source>,
    /// The same for the pages, where there are any.
    published: Vec<Published>,
    names: Vec<Named>,
    /// Paths whose content has to be hashed first.
    later: Vec<PathBuf>,
    refusals: Refusals<'a>,
}

/// Makes ready what needs no reading of content. A path that can't be served keeps no other from being served.
fn prepare_at_once<'a>(
    options: &SeedOptions,
    contents: &Arc<Contents>,
    output: &'a Output,
) -> Result<Ready<'a>, Failure> {
    let refusals = Refusals { output, paths: options.torrents.len(), watches: options.watch.is_some(), first: None };
    let mut ready =
        Ready { sources: Vec::new(), published: Vec::new(), names: Vec::new(), later: Vec::new(), refusals };
    let mut known = HashSet::new();
    let mut told_at = Instant::now();
    for path in &options.torrents {
        if told_at.elapsed() >= STATUS_INTERVAL {
            told_at = Instant::now();
            notify::starting(&format!("looking at {}", shown(path)));
        }
        match find(path, options, output) {
            Ok(Found::Ready(source, _)) if !known.insert(source.metainfo.info_hash) => warn_of_duplicate(path, output),
            Ok(Found::Ready(source, trust)) => {
                ready.names.push(Named::new(&source.metainfo, &source.have, &trust));
                ready.published.extend(options.web.as_ref().map(|web| {
                    let content = web.web_seed.then(|| Arc::clone(contents));
                    Published::new(source.metainfo.clone(), content, SystemTime::now())
                }));
                ready.sources.push(*source);
            }
            Ok(Found::Unhashed) => ready.later.push(path.clone()),
            Err(failure) => ready.refusals.add(path, failure),
        }
    }
    match ready.refusals.conclude(ready.sources.len() + ready.later.len()) {
        Some(failure) => Err(failure),
        None => Ok(ready),
    }
}

fn warn_of_duplicate(path: &Path, output: &Output) {
    output.warning(format_args!("{}: the same torrent was named before and is seeded once", shown(path)));
}

/// Paths that can't be served.
struct Refusals<'a> {
    output: &'a Output,
    /// The number of paths on the command line.
    paths: usize,
    /// Torrents may come by `--watch`.
    watches: bool,
    first: Option<Failure>,
}

impl Refusals<'_> {
    /// Tells of a path that can't be served; of an only one its failure tells.
    fn add(&mut self, path: &Path, failure: Failure) {
        if self.paths > 1 || self.watches {
            self.output.error(format_args!("not served: {failure}"));
            record_not_served(path, &failure, self.output);
        }
        self.first.get_or_insert(failure);
    }

    /// The failure that ends `seed`, if nothing is left to serve.
    fn conclude(&mut self, served: usize) -> Option<Failure> {
        if served > 0 || self.watches {
            return None;
        }
        let Failure { exit, line } = self.first.take()?;
        let line = if self.paths > 1 { format!("nothing is left to serve: {line}") } else { line };
        Some(Failure { exit, line })
    }
}

fn record_not_served(path: &Path, failure: &Failure, output: &Output) {
    let message = printable(failure.line.as_bytes());
    output.record(&Record::NotServed { path: &shown(path), exit: failure.exit as u8, message: &message });
}

/// What runs while it serves.
struct Session<'a> {
    config: &'a Config,
    /// The torrents of the command line.
    names: &'a [Named],
    origin: Option<&'a Origin>,
    pending: &'a PendingList,
    /// Everything that the command line names has been added or refused.
    is_complete: &'a AtomicBool,
    /// Told as soon as it is known.
    port: &'a OnceLock<u16>,
    stop: &'a AtomicBool,
    output: &'a Output,
}

impl Session<'_> {
    fn run(&self, sources: Vec<Source>, changes: Option<Changes>, mut until: Until) -> Result<Report, EngineError> {
        let Self { config, names, origin, pending, is_complete, port, stop, output } = *self;
        let mut status = Status::default();
        let progress = TransferProgress::new(output, "seeding", None);
        engine::run_with(config, sources, changes, stop, &mut |now| {
            if port.set(now.port).is_ok() {
                origin.iter().for_each(|origin| origin.open(now.port, config.identity.peer_id));
                names.iter().for_each(|named| named.announce(now.port, origin, output));
                status.ready(status_line(now.port, pending));
            }
            status.update(|| status_line(now.port, pending));
            progress.update(TransferSnapshot {
                done: now.uploaded,
                down_bytes_per_s: now.down_bytes_per_s,
                up_bytes_per_s: now.up_bytes_per_s,
                peers: now.peer_count,
            });
            if !is_complete.load(Ordering::Relaxed) {
                // The conditions are those of all torrents together.
                until.restart();
            } else if let Some(why) = until.met(now, || origin.map_or(0, Origin::completed)) {
                output.message(format_args!("stopping: {why}"));
                stop.store(true, Ordering::Relaxed);
            }
        })
    }
}

/// The status that the service manager shows, told when it changes.
#[derive(Default)]
struct Status {
    told: String,
    told_at: Option<Instant>,
}

impl Status {
    fn ready(&mut self, line: String) {
        notify::ready(&line);
        self.told = line;
    }

    fn update(&mut self, line: impl FnOnce() -> String) {
        if self.told_at.is_some_and(|at| at.elapsed() < STATUS_INTERVAL) {
            return;
        }
        self.told_at = Some(Instant::now());
        let line = line();
        if line != self.told {
            notify::status(&line);
            self.told = line;
        }
    }
}

fn status_line(port: u16, pending: &PendingList) -> String {
    let pending: String = pending.list().iter().map(|content| format!("; {content}")).collect();
    format!("seeding on port {port}{pending}")
}

enum Found {
    Ready(Box<Source>, Trust),
    /// Its content has to be hashed first.
    Unhashed,
}

/// What a path names, as far as that is known without reading content.
fn find(path: &Path, options: &SeedOptions, output: &Output) -> Result<Found, Failure> {
    check_pattern(path)?;
    if !is_torrent(path) {
        return Ok(match made::find(path, &options.engine.metainfo)? {
            Content::Known(made) => Found::Ready(Box::new(of_made(&made, options)), made.trust),
            Content::Unhashed(_) => Found::Unhashed,
        });
    }
    if matches!(options.verify, VerifyMode::Full) {
        return Ok(Found::Unhashed);
    }
    let metainfo = load_metainfo(path, &options.engine.metainfo, output)?;
    let folder = options.data.clone().unwrap_or_else(|| folder_of(path));
    let (have, trust) = match options.verify {
        VerifyMode::Never => {
            let Survey { have, files, .. } = look(&metainfo, &folder, output)?;
            (have, Trust::Blind { files })
        }
        VerifyMode::Full | VerifyMode::Lazy => match recall(&metainfo, &folder) {
            Some(trust) => (Bitfield::full(metainfo.info.geometry.piece_count()), trust),
            None => (look(&metainfo, &folder, output)?.have, Trust::None),
        },
    };
    let source = source_with_data(metainfo, folder, have, &trust, options)?;
    Ok(Found::Ready(Box::new(source), trust))
}

/// A `.torrent` with its content, or content whose torrent is made; hashes what has to be.
fn prepare(path: &Path, around: &Surroundings<'_>) -> Result<(Source, Trust), Failure> {
    let Surroundings { options, output, .. } = around;
    if let Found::Ready(source, trust) = find(path, options, output)? {
        return Ok((*source, trust));
    }
    if !is_torrent(path) {
        let made = made::find(path, &options.engine.metainfo)?.hash(&options.engine.metainfo, around)?;
        return Ok((of_made(&made, options), made.trust));
    }
    let metainfo = load_metainfo(path, &options.engine.metainfo, output)?;
    let folder = options.data.clone().unwrap_or_else(|| folder_of(path));
    let (have, trust) = hash_all(&metainfo, &folder, around)?;
    let source = source_with_data(metainfo, folder, have, &trust, options)?;
    Ok((source, trust))
}

/// A pattern that the shell left as it is because nothing matches.
fn check_pattern(path: &Path) -> Result<(), Failure> {
    let is_pattern = path.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte));
    if !is_pattern || path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let line = format!("nothing to serve: no file is named {}: put content there, then start again", shown(path));
    Err(Failure::new(Exit::Usage, line))
}

fn of_made(made: &Made, options: &SeedOptions) -> Source {
    let have = Bitfield::full(made.metainfo.info.geometry.piece_count());
    source(made.metainfo.clone(), made.folder.clone(), have, &made.trust, options)
}

/// Refuses a torrent without any content.
fn source_with_data(
    metainfo: Metainfo,
    folder: PathBuf,
    have: Bitfield,
    trust: &Trust,
    options: &SeedOptions,
) -> Result<Source, Failure> {
    if have.is_empty() && have.piece_count() > 0 {
        let advice = match &options.data {
            None => "name the folder that holds it with --data",
            Some(_) => "give --data the folder that holds it, or fetch it with bt-fast get",
        };
        let (folder, name) = (shown(&folder), printable(&metainfo.info.name));
        let line = format!("no data: {folder}: no right piece of '{name}' is there: {advice}");
        return Err(Failure::new(Exit::Mismatch, line));
    }
    Ok(source(metainfo, folder, have, trust, options))
}

fn source(metainfo: Metainfo, folder: PathBuf, have: Bitfield, trust: &Trust, options: &SeedOptions) -> Source {
    let tiers = tiers(&metainfo.tiers, &options.network);
    let provenance = match trust {
        Trust::Checked { files } | Trust::Remembered { files, .. } | Trust::Blind { files } => {
            Provenance::Known(files.clone())
        }
        Trust::None => Provenance::Unknown,
    };
    Source { metainfo, folder, have, choices: None, provenance, target: None, earlier: None, tiers, peers: Vec::new() }
}

/// Why content need not be hashed before it is served, and what its files were then.
enum Trust {
    /// It has just been hashed.
    Checked { files: Box<[Option<FileIdentity>]> },
    /// A check found it right, at this time in seconds since 1970, and no file has changed since.
    Remembered { date: i64, files: Box<[Option<FileIdentity>]> },
    /// The user said so.
    Blind { files: Box<[Option<FileIdentity>]> },
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
            remembered: if let Trust::Remembered { date, .. } = trust { Some(*date) } else { None },
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
fn recall(metainfo: &Metainfo, folder: &Path) -> Option<Trust> {
    let content = observe(&metainfo.info, folder)?;
    let date = Check::begin().recall(metainfo.info_hash, &content)?;
    Some(Trust::Remembered { date, files: content.by_file(&metainfo.info) })
}

/// Every piece is hashed; those that are right are served.
fn hash_all(metainfo: &Metainfo, folder: &Path, around: &Surroundings<'_>) -> Result<(Bitfield, Trust), Failure> {
    let Surroundings { output, stop, pending, .. } = around;
    let check = Check::begin();
    let progress = ContentProgress::new(output, "checking", metainfo.info.geometry.total_len());
    let pending = pending.begin(printable(&metainfo.info.name), metainfo.info.geometry.total_len());
    let control = Control {
        cancel: stop,
        progress: &|done| {
            pending.advance(done);
            progress.update(done);
        },
    };
    let report = match observe(&metainfo.info, folder) {
        Some(seen) => {
            let mut journal = check.journal(&seen, &metainfo.info.geometry);
            let report = verify_with(&metainfo.info, folder, &seen, &mut journal, control)?;
            journal.remove();
            report
        }
        None => verify(&metainfo.info, folder, None, control)?,
    };
    drop((progress, pending));
    check.conclude(metainfo, &report);
    let wrong = report.have.piece_count() - report.have.count();
    if wrong > 0 {
        output.warning(format_args!(
            "{}: {wrong} of {} pieces are missing or wrong in {} and are not served",
            printable(&metainfo.info.name),
            report.have.piece_count(),
            shown(folder)
        ));
    }
    Ok((report.have, Trust::Checked { files: check.settled(report.files.into()) }))
}

/// File lengths alone; content is hashed before it is served, or trusted.
fn look(metainfo: &Metainfo, folder: &Path, output: &Output) -> Result<Survey, Failure> {
    let found = survey(&metainfo.info, folder)?;
    if !found.have.is_empty() {
        for (path, presence) in found.misfits.iter().take(MISFITS_SHOWN_MAX) {
            let what = match presence {
                Presence::Absent => "is missing",
                Presence::Present { .. } => "is too short",
            };
            output.warning(format_args!("{} {what}: its pieces are not served", shown(path)));
        }
        if found.misfits.len() > MISFITS_SHOWN_MAX {
            output.warning(format_args!("{} more files are not served", found.misfits.len() - MISFITS_SHOWN_MAX));
        }
    }
    Ok(found)
}
