//! Follows the content that `seed` serves: a new version is hashed and published in place of the old one, and SIGHUP
//! reads the paths of the command line again.
//!
//! The files are compared by name, length, inode and times. Their bytes are read only if these differ, or if the
//! content could not be served. The engine looks at the files by itself before it sends their bytes, and more often.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::followed::{Followed, Verdict};
use super::handle::SessionHandle;
use super::inspector::{Inspection, Inspector, Presence};
use super::paths::{PathState, SeededPath, expand};
use crate::base::limits;
use crate::cli::options::{SeedOptions, is_pattern};

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

/// The session has ended.
struct Over;

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
                return self.session.output.warning(format_args!("{error}: {line}"));
            }
        };
        while !self.session.is_over() && !self.is_lost() {
            if self.step(&inspector).is_err() {
                return;
            }
            self.note_faults();
            std::thread::sleep(POLL);
        }
    }

    /// Compares the paths that are due, and updates those that call for it.
    fn step(&mut self, inspector: &Inspector) -> Result<(), Over> {
        if self.reload.swap(false, Ordering::Relaxed) {
            self.read_again(inspector)?;
        }
        let has_duplicates = self.paths.iter().any(|followed| followed.duplicate_of.is_some());
        let path_count = u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        for at in 0..self.paths.len() {
            if has_duplicates && self.paths.get(at).is_some_and(|followed| followed.is_stopped(&self.session)) {
                self.pass_on(at, inspector);
            }
            let Some(followed) = self.paths.get_mut(at) else { break };
            let is_withdrawn = followed.duplicate_of.is_some_and(|info_hash| !self.session.is_known(info_hash));
            let is_due = followed.due <= Instant::now() && followed.is_compared();
            if !is_due && !is_withdrawn {
                continue;
            }
            let loss = followed.unreported_loss(&self.session);
            let inspection = inspector.read(&followed.path, &self.session).ok_or(Over)?;
            if is_withdrawn || followed.compare(&inspection, loss, path_count, &self.session) == Verdict::Update {
                self.update(at, &inspection, inspector);
            }
        }
        Ok(())
    }

    /// Prepares the content of the path at this index, after another path with the same content has taken over its
    /// served version.
    fn update(&mut self, at: usize, inspection: &Inspection, inspector: &Inspector) {
        self.pass_on(at, inspector);
        if let Some(followed) = self.paths.get_mut(at) {
            followed.update(inspection.seen, inspector, &self.session);
        }
    }

    /// Has another path with the same content serve the version of the path at this index.
    fn pass_on(&mut self, at: usize, inspector: &Inspector) {
        let Some(version) = self.paths.get_mut(at).and_then(|followed| followed.served.take()) else { return };
        for heir in self.paths.iter_mut().filter(|heir| heir.duplicate_of == Some(version.info_hash)) {
            heir.take_over(&version, inspector, &self.session);
            if heir.served.as_ref().is_some_and(|served| served.info_hash == version.info_hash) {
                return;
            }
        }
        if let Some(followed) = self.paths.get_mut(at) {
            followed.served = Some(version);
        }
    }

    /// Notes whether storage faults have stopped every torrent, and no file has changed that could explain them.
    fn note_faults(&mut self) {
        let contents = &self.session.contents;
        let served = || self.paths.iter().filter_map(|followed| followed.served.as_ref());
        let can_recover = self.may_appear
            || self.paths.iter().any(Followed::has_change)
            || served().next().is_none()
            || served().any(|version| !contents.has_fault(version.info_hash));
        self.faulty_since = if can_recover { None } else { self.faulty_since.or_else(|| Some(Instant::now())) };
    }

    /// Whether storage faults have stopped every torrent for good.
    fn is_lost(&self) -> bool {
        // A change that caused the fault is seen by the next comparison.
        let grace = if self.paths.iter().any(Followed::is_compared) {
            2 * limits::CONTENT_POLL_INTERVAL
        } else {
            Duration::ZERO
        };
        self.faulty_since.is_some_and(|since| since.elapsed() >= grace)
    }

    /// Reads the paths of the command line again: serves content that has appeared, and drops content that is gone.
    fn read_again(&mut self, inspector: &Inspector) -> Result<(), Over> {
        let SessionHandle { options, output, .. } = self.session;
        output.message("SIGHUP: reading the paths again");
        let matched = inspector.search(&options.torrents, &self.session).ok_or(Over)?;
        let mut known: HashMap<PathBuf, Followed> =
            self.paths.drain(..).map(|followed| (followed.path.clone(), followed)).collect();
        let mut inspections = Vec::new();
        for path in expand(matched, output) {
            let inspection = inspector.read(&path, &self.session).ok_or(Over)?;
            let followed = known.remove(&path).unwrap_or_else(|| {
                Followed::new(SeededPath { path, kind: inspection.kind, state: PathState::Unhashed })
            });
            self.paths.push(followed);
            inspections.push(inspection);
        }
        // The paths that are gone come last, and are removed again.
        let listed_count = self.paths.len();
        self.paths.extend(known.into_values());
        for at in listed_count..self.paths.len() {
            self.drop_version(at, inspector);
        }
        self.paths.truncate(listed_count);
        for (at, inspection) in inspections.iter().enumerate() {
            if self.session.is_over() {
                return Err(Over);
            }
            let Some(followed) = self.paths.get_mut(at) else { break };
            followed.due = Instant::now();
            if inspection.presence == Presence::Gone {
                self.drop_version(at, inspector);
            } else if followed.served.is_none() || followed.needs_reload(inspection, &self.session) {
                followed.repeat_refusal();
                self.update(at, inspection, inspector);
            }
        }
        Ok(())
    }

    /// Stops serving the content of the path at this index, which is gone. A path with the same content takes it over.
    fn drop_version(&mut self, at: usize, inspector: &Inspector) {
        self.pass_on(at, inspector);
        if let Some(followed) = self.paths.get_mut(at) {
            followed.drop_version(&self.session);
        }
    }
}
