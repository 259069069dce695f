//! The torrents of a `get` with several: loads them, side by side where a network is involved, and adds them to the
//! running session.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::session::Session;
use crate::base::lock::lock;
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::load::{Loaded, Purpose};
use crate::cli::options::MetainfoSource;
use crate::create::open::shown;
use crate::engine::Change;
use crate::engine::magnet::Listening;

/// Interval at which a thread checks whether the session serves.
const START_POLL: Duration = Duration::from_millis(10);

/// A torrent of the command line that was fetched, or the reason why not.
struct Fetched<'a> {
    word: &'a MetainfoSource,
    result: Result<Loaded, Failure>,
}

/// A torrent of the command line that is read from a file or standard input.
struct Local<'a> {
    word: &'a MetainfoSource,
    loaded: Loaded,
}

/// The torrents that the session does not have yet.
pub(super) struct Intake<'s, 'a> {
    session: &'s Session<'a>,
    local: Vec<Local<'a>>,
    /// Those that are to be fetched.
    remote: VecDeque<&'a MetainfoSource>,
    /// The torrents so far; each is downloaded once.
    known: HashSet<InfoHash>,
    /// Names of the content so far.
    names: HashSet<Vec<u8>>,
}

impl<'s, 'a> Intake<'s, 'a> {
    /// Loads the torrents of files and standard input. One that cannot be loaded is reported.
    ///
    /// Fails if two of them would write to the same place.
    pub(super) fn new(session: &'s Session<'a>, words: &'a [MetainfoSource]) -> Result<Self, Failure> {
        let mut intake =
            Self { session, local: Vec::new(), remote: VecDeque::new(), known: HashSet::new(), names: HashSet::new() };
        // Files come first: the metadata of a link to the same torrent need not be fetched.
        let loader = session.command.loader(session.config, Listening::Here, Purpose::Download);
        for word in words.iter().filter(|word| is_local(word)) {
            match loader.load(word) {
                Ok(loaded) => {
                    if intake.claim(loaded.metainfo.info_hash, word) {
                        intake.claim_name(&loaded)?;
                        intake.local.push(Local { word, loaded });
                    }
                }
                Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
                Err(failure) => session.handle_result(word, Err(failure)),
            }
        }
        for word in words.iter().filter(|word| !is_local(word)) {
            let is_new = match word {
                MetainfoSource::Magnet(magnet) => intake.claim(magnet.info_hash, word),
                _ => true,
            };
            intake.remote.extend(is_new.then_some(word));
        }
        Ok(intake)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.local.is_empty() && self.remote.is_empty()
    }

    /// Adds each torrent to the session as it becomes ready.
    pub(super) fn run(mut self, changes: &mpsc::Sender<Change>) {
        let session = self.session;
        let queue = Mutex::new(std::mem::take(&mut self.remote));
        let thread_count = lock(&queue).len().min(limits::FETCHES_AT_ONCE);
        let (results, fetched) = sync_channel(limits::FETCHES_AT_ONCE);
        thread::scope(|scope| {
            for _ in 0..thread_count {
                let results = results.clone();
                scope.spawn(|| fetch(session, &queue, results));
            }
            drop(results);
            for Local { word, loaded } in std::mem::take(&mut self.local) {
                self.add(word, loaded, changes);
            }
            for Fetched { word, result } in fetched {
                let result = result.and_then(|loaded| {
                    let is_link = matches!(word, MetainfoSource::Magnet(_));
                    if !is_link && !self.claim(loaded.metainfo.info_hash, word) {
                        return Ok(None);
                    }
                    self.claim_name(&loaded).map(|()| Some(loaded))
                });
                match result {
                    Ok(Some(loaded)) => self.add(word, loaded, changes),
                    Ok(None) => {}
                    Err(failure) => session.handle_result(word, Err(failure)),
                }
            }
        });
        session.is_loaded.store(true, Ordering::Relaxed);
    }

    /// Adds a torrent to the session, or reports why it cannot be downloaded.
    fn add(&self, word: &'a MetainfoSource, loaded: Loaded, changes: &mpsc::Sender<Change>) {
        if self.session.is_over() {
            return;
        }
        match self.session.prepare(loaded, word) {
            // Fails if the session has ended.
            Ok(source) => _ = changes.blocking_send(Change::Add(Box::new(source))),
            Err(_) if self.session.is_over() => {}
            Err(failure) => self.session.handle_result(word, Err(failure)),
        }
    }

    /// Returns false, with a warning, if the torrent is known already.
    fn claim(&mut self, info_hash: InfoHash, word: &MetainfoSource) -> bool {
        let is_new = self.known.insert(info_hash);
        if !is_new {
            self.session.handle_duplicate(word);
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

fn is_local(word: &MetainfoSource) -> bool {
    matches!(word, MetainfoSource::File(_) | MetainfoSource::Stdin)
}

/// Fetches torrents of the queue, one after another, until it is empty or the session is over.
fn fetch<'a>(session: &Session<'a>, queue: &Mutex<VecDeque<&'a MetainfoSource>>, results: SyncSender<Fetched<'a>>) {
    while !session.is_over() {
        let Some(&port) = session.port.get() else {
            thread::sleep(START_POLL);
            continue;
        };
        let Some(word) = lock(queue).pop_front() else { return };
        let loader = session.command.loader(session.config, Listening::InSession(port), Purpose::Download);
        let result = loader.load(word);
        if session.is_over() || results.send(Fetched { word, result }).is_err() {
            return;
        }
    }
}
