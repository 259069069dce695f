//! A path that is followed, and the version of its content that is served.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::handle::{NotAdded, SessionHandle};
use super::inspector::{Inspection, Inspector, Presence};
use super::path_kind::PathKind;
use super::paths::{PathState, SeededPath, Version};
use super::prepare::prepare;
use super::prepared::Prepared;
use super::refusals::{not_served, record_not_served, warn_of_duplicate};
use super::served::ServedTorrent;
use crate::base::{InfoHash, limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::records::Record;
use crate::create::Fingerprint;
use crate::create::open::shown;
use crate::engine::{Made, Timeliness};

/// A path, its served version, and the last comparison of its files.
pub(super) struct Followed {
    pub(super) path: PathBuf,
    kind: PathKind,
    /// `None` if nothing is served.
    pub(super) served: Option<Version>,
    /// The torrent of this path, if it is served from another path.
    pub(super) duplicate_of: Option<InfoHash>,
    /// The state of the files that is served, here or from another path; `None` if they could not be read.
    settled: Option<Fingerprint>,
    /// The files differ from `settled`, or are refused and tried again.
    change: Option<FileChange>,
    /// Time for which changed files must stay the same.
    quiet: Duration,
    /// The loss of pieces of the served version has been reported.
    has_reported_loss: bool,
    /// The last reported reason why the content is not served, which is not repeated. `None` if it is not refused.
    refusal: Option<String>,
    pub(super) due: Instant,
}

#[derive(Clone, Copy)]
struct FileChange {
    /// The last state; `None` if the files could not be read.
    seen: Option<Fingerprint>,
    /// When the files were first seen in this state.
    since: Instant,
}

/// The step that follows a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Wait,
    /// The files have been the same for long enough: prepare them.
    Update,
}

impl Followed {
    pub(super) fn new(seeded: SeededPath) -> Self {
        let SeededPath { path, kind, state } = seeded;
        let mut followed = Self {
            path,
            kind,
            served: None,
            duplicate_of: None,
            settled: None,
            change: None,
            quiet: limits::CONTENT_QUIET,
            has_reported_loss: false,
            refusal: None,
            due: Instant::now(),
        };
        match state {
            PathState::Unhashed => {}
            PathState::Refused(reason) => followed.refusal = Some(reason),
            PathState::Duplicate { info_hash, fingerprint } => {
                (followed.duplicate_of, followed.settled) = (Some(info_hash), fingerprint);
            }
            PathState::Served(version) => {
                (followed.settled, followed.served) = (version.fingerprint, Some(version));
            }
        }
        followed
    }

    /// Whether the files are compared.
    pub(super) fn is_compared(&self) -> bool {
        self.kind == PathKind::Content
    }

    /// Whether the files differ from those that are served, or are tried again.
    pub(super) fn has_change(&self) -> bool {
        self.change.is_some()
    }

    /// Whether a `.torrent` was replaced since it was read, or pieces of its content are not served that may be back.
    pub(super) fn needs_reload(&self, inspection: &Inspection, session: &SessionHandle<'_>) -> bool {
        !self.is_compared() && (inspection.seen != self.settled || self.is_stopped(session))
    }

    /// Whether the session does not serve all that it announced of the version of this path.
    pub(super) fn is_stopped(&self, session: &SessionHandle<'_>) -> bool {
        self.served.as_ref().is_some_and(|version| session.is_stopped(version.info_hash))
    }

    /// Reports the next refusal, even if it has the same reason as the last one.
    pub(super) fn repeat_refusal(&mut self) {
        self.refusal = None;
    }

    fn settle(&mut self, seen: Option<Fingerprint>) {
        (self.settled, self.change, self.refusal, self.duplicate_of) = (seen, None, None, None);
        self.has_reported_loss = false;
    }

    /// Returns the loss of pieces of the served version that has not been reported.
    pub(super) fn unreported_loss(&self, session: &SessionHandle<'_>) -> Option<String> {
        let version = self.served.as_ref().filter(|_| !self.has_reported_loss)?;
        session.contents.unreported_loss(version.info_hash)
    }

    /// Compares the files with those that are served. New and refused content is prepared when it has stayed the same
    /// for a while. `loss` is the unreported loss before the inspection: it is reported if no change of the files
    /// explains it. `path_count` is the number of all paths.
    pub(super) fn compare(
        &mut self,
        inspection: &Inspection,
        loss: Option<String>,
        path_count: u32,
        session: &SessionHandle<'_>,
    ) -> Verdict {
        let &Inspection { seen, took, .. } = inspection;
        self.due = Instant::now() + pause(took.saturating_mul(path_count), limits::CONTENT_POLL_INTERVAL);
        if seen == self.settled && self.refusal.is_none() {
            if self.change.take().is_some() {
                self.report_unchanged(session);
            } else if let Some(line) = loss {
                self.has_reported_loss = true;
                session.output.warning(format_args!("{line}: check the disk, then start seed again"));
            }
            return Verdict::Wait;
        }
        match self.change {
            Some(change) if change.seen == seen => {
                return if change.since.elapsed() >= self.quiet { Verdict::Update } else { Verdict::Wait };
            }
            before => {
                self.change = Some(FileChange { seen, since: Instant::now() });
                if before.is_none() {
                    self.report_changed(session);
                }
            }
        }
        Verdict::Wait
    }

    /// Prepares the content, and serves it in place of the earlier version. `before` is the state of the files.
    /// Does nothing if the session ends first.
    pub(super) fn update(&mut self, before: Option<Fingerprint>, inspector: &Inspector, session: &SessionHandle<'_>) {
        self.try_path(before, inspector, session, Self::serve);
    }

    /// Serves `old` from this path, if it has the same content. The files of its earlier path have changed or are gone.
    pub(super) fn take_over(&mut self, old: &Version, inspector: &Inspector, session: &SessionHandle<'_>) {
        let Some(Inspection { seen, .. }) = inspector.read(&self.path, session) else { return };
        self.try_path(seen, inspector, session, |heir, prepared, session| {
            if prepared.source.metainfo.info_hash != old.info_hash {
                return heir.serve(prepared, session);
            }
            heir.settle(prepared.fingerprint);
            heir.served = Some(Version { fingerprint: prepared.fingerprint, ..old.clone() });
            // The session reads the files of the earlier path until then.
            if session.restart(prepared.source) == Made::No {
                return heir.refuse_unopened(session);
            }
            session.set_timeliness(old.info_hash, Timeliness::Current);
            session.output.message(format_args!("serving {} from {}", old.name, shown(&heir.path)));
        });
    }

    /// Prepares the content and passes it to `serve`, or notes why it cannot be served. `before` is the state of the
    /// files.
    fn try_path(
        &mut self,
        before: Option<Fingerprint>,
        inspector: &Inspector,
        session: &SessionHandle<'_>,
        serve: impl FnOnce(&mut Self, Prepared, &SessionHandle<'_>),
    ) {
        let started = Instant::now();
        match prepare(&self.path, session) {
            Ok(prepared) => serve(self, prepared, session),
            Err(failure) if failure.exit == Exit::Interrupted => return,
            Err(failure) => {
                let Some(inspection) = inspector.read(&self.path, session) else { return };
                let Inspection { seen, presence, .. } = inspection;
                // The content is not known to be that of the other path.
                self.duplicate_of = None;
                if self.is_compared() && seen.is_some() && seen != before {
                    // A program writes to the files while they are hashed: wait until they stay the same.
                    self.change = Some(FileChange { seen, since: Instant::now() });
                } else {
                    self.refuse(failure, presence, session);
                }
            }
        }
        self.quiet = started.elapsed().clamp(limits::CONTENT_QUIET, limits::CONTENT_QUIET_MAX);
        let least = if self.refusal.is_some() { limits::CONTENT_RETRY_INTERVAL } else { limits::CONTENT_POLL_INTERVAL };
        self.due = Instant::now() + pause(started.elapsed(), least);
    }

    /// Serves a prepared torrent in place of the earlier version.
    fn serve(&mut self, prepared: Prepared, session: &SessionHandle<'_>) {
        let seen = prepared.fingerprint;
        let info_hash = prepared.source.metainfo.info_hash;
        let earlier_duplicate = self.duplicate_of;
        self.settle(seen);
        let torrent = match self.served.take() {
            Some(same) if same.info_hash == info_hash => {
                let is_stopped = session.is_stopped(info_hash);
                self.served = Some(Version { fingerprint: seen, ..same });
                if is_stopped && session.restart(prepared.source) == Made::No {
                    return self.refuse_unopened(session);
                }
                if is_stopped || self.is_compared() {
                    self.report_unchanged(session);
                }
                return;
            }
            Some(old) => {
                let torrent = session.replace(&old, prepared);
                match &torrent {
                    Ok(ServedTorrent { name, .. }) => {
                        session.output.message(format_args!("serving the new version of {name}: {info_hash}"));
                        session.output.record(&Record::Replaced {
                            info_hash: info_hash.to_string(),
                            old_info_hash: old.info_hash.to_string(),
                            name,
                        });
                    }
                    Err(NotAdded::Duplicate) => report_dropped(&old, "another path has the new version", session),
                    Err(NotAdded::Refused) => report_dropped(&old, "the new version can't be opened now", session),
                }
                torrent
            }
            None => session.add(prepared),
        };
        match torrent {
            Ok(torrent) => self.served = Some(Version::new(&torrent, seen)),
            Err(NotAdded::Duplicate) => {
                self.duplicate_of = Some(info_hash);
                if earlier_duplicate != Some(info_hash) {
                    warn_of_duplicate(&self.path, session.output);
                }
            }
            Err(NotAdded::Refused) => self.refuse_unopened(session),
        }
    }

    /// Stops serving the content of this path, which is gone.
    pub(super) fn drop_version(&mut self, session: &SessionHandle<'_>) {
        if let Some(version) = self.served.take() {
            session.remove(version.info_hash, version.len);
            report_dropped(&version, &format!("{} is gone", shown(&self.path)), session);
        }
        self.settle(None);
    }

    fn report_changed(&self, session: &SessionHandle<'_>) {
        let Some(version) = &self.served else { return };
        session.set_timeliness(version.info_hash, Timeliness::Outdated);
        session.output.warning(format_args!(
            "{}: the files have changed; hashing starts when they have been unchanged for {} s",
            version.name,
            self.quiet.as_secs()
        ));
    }

    /// Reports that the content is that of the served version.
    fn report_unchanged(&self, session: &SessionHandle<'_>) {
        let Some(version) = &self.served else { return };
        session.set_timeliness(version.info_hash, Timeliness::Current);
        session.output.message(format_args!("{}: the content is unchanged; serving continues", version.name));
    }

    /// The session cannot open the content.
    fn refuse_unopened(&mut self, session: &SessionHandle<'_>) {
        self.refuse(NotAdded::Refused.failure(&self.path), Presence::Present, session);
    }

    /// Reports, once, that the content cannot be served. It is tried again later.
    fn refuse(&mut self, failure: Failure, presence: Presence, session: &SessionHandle<'_>) {
        if session.is_over() {
            return;
        }
        let failure = if self.served.is_some() && presence == Presence::Gone {
            Failure::new(Exit::Failed, format_args!("the content is gone: {}", shown(&self.path)))
        } else {
            failure
        };
        if self.refusal.as_ref() != Some(&failure.line) {
            session.output.warning(not_served(self.kind, &failure));
            record_not_served(&self.path, &failure, session.output);
            self.refusal = Some(failure.line);
        }
        if self.is_compared()
            && let Some(version) = &self.served
        {
            session.contents.handle_lost(version.info_hash);
        }
    }
}

fn report_dropped(version: &Version, reason: &str, session: &SessionHandle<'_>) {
    let Version { info_hash, name, .. } = version;
    session.output.message(format_args!("stopped serving {name}: {reason}"));
    session.output.record(&Record::Dropped { info_hash: info_hash.to_string(), name });
}

/// Returns the pause after work that took this long.
fn pause(took: Duration, least: Duration) -> Duration {
    took.saturating_mul(limits::CONTENT_POLL_RATIO).clamp(least, limits::CONTENT_POLL_INTERVAL_MAX)
}
