//! The session of `get`: the engine on this thread, the thread that adds torrents, and the one that reports results.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, OnceLock};
use std::thread;

use super::command::Command;
use super::download::Download;
use super::seeding::Seeding;
use super::tally::{Outcome, Tally};
use crate::base::escape::printed;
use crate::base::lock::lock;
use crate::base::units::Count;
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::load::Loaded;
use crate::cli::options::MetainfoSource;
use crate::cli::progress::{TransferProgress, TransferSnapshot, TransferWork};
use crate::cli::records::Record;
use crate::engine::{
    self, ChangeSender, Channels, Config, Departure, EngineError, Report, Snapshot, Source, change_channel,
};
use crate::io::start_scoped;
use crate::storage::PromisedSpace;

/// The downloads of one `get`, and their results.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) command: Command<'a>,
    pub(super) folder: &'a Path,
    pub(super) config: &'a Config,
    /// The number of arguments that name torrents. With several, each failure is reported by itself.
    argument_count: usize,
    /// Arguments that name the torrent of another argument.
    duplicate_count: AtomicUsize,
    /// Downloads that are in the session or about to be.
    downloads: Mutex<HashMap<InfoHash, Download<'a>>>,
    /// Bytes of all downloads so far.
    total_len: AtomicU64,
    /// Set to end the session.
    ended: AtomicBool,
    /// Every argument has been added or refused.
    pub(super) is_loaded: AtomicBool,
    /// The port for peers, set as soon as the session serves.
    pub(super) port: OnceLock<u16>,
    tally: Mutex<Tally>,
    /// The disk space that the downloads need together.
    space: Mutex<PromisedSpace>,
    /// `None` before the session serves and after its last download has left.
    progress: Mutex<Option<TransferProgress<'a>>>,
}

/// Adds torrents to the session through the channel.
pub(super) type Intake<'f> = Box<dyn FnOnce(&ChangeSender) + Send + 'f>;

impl<'a> Session<'a> {
    /// Creates a session for `argument_count` arguments that name torrents.
    pub(super) fn new(command: Command<'a>, folder: &'a Path, config: &'a Config, argument_count: usize) -> Self {
        Self {
            command,
            folder,
            config,
            argument_count,
            duplicate_count: AtomicUsize::new(0),
            downloads: Mutex::default(),
            total_len: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            is_loaded: AtomicBool::new(false),
            port: OnceLock::new(),
            tally: Mutex::default(),
            space: Mutex::default(),
            progress: Mutex::default(),
        }
    }

    /// The number of torrents that the arguments name.
    pub(super) fn torrent_count(&self) -> usize {
        self.argument_count - self.duplicate_count.load(Ordering::Relaxed)
    }

    pub(super) fn take_tally(&self) -> Tally {
        std::mem::take(&mut *lock(&self.tally))
    }

    /// Whether the session has ended or is about to.
    pub(super) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.command.stop.load(Ordering::Relaxed)
    }

    /// Prepares a download; the session must get the source that is returned.
    pub(super) fn prepare(&self, loaded: Loaded, argument: &'a MetainfoSource) -> Result<Source, Failure> {
        let (download, source) = Download::prepare(self.command, loaded, argument, self.folder, &self.space)?;
        self.total_len.fetch_add(download.total_len, Ordering::Relaxed);
        lock(&self.downloads).insert(download.info_hash, download);
        Ok(source)
    }

    /// Reports the result of one argument.
    pub(super) fn handle_outcome(&self, argument: &MetainfoSource, outcome: Outcome) {
        if let Some(Failure { exit, line }) = outcome.failure()
            && self.argument_count > 1
        {
            let output = self.command.output;
            if *exit == Exit::NoPeers {
                // The line names no torrent.
                output.error(format_args!("{argument}: {line}"));
            } else {
                output.error(line);
            }
            if let Outcome::Failed(_) = outcome {
                let torrent = argument.to_string();
                let message = printed(line);
                output.record(&Record::NotDownloaded { torrent: &torrent, exit: *exit as u8, message: &message });
            }
        }
        lock(&self.tally).add(outcome);
    }

    /// The argument names the torrent of another argument.
    pub(super) fn handle_duplicate(&self, argument: &MetainfoSource) {
        self.duplicate_count.fetch_add(1, Ordering::Relaxed);
        self.command
            .output
            .warning(format_args!("{argument}: this torrent is given more than once and is downloaded once"));
    }

    /// Runs the engine on this thread until every download has ended, or with `--seed` until a condition of it is met
    /// or the user ends it. `intake` adds further torrents, on a thread of its own.
    pub(super) fn run(&self, sources: Vec<Source>, intake: Option<Intake<'_>>) -> Result<(), Failure> {
        let (departures, departed) = sync_channel(limits::DEPARTURES_WAITING_MAX);
        thread::scope(|scope| {
            // Ends when the sender of the departures is dropped.
            start_scoped(scope, "departures", || {
                departed.into_iter().for_each(|departure| self.handle_departure(departure));
            })?;
            let changes = intake.map(|intake| {
                let (changes, inbox) = change_channel();
                start_scoped(scope, "intake", move || intake(&changes)).map(|_| inbox)
            });
            let changes = changes.transpose()?;
            let ended = self.serve(sources, Channels { changes, departures: Some(departures) });
            self.ended.store(true, Ordering::Relaxed);
            if ended.is_err() {
                // Ends the checks of content that is there.
                self.command.stop.store(true, Ordering::Relaxed);
            }
            ended.map(drop).map_err(Failure::from)
        })
    }

    fn handle_departure(&self, departure: Departure) {
        let Departure { info_hash, result } = departure;
        let Some(mut download) = lock(&self.downloads).remove(&info_hash) else { return };
        self.clear_idle_progress();
        let outcome = match result {
            Ok(end) => download.conclude(&end),
            Err(error) => Outcome::Failed(self.failure_of(error, &download)),
        };
        self.handle_outcome(download.argument, outcome);
    }

    /// Returns the failure of a download, which names the torrent if there are several.
    fn failure_of(&self, error: EngineError, download: &Download<'_>) -> Failure {
        // The lack of peers is named with the others of its kind, and an error of storage names its place.
        let is_named = matches!(error, EngineError::Storage(_) | EngineError::NoPeers(_) | EngineError::HungUp(_));
        let failure = Failure::from(error);
        if is_named || self.argument_count == 1 {
            return failure;
        }
        Failure::new(failure.exit, format_args!("{}: {}", download.argument, failure.line))
    }

    fn serve(&self, sources: Vec<Source>, channels: Channels) -> Result<Report, EngineError> {
        let Command { options, stop, output } = self.command;
        let mut seeding = options.seed.map(Seeding::new);
        *lock(&self.progress) = Some(TransferProgress::new(output));
        let ended = engine::run(self.config, sources, channels, &self.ended, &mut |now| {
            self.port.get_or_init(|| now.port);
            let end_reason = seeding.as_mut().and_then(|seeding| self.poll_seeding(seeding, now));
            if let Some(reason) = &end_reason {
                output.message(format_args!("stopping: {reason}"));
            }
            if end_reason.is_some() || stop.load(Ordering::Relaxed) {
                self.ended.store(true, Ordering::Relaxed);
            }
            self.clear_idle_progress();
            self.show_progress(now);
        });
        *lock(&self.progress) = None;
        ended
    }

    /// Clears the progress line for good if the session is over or its last download has left, so that the line is not
    /// drawn below results.
    fn clear_idle_progress(&self) {
        let mut progress = lock(&self.progress);
        let has_left = || self.is_loaded.load(Ordering::Relaxed) && lock(&self.downloads).is_empty();
        if self.is_over() || has_left() {
            *progress = None;
        }
    }

    fn show_progress(&self, now: &Snapshot) {
        let progress = lock(&self.progress);
        let Some(progress) = &*progress else { return };
        let label = self.label();
        let total = self.total_len.load(Ordering::Relaxed);
        let work = if self.is_all_seeding() {
            TransferWork::Uploading { label: &label, total, sent: now.uploaded }
        } else {
            TransferWork::Downloading { label: &label, done: now.have_len, total }
        };
        progress.update(TransferSnapshot {
            work,
            down_bytes_per_s: now.down_bytes_per_s,
            up_bytes_per_s: now.up_bytes_per_s,
            peers: now.peer_count,
            known_peers: now.known_peer_count,
        });
    }

    /// Returns the name of the only download, or the number of them.
    fn label(&self) -> String {
        let downloads = lock(&self.downloads);
        match (self.torrent_count(), downloads.values().next()) {
            (1, Some(download)) => download.name.clone(),
            (count, _) => Count(count as u64, "torrent").to_string(),
        }
    }

    /// Returns whether every torrent is there, and all of them are complete and keep uploading.
    fn is_all_seeding(&self) -> bool {
        self.is_loaded.load(Ordering::Relaxed) && lock(&self.downloads).values().all(Download::is_seeding)
    }

    /// Notes which downloads are complete. Returns the reason to end if all are and a condition of `--seed` is met.
    fn poll_seeding(&self, seeding: &mut Seeding, now: &Snapshot) -> Option<String> {
        let until = seeding.until;
        let mut downloads = lock(&self.downloads);
        for download in downloads.values_mut() {
            if !download.is_seeding() && self.config.contents.is_complete(download.info_hash) {
                download.begin_seeding(until);
            }
            download.poll_hook();
        }
        let is_complete = self.is_loaded.load(Ordering::Relaxed) && downloads.values().all(Download::is_seeding);
        let total_len = downloads.values().map(|download| download.total_len).sum();
        if is_complete { seeding.met(now, total_len) } else { None }
    }
}
