//! The session of `get`: the engine on this thread, the thread that adds torrents, and the one that reports results.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, OnceLock};
use std::thread;

use tokio::sync::mpsc;

use super::Command;
use super::download::Download;
use super::seeding::Seeding;
use super::tally::Tally;
use crate::base::lock::lock;
use crate::base::units::Count;
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::load::Loaded;
use crate::cli::options::MetainfoSource;
use crate::cli::progress::{TransferProgress, TransferSnapshot};
use crate::cli::records::Record;
use crate::engine::{self, Change, Channels, Config, Departure, EngineError, Report, Snapshot, Source};
use crate::storage::PromisedSpace;

/// The downloads of one `get`, and their results.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) command: Command<'a>,
    pub(super) folder: &'a Path,
    pub(super) config: &'a Config,
    /// The number of words of the command line. With several, each failure is reported by itself.
    word_count: usize,
    /// Words that name the torrent of another word.
    duplicate_count: AtomicUsize,
    /// Downloads that are in the session or about to be.
    downloads: Mutex<HashMap<InfoHash, Download<'a>>>,
    /// Bytes of all downloads so far.
    total_len: AtomicU64,
    /// Set to end the session.
    ended: AtomicBool,
    /// Every word has been added or refused.
    pub(super) is_loaded: AtomicBool,
    /// The port for peers, set as soon as the session serves.
    pub(super) port: OnceLock<u16>,
    tally: Mutex<Tally>,
    /// The disk space that the downloads need together.
    space: Mutex<PromisedSpace>,
}

/// Adds torrents to the session through the channel.
pub(super) type Intake<'f> = Box<dyn FnOnce(&mpsc::Sender<Change>) + Send + 'f>;

/// The progress that is shown, and the bytes that it counts to. It begins anew when a torrent is added.
struct ShownProgress<'a> {
    total_len: u64,
    progress: TransferProgress<'a>,
}

impl<'a> Session<'a> {
    /// Creates a session for `word_count` words of the command line.
    pub(super) fn new(command: Command<'a>, folder: &'a Path, config: &'a Config, word_count: usize) -> Self {
        Self {
            command,
            folder,
            config,
            word_count,
            duplicate_count: AtomicUsize::new(0),
            downloads: Mutex::default(),
            total_len: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            is_loaded: AtomicBool::new(false),
            port: OnceLock::new(),
            tally: Mutex::default(),
            space: Mutex::default(),
        }
    }

    /// The number of torrents that the words name.
    pub(super) fn torrent_count(&self) -> usize {
        self.word_count - self.duplicate_count.load(Ordering::Relaxed)
    }

    pub(super) fn take_tally(&self) -> Tally {
        std::mem::take(&mut *lock(&self.tally))
    }

    /// Whether the session has ended or is about to.
    pub(super) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.command.stop.load(Ordering::Relaxed)
    }

    /// Prepares a download; the session must get the source that is returned.
    pub(super) fn prepare(&self, loaded: Loaded, word: &'a MetainfoSource) -> Result<Source, Failure> {
        let (download, source) = Download::prepare(self.command, loaded, word, self.folder, &self.space)?;
        self.total_len.fetch_add(download.total_len, Ordering::Relaxed);
        lock(&self.downloads).insert(download.info_hash, download);
        Ok(source)
    }

    /// Reports the result of one word.
    pub(super) fn handle_result(&self, word: &MetainfoSource, result: Result<(), Failure>) {
        if let Err(Failure { exit, line }) = &result
            && self.word_count > 1
        {
            let output = self.command.output;
            if *exit == Exit::NoPeers {
                // The line names no torrent.
                output.error(format_args!("{word}: {line}"));
            } else {
                output.error(line);
            }
            output.record(&Record::NotDownloaded { torrent: &word.to_string(), exit: *exit as u8, message: line });
        }
        lock(&self.tally).add(result);
    }

    /// The word names the torrent of another word.
    pub(super) fn handle_duplicate(&self, word: &MetainfoSource) {
        self.duplicate_count.fetch_add(1, Ordering::Relaxed);
        self.command
            .output
            .warning(format_args!("{word}: this torrent is given more than once and is downloaded once"));
    }

    /// Runs the engine on this thread until every download has ended, or with `--seed` until a condition of it is met
    /// or the user ends it.
    /// `intake` adds further torrents, on a thread of its own.
    pub(super) fn run(&self, sources: Vec<Source>, intake: Option<Intake<'_>>) -> Result<(), Failure> {
        let (departures, departed) = sync_channel(limits::DEPARTURES_WAITING_MAX);
        thread::scope(|scope| {
            scope.spawn(|| departed.into_iter().for_each(|departure| self.handle_departure(departure)));
            let changes = intake.map(|intake| {
                let (changes, inbox) = mpsc::channel(limits::CHANGES_AT_ONCE);
                scope.spawn(move || intake(&changes));
                inbox
            });
            let ended = self.serve(sources, Channels { changes, departures: Some(departures) });
            self.ended.store(true, Ordering::Relaxed);
            if ended.is_err() {
                // Ends the fetches.
                self.command.stop.store(true, Ordering::Relaxed);
            }
            ended.map(drop).map_err(Failure::from)
        })
    }

    fn handle_departure(&self, departure: Departure) {
        let Departure { info_hash, result } = departure;
        let Some(mut download) = lock(&self.downloads).remove(&info_hash) else { return };
        let result = result.map_err(Failure::from).and_then(|end| download.conclude(&end));
        self.handle_result(download.word, result);
    }

    fn serve(&self, sources: Vec<Source>, channels: Channels) -> Result<Report, EngineError> {
        let Command { options, stop, output } = self.command;
        let mut seeding = options.seed.map(Seeding::new);
        let mut shown: Option<ShownProgress<'_>> = None;
        engine::run(self.config, sources, channels, &self.ended, &mut |now| {
            self.port.get_or_init(|| now.port);
            let end_reason = seeding.as_mut().and_then(|seeding| self.seed(seeding, now));
            end_reason.iter().for_each(|reason| output.message(format_args!("stopping: {reason}")));
            if end_reason.is_some() || stop.load(Ordering::Relaxed) {
                self.ended.store(true, Ordering::Relaxed);
            }
            let total_len = self.total_len.load(Ordering::Relaxed);
            if shown.as_ref().is_none_or(|shown| shown.total_len != total_len) {
                drop(shown.take());
                let progress = TransferProgress::download(output, &self.label(), total_len);
                shown = Some(ShownProgress { total_len, progress });
            }
            let snapshot = TransferSnapshot {
                done: now.have_len,
                down_bytes_per_s: now.down_bytes_per_s,
                up_bytes_per_s: now.up_bytes_per_s,
                peers: now.peer_count,
                known_peers: now.known_peer_count,
                hosts: "",
            };
            shown.iter().for_each(|shown| shown.progress.update(snapshot));
        })
    }

    /// Returns the name of the only download, or the number of them.
    fn label(&self) -> String {
        let downloads = lock(&self.downloads);
        match (self.word_count, downloads.values().next()) {
            (1, Some(download)) => download.name.clone(),
            _ => Count(self.word_count as u64, "torrent").to_string(),
        }
    }

    /// Notes which downloads are complete. Returns the reason to end if all are and a condition of `--seed` is met.
    fn seed(&self, seeding: &mut Seeding, now: &Snapshot) -> Option<String> {
        let until = seeding.until;
        let mut downloads = lock(&self.downloads);
        for download in downloads.values_mut() {
            if !download.is_seeding && self.config.contents.is_complete(download.info_hash) {
                download.begin_seeding(until);
            }
            download.poll_hook();
        }
        let is_complete =
            self.is_loaded.load(Ordering::Relaxed) && downloads.values().all(|download| download.is_seeding);
        let total_len = downloads.values().map(|download| download.total_len).sum();
        if is_complete { seeding.met(now, total_len) } else { None }
    }
}
