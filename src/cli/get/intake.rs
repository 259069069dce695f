//! The torrents of a `get` with several: loads them, side by side where a network is involved, and adds them to the
//! running session.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::session::Session;
use super::tally::Outcome;
use crate::base::lock::lock;
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::load::{Loaded, Loader, Purpose};
use crate::cli::options::MetainfoSource;
use crate::create::open::shown;
use crate::engine::magnet::Listening;
use crate::engine::{Change, ChangeSender};
use crate::io::start_scoped;

/// Interval at which a thread checks whether the session serves.
const START_POLL: Duration = Duration::from_millis(10);

/// Interval at which the end of the session is checked while torrents are fetched.
const END_POLL: Duration = Duration::from_millis(50);

/// A torrent of the command line that is to be fetched.
struct Remote<'a> {
    argument: &'a MetainfoSource,
    /// Ends its fetch.
    stop: AtomicBool,
}

impl<'a> Remote<'a> {
    fn new(argument: &'a MetainfoSource) -> Self {
        Self { argument, stop: AtomicBool::new(false) }
    }

    /// Returns the info-hash of a magnet link. That of a URL is unknown.
    fn info_hash(&self) -> Option<InfoHash> {
        if let MetainfoSource::Magnet(magnet) = self.argument { Some(magnet.info_hash) } else { None }
    }
}

/// A torrent of the command line that was fetched, or the reason why not.
struct Fetched<'r, 'a> {
    remote: &'r Remote<'a>,
    result: Result<Loaded, Failure>,
}

/// The fetch of a magnet link that failed.
struct FailedLink<'a> {
    argument: &'a MetainfoSource,
    info_hash: InfoHash,
    failure: Failure,
}

/// A torrent of the command line that is read from a file or standard input.
struct Local<'a> {
    argument: &'a MetainfoSource,
    loaded: Loaded,
}

/// The torrents that the session does not have yet. Of several sources of a torrent, the first that is loaded counts;
/// the others are duplicates.
pub(super) struct Intake<'s, 'a> {
    session: &'s Session<'a>,
    local: Vec<Local<'a>>,
    remotes: Vec<Remote<'a>>,
    /// The torrents that are loaded; each is downloaded once.
    known: HashSet<InfoHash>,
    /// Names of the content so far.
    names: HashSet<Vec<u8>>,
    /// Another source may still have their torrents.
    failed_links: Vec<FailedLink<'a>>,
}

impl<'s, 'a> Intake<'s, 'a> {
    /// Loads the torrents of files and standard input. One that cannot be loaded is reported.
    ///
    /// Fails if two of them would write to the same place.
    pub(super) fn new(session: &'s Session<'a>, arguments: &'a [MetainfoSource]) -> Result<Self, Failure> {
        let mut intake = Self {
            session,
            local: Vec::new(),
            remotes: Vec::new(),
            known: HashSet::new(),
            names: HashSet::new(),
            failed_links: Vec::new(),
        };
        // Files come first: the metadata of a link to the same torrent need not be fetched.
        let loader = session.command.loader(session.config, Listening::Here, Purpose::Download);
        for argument in arguments.iter().filter(|argument| is_local(argument)) {
            match loader.load(argument) {
                Ok(loaded) => {
                    if intake.claim(loaded.metainfo.info_hash, argument) {
                        intake.claim_name(&loaded)?;
                        intake.local.push(Local { argument, loaded });
                    }
                }
                Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
                Err(failure) => session.handle_outcome(argument, Outcome::Failed(failure)),
            }
        }
        for remote in arguments.iter().filter(|argument| !is_local(argument)).map(Remote::new) {
            if remote.info_hash().is_some_and(|info_hash| intake.known.contains(&info_hash)) {
                session.handle_duplicate(remote.argument);
            } else {
                intake.remotes.push(remote);
            }
        }
        // Links that wait for peers must not hold up URLs.
        intake.remotes.sort_by_key(|remote| remote.info_hash().is_some());
        Ok(intake)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remotes.is_empty()
    }

    /// Adds each torrent to the session as it becomes ready.
    pub(super) fn run(mut self, changes: &ChangeSender) {
        let session = self.session;
        let remotes = std::mem::take(&mut self.remotes);
        let queue = Mutex::new(remotes.iter().collect::<VecDeque<_>>());
        let thread_count = remotes.len().min(limits::FETCHES_AT_ONCE);
        let (results, fetched) = sync_channel(limits::FETCHES_AT_ONCE);
        thread::scope(|scope| {
            for started in 0..thread_count {
                let results = results.clone();
                let Err(error) = start_scoped(scope, "intake-fetch", || fetch(session, &queue, results)) else {
                    continue;
                };
                if started == 0 {
                    let unfetched = std::mem::take(&mut *lock(&queue));
                    let failed = || Outcome::Failed(Failure::new(Exit::Failed, &error));
                    unfetched.into_iter().for_each(|remote| session.handle_outcome(remote.argument, failed()));
                }
                break;
            }
            drop(results);
            for Local { argument, loaded } in std::mem::take(&mut self.local) {
                self.add(argument, loaded, changes);
            }
            loop {
                match fetched.recv_timeout(END_POLL) {
                    Ok(fetched) => self.handle_fetched(fetched, &remotes, changes),
                    Err(RecvTimeoutError::Timeout) if session.is_over() => {
                        remotes.iter().for_each(|remote| remote.stop.store(true, Ordering::Relaxed));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        });
        for FailedLink { argument, info_hash, failure } in std::mem::take(&mut self.failed_links) {
            // Of several links to a torrent, the first reports that it cannot be loaded.
            if self.claim(info_hash, argument) {
                session.handle_outcome(argument, Outcome::Failed(failure));
            }
        }
        session.is_loaded.store(true, Ordering::Relaxed);
    }

    fn handle_fetched(&mut self, fetched: Fetched<'_, 'a>, remotes: &[Remote<'a>], changes: &ChangeSender) {
        let Fetched { remote, result } = fetched;
        let argument = remote.argument;
        match (result, remote.info_hash()) {
            (Ok(loaded), _) => {
                let info_hash = loaded.metainfo.info_hash;
                if !self.claim(info_hash, argument) {
                    return;
                }
                // Ends the fetches of other links to the same torrent.
                for other in remotes.iter().filter(|other| other.info_hash() == Some(info_hash)) {
                    other.stop.store(true, Ordering::Relaxed);
                }
                match self.claim_name(&loaded) {
                    Ok(()) => self.add(argument, loaded, changes),
                    Err(failure) => self.session.handle_outcome(argument, Outcome::Failed(failure)),
                }
            }
            (Err(_), Some(info_hash)) if self.known.contains(&info_hash) => self.session.handle_duplicate(argument),
            (Err(failure), Some(info_hash)) => self.failed_links.push(FailedLink { argument, info_hash, failure }),
            (Err(failure), None) => self.session.handle_outcome(argument, Outcome::Failed(failure)),
        }
    }

    /// Adds a torrent to the session, or reports why it cannot be downloaded.
    fn add(&self, argument: &'a MetainfoSource, loaded: Loaded, changes: &ChangeSender) {
        if self.session.is_over() {
            return;
        }
        match self.session.prepare(loaded, argument) {
            Ok(source) => changes.send(Change::Add(Box::new(source))),
            Err(_) if self.session.is_over() => {}
            Err(failure) => self.session.handle_outcome(argument, Outcome::Failed(failure)),
        }
    }

    /// Returns false, with a warning, if the torrent is known already.
    fn claim(&mut self, info_hash: InfoHash, argument: &MetainfoSource) -> bool {
        let is_new = self.known.insert(info_hash);
        if !is_new {
            self.session.handle_duplicate(argument);
        }
        is_new
    }

    /// Fails if another torrent writes to the same place.
    fn claim_name(&mut self, loaded: &Loaded) -> Result<(), Failure> {
        let name = &loaded.metainfo.info.name;
        if self.names.insert(name.clone()) {
            return Ok(());
        }
        let place = shown(&self.session.folder.join(OsStr::from_bytes(name)));
        let line =
            format_args!("can't download: {place}: two torrents have this name: run get for each, with another -o");
        Err(Failure::new(Exit::Failed, line))
    }
}

fn is_local(argument: &MetainfoSource) -> bool {
    matches!(argument, MetainfoSource::File(_) | MetainfoSource::Stdin)
}

/// Fetches torrents of the queue, one after another, until it is empty or the session is over.
fn fetch<'r, 'a>(session: &Session<'a>, queue: &Mutex<VecDeque<&'r Remote<'a>>>, results: SyncSender<Fetched<'r, 'a>>) {
    while !session.is_over() {
        let Some(&port) = session.port.get() else {
            thread::sleep(START_POLL);
            continue;
        };
        let Some(remote) = lock(queue).pop_front() else { return };
        let loader = session.command.loader(session.config, Listening::InSession(port), Purpose::Download);
        let result = Loader { stop: &remote.stop, ..loader }.load(remote.argument);
        if session.is_over() || results.send(Fetched { remote, result }).is_err() {
            return;
        }
    }
}
