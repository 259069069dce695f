//! The session of `seed`: the engine on this thread, and the threads that add torrents to it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::handle::{Reload, SeedState, SessionHandle};
use super::hosts::HostReporter;
use super::intake::Intake;
use super::origin::Origin;
use super::paths::{PathState, SeededPath};
use super::refusals::Refusals;
use super::served::ServedTorrent;
use super::until::Until;
use super::watch::Watch;
use crate::cli::exit::Failure;
use crate::cli::notify;
use crate::cli::options::SeedOptions;
use crate::cli::output::Output;
use crate::cli::progress::{TransferProgress, TransferSnapshot, TransferWork};
use crate::engine::{self, Changes, Channels, Config, EngineError, Report, Snapshot, Source, change_channel};
use crate::io::start_scoped;
use crate::web::site::PendingList;

/// Least time between two status lines for the service manager.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How long the listening sockets stay closed while the first content is hashed, if there is no other content to serve.
/// Small content is thus served to the first client that asks for it.
const FIRST_CONTENT_WAIT: Duration = Duration::from_secs(5);

/// The torrents and settings of a session, and its output.
pub(super) struct Session<'a> {
    pub(super) options: &'a SeedOptions,
    pub(super) config: &'a Config,
    pub(super) origin: Option<&'a Origin>,
    pub(super) state: &'a SeedState,
    /// The torrents that are served from the start.
    pub(super) served: &'a [ServedTorrent],
    pub(super) output: &'a Output,
}

/// The result of a session.
pub(super) struct Ended {
    pub(super) report: Report,
    /// The number of complete hosts as a part of a line.
    pub(super) hosts: String,
}

impl Session<'_> {
    /// Serves `sources`, the other content of `paths` once it is hashed, and the torrents of `--watch`, until `seed`
    /// ends.
    ///
    /// Fails if the engine does, or if none of the paths can be served.
    pub(super) fn run(
        &self,
        sources: Vec<Source>,
        paths: Vec<SeededPath>,
        refusals: Refusals<'_>,
        reload: &Reload,
    ) -> Result<Ended, Failure> {
        let Self { options, config, origin, state, served, output } = *self;
        let (changes, inbox) = change_channel();
        let contents = Arc::clone(&config.contents);
        let peer_id = config.identity.peer_id;
        let session = SessionHandle { options, output, origin, peer_id, state, changes, contents };
        let watch = options.watch.as_deref().map(|folder| Watch::new(folder, session.clone(), &reload.watch));
        let (first_hashed_end, first_hashed) = sync_channel(0);
        let has_unhashed = paths.iter().any(|seeded| matches!(seeded.state, PathState::Unhashed));
        let (served_count, reload) = (served.len(), &reload.paths);
        let intake = Intake { paths, session, refusals, served_count, first_hashed: first_hashed_end, reload };
        // Dropping the last sender tells the engine that no torrent will be added.
        let intake = (!options.torrents.is_empty()).then_some(intake);
        let (ended, nothing_left) = thread::scope(|scope| {
            let watching = watch.map(|watch| start_scoped(scope, "watch", || watch.run())).transpose();
            let intake = intake.map(|intake| start_scoped(scope, "intake", || intake.run()));
            let intake = match watching.and_then(|_| intake.transpose()) {
                Ok(intake) => intake,
                Err(error) => {
                    // The thread that has started ends.
                    state.stop.store(true, Ordering::Relaxed);
                    return (Err(error.into()), None);
                }
            };
            if served.is_empty() && has_unhashed {
                wait_for_first_content(&first_hashed);
            }
            let ended = self.serve(sources, inbox);
            state.stop.store(true, Ordering::Relaxed);
            (ended, intake.and_then(|intake| intake.join().ok().flatten()))
        });
        let ended = ended?;
        nothing_left.map_or(Ok(ended), Err)
    }

    /// Runs the engine on this thread.
    fn serve(&self, sources: Vec<Source>, changes: Changes) -> Result<Ended, EngineError> {
        let Self { config, state, output, .. } = *self;
        let mut status = Status::default();
        let mut hosts = HostReporter::new(&config.contents, output);
        let mut until = Until::new(self.options.until, Arc::clone(&state.total_len));
        let progress = TransferProgress::new(output);
        let channels = Channels { changes: Some(changes), departures: None };
        let report = engine::run(config, sources, channels, &state.stop, &mut |now| {
            if state.port.set(now.port).is_ok() {
                self.announce(now.port, &mut status);
            }
            hosts.update();
            status.update(|| status_line(now.port, hosts.line(), &state.pending));
            progress.update(TransferSnapshot {
                work: TransferWork::Serving { hosts: hosts.summary(), sent: now.uploaded },
                down_bytes_per_s: now.down_bytes_per_s,
                up_bytes_per_s: now.up_bytes_per_s,
                peers: now.peer_count,
                known_peers: now.known_peer_count,
            });
            self.stop_if_done(&mut until, now, hosts.summary().fewest_complete);
        })?;
        Ok(Ended { report, hosts: hosts.line().to_owned() })
    }

    /// Opens the tracker for our peer, and reports the torrents that are served from the start.
    fn announce(&self, port: u16, status: &mut Status) {
        if let Some(origin) = self.origin {
            origin.open(port, self.config.identity.peer_id, self.output);
        }
        let Self { origin, state, output, .. } = *self;
        self.served.iter().for_each(|torrent| torrent.announce(port, state.take_stop_hint(), origin, output));
        let hosts = self.config.contents.host_summary().to_string();
        status.ready(status_line(port, &hosts, &self.state.pending));
    }

    /// Ends the session when a `--stop-…` condition is met. The conditions count from the time when all content of the
    /// command line is hashed, because they are those of all torrents together.
    fn stop_if_done(&self, until: &mut Until, now: &Snapshot, complete_hosts: usize) {
        if !self.state.is_complete.load(Ordering::Relaxed) {
            until.restart();
        } else if let Some(reason) = until.met(now, complete_hosts) {
            self.output.message(format_args!("stopping: {reason}"));
            self.state.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Waits until the first content is hashed or refused, for at most [`FIRST_CONTENT_WAIT`].
fn wait_for_first_content(first_hashed: &Receiver<Infallible>) {
    notify::starting("hashing the first content");
    // Nothing is sent: the intake drops its end.
    let _: Result<Infallible, RecvTimeoutError> = first_hashed.recv_timeout(FIRST_CONTENT_WAIT);
}

/// The status line of the service manager, which is sent when it changes.
#[derive(Default)]
struct Status {
    sent: String,
    updated_at: Option<Instant>,
}

impl Status {
    fn ready(&mut self, line: String) {
        notify::ready(&line);
        self.sent = line;
    }

    fn update(&mut self, line: impl FnOnce() -> String) {
        if self.updated_at.is_some_and(|at| at.elapsed() < STATUS_INTERVAL) {
            return;
        }
        self.updated_at = Some(Instant::now());
        let line = line();
        if line != self.sent {
            notify::status(&line);
            self.sent = line;
        }
    }
}

fn status_line(port: u16, hosts: &str, pending: &PendingList) -> String {
    let pending: String = pending.list().iter().map(|content| format!("; {content}")).collect();
    format!("seeding on port {port}; {hosts}{pending}")
}
