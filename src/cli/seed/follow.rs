//! Follows the content that `seed` serves: a new version is hashed and published in place of the old one, and SIGHUP
//! reads the paths of the command line again.
//!
//! The files are compared by name, length, inode and times. Their bytes are read only if these differ. The engine
//! checks every byte that it sends on its own, so that a change between two comparisons sends no wrong byte.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::handle::SessionHandle;
use super::inspector::{Inspection, Inspector};
use super::paths::{PathKind, PathState, SeededPath, Version, expand};
use super::prepare::prepare;
use super::prepared::Prepared;
use super::refusals::{record_not_served, warn_of_duplicate};
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::options::{SeedOptions, is_pattern};
use crate::cli::records::Record;
use crate::create::Fingerprint;
use crate::create::open::shown;
use crate::web::site::Availability;

/// Interval at which the thread checks whether a path is due, or SIGHUP has come, or the session is over.
const POLL: Duration = Duration::from_millis(200);

/// Keeps the session in step with the paths of the command line.
pub(super) struct Follower<'a> {
    session: SessionHandle<'a>,
    /// Set by SIGHUP.
    reload: &'a AtomicBool,
    paths: Vec<Followed>,
    /// Content may appear without a change of the files that are followed.
    may_appear: bool,
    /// When every served torrent was first seen to be stopped by a storage fault.
    faulty_since: Option<Instant>,
}

/// A path, its served version, and the last comparison of its files.
struct Followed {
    path: PathBuf,
    kind: PathKind,
    /// `None` if nothing is served.
    served: Option<Version>,
    /// The state of the files that was served or refused last; `None` if they could not be read.
    settled: Option<Fingerprint>,
    /// The files differ from `settled`.
    change: Option<FileChange>,
    /// Time for which changed files must stay the same.
    quiet: Duration,
    /// The last reported reason why the content is not served, which is not repeated.
    refusal: Option<String>,
    due: Instant,
}

#[derive(Clone, Copy)]
struct FileChange {
    /// The last state; `None` if the files could not be read.
    seen: Option<Fingerprint>,
    /// When the files were first seen in this state.
    since: Instant,
}

impl Followed {
    fn new(seeded: SeededPath) -> Self {
        let (served, settled) = match seeded.state {
            PathState::Unhashed => (None, None),
            PathState::Refused(seen) => (None, seen),
            PathState::Served(version) => {
                let seen = version.fingerprint;
                (Some(version), seen)
            }
        };
        Self {
            path: seeded.path,
            kind: seeded.kind,
            served,
            settled,
            change: None,
            quiet: limits::CONTENT_QUIET,
            refusal: None,
            due: Instant::now(),
        }
    }

    /// Whether the files are compared.
    fn is_compared(&self) -> bool {
        self.kind == PathKind::Content
    }

    fn settle(&mut self, seen: Option<Fingerprint>) {
        (self.settled, self.change, self.refusal) = (seen, None, None);
    }
}

/// Returns the pause after work that took this long.
fn pause(took: Duration, least: Duration) -> Duration {
    took.saturating_mul(limits::CONTENT_POLL_RATIO).clamp(least, limits::CONTENT_POLL_INTERVAL_MAX)
}

impl<'a> Follower<'a> {
    pub(super) fn new(paths: Vec<SeededPath>, session: SessionHandle<'a>, reload: &'a AtomicBool) -> Self {
        let SeedOptions { watch, torrents, .. } = session.options;
        let may_appear = watch.is_some() || torrents.iter().any(|path| is_pattern(path));
        let paths = paths.into_iter().map(Followed::new).collect();
        Self { session, reload, paths, may_appear, faulty_since: None }
    }

    /// Follows the paths until the session is over, or until storage faults have stopped all torrents. The session then
    /// ends with the fault, because no thread is left that could add a torrent.
    pub(super) fn run(mut self) {
        let inspector = match Inspector::start() {
            Ok(inspector) => inspector,
            Err(error) => {
                let line = "changed content is not published until a restart";
                return self.session.output.warning(format_args!("can't start a thread: content: {error}: {line}"));
            }
        };
        while !self.session.is_over() && !self.is_lost() {
            if self.reload.swap(false, Ordering::Relaxed) {
                self.read_again();
            }
            let path_count = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
            for followed in &mut self.paths {
                if followed.due <= Instant::now() && followed.is_compared() {
                    let Some(inspection) = inspector.read(&followed.path, &self.session) else { return };
                    compare(followed, &inspection, path_count, &self.session);
                }
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether storage faults have stopped every torrent, and no file has changed that could explain them.
    fn is_lost(&mut self) -> bool {
        let contents = &self.session.contents;
        let served = || self.paths.iter().filter_map(|followed| followed.served.as_ref());
        let can_recover = self.may_appear
            || self.paths.iter().any(|followed| followed.change.is_some())
            || served().next().is_none()
            || served().any(|version| !contents.has_fault(version.info_hash));
        if can_recover {
            self.faulty_since = None;
            return false;
        }
        let since = *self.faulty_since.get_or_insert_with(Instant::now);
        // A change that caused the fault is seen by the next comparison.
        let is_compared = self.paths.iter().any(Followed::is_compared);
        !is_compared || since.elapsed() >= 2 * limits::CONTENT_POLL_INTERVAL
    }

    /// Reads the paths of the command line again: serves content that has appeared, and drops content that is gone.
    fn read_again(&mut self) {
        let SessionHandle { options, output, .. } = &self.session;
        output.message("SIGHUP: reading the paths again");
        let mut known: HashMap<PathBuf, Followed> =
            self.paths.drain(..).map(|followed| (followed.path.clone(), followed)).collect();
        for path in expand(&options.torrents, output) {
            self.paths.push(known.remove(&path).unwrap_or_else(|| Followed::new(SeededPath::refused(path))));
        }
        known.values_mut().for_each(|gone| drop_version(gone, &self.session));
        for followed in &mut self.paths {
            if self.session.is_over() {
                return;
            }
            if followed.path.symlink_metadata().is_err() {
                drop_version(followed, &self.session);
            } else if followed.served.is_none() || is_other_torrent(followed, &self.session) {
                followed.refusal = None;
                update(followed, &self.session);
            }
            followed.due = Instant::now();
        }
    }
}

/// Stops serving the content of a path that is gone.
fn drop_version(followed: &mut Followed, session: &SessionHandle<'_>) {
    if let Some(Version { info_hash, name, len, .. }) = followed.served.take() {
        session.remove(info_hash, len);
        session.output.message(format_args!("stopped serving {name}: {} is gone", shown(&followed.path)));
        session.output.record(&Record::Dropped { info_hash: info_hash.to_string(), name: &name });
    }
    followed.settle(None);
}

/// Whether a `.torrent` was replaced since it was read, or pieces of its content are not served that may be back.
fn is_other_torrent(followed: &Followed, session: &SessionHandle<'_>) -> bool {
    let is_stopped = |version: &Version| is_stopped(version.info_hash, session);
    !followed.is_compared()
        && (Fingerprint::read(&followed.path).ok() != followed.settled
            || followed.served.as_ref().is_some_and(is_stopped))
}

/// Whether the session serves nothing of a torrent, or only a part of what it announced.
fn is_stopped(info_hash: InfoHash, session: &SessionHandle<'_>) -> bool {
    session.contents.has_fault(info_hash) || session.contents.has_unservable(info_hash)
}

/// Compares the files at a path with the version that is served, and serves a new version when they have stayed the same
/// for a while.
fn compare(followed: &mut Followed, inspection: &Inspection, path_count: u32, session: &SessionHandle<'_>) {
    let &Inspection { seen, took } = inspection;
    followed.due = Instant::now() + pause(took.saturating_mul(path_count), limits::CONTENT_POLL_INTERVAL);
    if seen == followed.settled {
        if followed.change.take().is_some() {
            match followed.refusal {
                Some(_) => update(followed, session),
                None => report_unchanged(followed, session),
            }
        }
        return;
    }
    match followed.change {
        Some(change) if change.seen == seen => {
            if change.since.elapsed() >= followed.quiet {
                update(followed, session);
            }
        }
        before => {
            followed.change = Some(FileChange { seen, since: Instant::now() });
            if before.is_none()
                && let Some(version) = &followed.served
            {
                session.set_availability(version.info_hash, Availability::Outdated);
                session.output.warning(format_args!(
                    "{}: its files have changed: they are hashed again when they have stayed the same for {} s",
                    version.name,
                    followed.quiet.as_secs()
                ));
            }
        }
    }
}

/// Prepares the content at a path, and serves it in place of the earlier version.
fn update(followed: &mut Followed, session: &SessionHandle<'_>) {
    let started = Instant::now();
    let before = Fingerprint::read(&followed.path).ok();
    match prepare(&followed.path, session) {
        Ok(prepared) => serve(followed, prepared, session),
        Err(failure) if failure.exit == Exit::Interrupted => return,
        Err(failure) => {
            let seen = Fingerprint::read(&followed.path).ok();
            if followed.is_compared() && seen.is_some() && seen != before {
                // A program writes to the files while they are hashed: wait until they stay the same.
                followed.change = Some(FileChange { seen, since: Instant::now() });
            } else {
                refuse(followed, &failure, session);
            }
        }
    }
    followed.quiet = started.elapsed().clamp(limits::CONTENT_QUIET, limits::CONTENT_QUIET_MAX);
    let least = if followed.refusal.is_some() { limits::CONTENT_RETRY_INTERVAL } else { limits::CONTENT_POLL_INTERVAL };
    followed.due = Instant::now() + pause(started.elapsed(), least);
}

/// Serves a prepared torrent in place of the earlier version.
fn serve(followed: &mut Followed, prepared: Prepared, session: &SessionHandle<'_>) {
    let seen = prepared.fingerprint;
    let info_hash = prepared.source.metainfo.info_hash;
    followed.settle(seen);
    match followed.served.take() {
        Some(same) if same.info_hash == info_hash => {
            let is_stopped = is_stopped(info_hash, session);
            followed.served = Some(Version { fingerprint: seen, ..same });
            if is_stopped {
                session.restart(prepared.source);
            }
            if is_stopped || followed.is_compared() {
                report_unchanged(followed, session);
            }
        }
        Some(old) => {
            let torrent = session.replace(&old, prepared);
            let Some(torrent) = torrent else { return warn_of_duplicate(&followed.path, session.output) };
            let version = Version::new(&torrent, seen);
            session.output.message(format_args!("now serves the new version of {}: {info_hash}", version.name));
            session.output.record(&Record::Replaced {
                info_hash: info_hash.to_string(),
                old_info_hash: old.info_hash.to_string(),
                name: &version.name,
            });
            followed.served = Some(version);
        }
        None => match session.add(prepared) {
            Some(torrent) => followed.served = Some(Version::new(&torrent, seen)),
            None => warn_of_duplicate(&followed.path, session.output),
        },
    }
}

/// The content is that of the served version.
fn report_unchanged(followed: &mut Followed, session: &SessionHandle<'_>) {
    let Some(version) = &followed.served else { return };
    session.set_availability(version.info_hash, Availability::Available);
    session.output.message(format_args!("{}: the content is the same as before and is served", version.name));
}

/// Reports, once, that the content cannot be served. It is tried again later.
fn refuse(followed: &mut Followed, failure: &Failure, session: &SessionHandle<'_>) {
    let gone;
    let failure = if followed.served.is_some() && followed.path.symlink_metadata().is_err() {
        gone = Failure::new(Exit::Failed, format_args!("the content is gone: {}", shown(&followed.path)));
        &gone
    } else {
        failure
    };
    let line = failure.to_string();
    if followed.refusal.as_ref() != Some(&line) {
        session.output.warning(format_args!("not served: {line}: restore it, and it is served again"));
        record_not_served(&followed.path, failure, session.output);
        followed.refusal = Some(line);
    }
    if followed.is_compared()
        && let Some(version) = &followed.served
    {
        session.contents.handle_lost(version.info_hash);
    }
}
