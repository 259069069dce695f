//! The task that talks to one torrent's trackers.
//!
//! Connects [`Announce`] to the clock, HTTP, UDP and DNS. Which tracker to ask and when is decided by `announce`; the
//! use of the peers is the swarm's.

#![allow(clippy::disallowed_methods, reason = "the engine reads the clock")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::announce::{Announce, AnnounceFailure, Notice, NoticeKind, Request, RequestId};
use crate::base::limits::{ANNOUNCES_MAX, TRACKER_REPLY_NAMES_MAX, TRACKER_STOP_TIMEOUT, TRACKER_UDP_RESEND_AFTER};
use crate::base::{InfoHash, PeerId, Time};
use crate::codec::tracker_http::{
    AnnounceQuery, AnnounceReply, Event, PeerHost, TrackerPeer, TrackerReplyError, decode_reply,
};
use crate::codec::url::is_udp;
use crate::engine::network::dns::look_up_peer;
use crate::engine::network::external_address::ExternalAddress;
use crate::engine::trackers::dual_stack;
use crate::engine::trackers::http::{FetchLimits, Fetcher, HttpError, IpFamily};
use crate::engine::trackers::udp::{self, Patience};

/// A command to the task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// The download is complete.
    Complete,
    /// More peers are wanted.
    NeedPeers,
    /// Tell the trackers that we leave, and end. Closing the channel does the same.
    Stop,
}

/// The byte counts of an announce (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: u64,
}

/// A peer that a tracker named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub address: SocketAddr,
    /// The peer id that the tracker gave (BEP 3); `None` in compact replies (BEP 23).
    pub peer_id: Option<PeerId>,
}

/// Delivers the peers that a torrent's trackers name. All torrents share a channel.
#[derive(Clone, Debug)]
pub struct Finds {
    torrent: u32,
    channel: mpsc::Sender<(u32, Vec<Found>)>,
    /// Receives the address at which trackers see us.
    external_address: Option<Arc<ExternalAddress>>,
}

impl Finds {
    /// The peers are sent with `torrent`, a number that is not interpreted here.
    pub fn new(torrent: u32, channel: mpsc::Sender<(u32, Vec<Found>)>) -> Self {
        Self { torrent, channel, external_address: None }
    }

    pub(in crate::engine) fn with_external_address(self, address: Arc<ExternalAddress>) -> Self {
        Self { external_address: Some(address), ..self }
    }
}

/// Our identity to trackers.
#[derive(Clone, Debug)]
pub struct Identity {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// The `ip` parameter (BEP 3): our address or DNS name, if the tracker would see another one.
    pub ip: Option<String>,
    /// The port on which we listen.
    pub port: u16,
    /// Random, one for each run.
    pub key: u32,
    /// Fetches over HTTP; its egress is used for UDP too.
    pub fetcher: Fetcher,
}

/// Permits for concurrent announces, shared by the announcers of a process.
pub fn announce_permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ANNOUNCES_MAX))
}

/// Runs until [`Command::Stop`], then for at most [`TRACKER_STOP_TIMEOUT`].
///
/// The peers of a reply are sent to `finds` together. If it is full they are dropped, since the next announce returns
/// them again. `totals` is called for each announce. A request that hangs may outlive the task on tokio's blocking
/// pool: end the runtime with `shutdown_background`.
pub async fn run(
    announce: Announce,
    identity: Identity,
    totals: impl Fn() -> Totals,
    permits: Arc<Semaphore>,
    mut commands: mpsc::Receiver<Command>,
    finds: Finds,
) {
    let mut announcer = Announcer {
        announce,
        identity,
        totals,
        permits,
        finds,
        tasks: JoinSet::new(),
        external_ip: None,
        started_at: Instant::now(),
    };
    while let Some(notice) = announcer.announce.poll_notice() {
        report(&notice);
    }
    let mut stop_at = None;
    loop {
        announcer.send_requests(stop_at.is_some());
        if announcer.announce.is_finished() {
            return;
        }
        let timeout = announcer.next_timeout(stop_at);
        tokio::select! {
            command = commands.recv(), if stop_at.is_none() => match command {
                Some(Command::Complete) => announcer.announce.handle_complete(),
                Some(Command::NeedPeers) => announcer.announce.handle_need_peers(announcer.now()),
                Some(Command::Stop) | None => {
                    announcer.announce.handle_stop();
                    stop_at = Some(Instant::now() + TRACKER_STOP_TIMEOUT);
                }
            },
            Some(done) = announcer.tasks.join_next() => match done {
                Ok(done) => announcer.handle_done(done),
                Err(error) => debug!("an announce task ended early: {error}"),
            },
            () = sleep_until(timeout) => {
                if stop_at.is_some_and(|stop_at| Instant::now() >= stop_at) {
                    return;
                }
            }
        }
    }
}

struct Announcer<F> {
    announce: Announce,
    identity: Identity,
    totals: F,
    permits: Arc<Semaphore>,
    finds: Finds,
    tasks: JoinSet<Done>,
    /// Our address in the last tracker reply that had one (BEP 24).
    external_ip: Option<IpAddr>,
    /// The origin of this task's [`Time`].
    started_at: Instant,
}

/// The result of a spawned task.
enum Done {
    Announced(RequestId, Result<AnnounceReply, AnnounceFailure>),
    Resolved(Vec<Found>),
}

impl<F: Fn() -> Totals> Announcer<F> {
    fn now(&self) -> Time {
        self.started_at.elapsed()
    }

    fn next_timeout(&self, stop_at: Option<Instant>) -> Option<Instant> {
        stop_at.or_else(|| self.started_at.checked_add(self.announce.poll_timeout()?))
    }

    fn send_requests(&mut self, stopping: bool) {
        let timeout = if stopping { TRACKER_STOP_TIMEOUT } else { FetchLimits::announce().timeout };
        while let Some(request) = self.announce.poll_request(self.now()) {
            let (totals, identity) = ((self.totals)(), self.identity.clone());
            let permits = Arc::clone(&self.permits);
            self.tasks.spawn(async move {
                let id = request.id;
                Done::Announced(id, announce_to(&request, &identity, totals, timeout, permits).await)
            });
        }
    }

    fn handle_done(&mut self, done: Done) {
        match done {
            Done::Announced(id, reply) => {
                if let Some(ip) = reply.as_ref().ok().and_then(|reply| reply.external_ip)
                    && self.external_ip.replace(ip) != Some(ip)
                {
                    info!("a tracker sees us at {ip}");
                    self.finds.external_address.iter().for_each(|address| address.handle_tracker_report(ip));
                }
                let outcome = self.announce.handle_reply(self.now(), id, reply);
                outcome.notices.iter().for_each(report);
                self.handle_peers(outcome.peers);
            }
            Done::Resolved(addrs) => self.pass_on(addrs),
        }
    }

    fn handle_peers(&mut self, peers: Vec<TrackerPeer>) {
        let mut found = Vec::new();
        let mut names = Vec::new();
        for TrackerPeer { host, port, peer_id } in peers {
            match host {
                PeerHost::Ip(ip) => found.push(Found { address: SocketAddr::new(ip, port), peer_id }),
                PeerHost::Name(name) => names.push((name, port, peer_id)),
            }
        }
        self.pass_on(found);
        // BEP 3: a peer's `ip` may be a DNS name.
        for (name, port, peer_id) in names.into_iter().take(TRACKER_REPLY_NAMES_MAX) {
            self.tasks.spawn(async move {
                let addresses = look_up_peer(&name, port).await.into_iter();
                Done::Resolved(addresses.map(|address| Found { address, peer_id }).collect())
            });
        }
    }

    fn pass_on(&self, found: Vec<Found>) {
        if !found.is_empty() && self.finds.channel.try_send((self.finds.torrent, found)).is_err() {
            debug!("dropped peers of a tracker: the queue is full");
        }
    }
}

async fn announce_to(
    request: &Request,
    identity: &Identity,
    totals: Totals,
    timeout: Duration,
    permits: Arc<Semaphore>,
) -> Result<AnnounceReply, AnnounceFailure> {
    let permit =
        permits.acquire_owned().await.map_err(|_| AnnounceFailure::Transport("the session is ending".to_owned()))?;
    let permit = Arc::new(permit);
    let query = query(request, identity, totals);
    if is_udp(&request.url) {
        let patience = Patience { timeout, resend_after: TRACKER_UDP_RESEND_AFTER };
        return udp::announce(&request.url, &query, patience, identity.fetcher.egress()).await;
    }
    let url = query.append_to(&request.url);
    let source = identity.fetcher.source_of(&request.url);
    let fetch = |ip_family| {
        let (fetcher, url, permit) = (identity.fetcher.clone(), url.clone(), Arc::clone(&permit));
        let fetching = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            interpret_response(
                fetcher.fetch(&url, FetchLimits { timeout, source, ip_family, ..FetchLimits::announce() }),
            )
        });
        async {
            fetching.await.unwrap_or_else(|_| Err(AnnounceFailure::Transport("the announce was canceled".to_owned())))
        }
    };
    // One request is enough if it can only use one address family.
    if identity.fetcher.egress().local.is_some() || dual_stack::is_address(&url) || !dual_stack::have_routes() {
        return fetch(IpFamily::Any).await;
    }
    let one = |ip_family| async move { Some(fetch(ip_family).await) };
    dual_stack::ask(one(IpFamily::Ipv4Only), one(IpFamily::Ipv6Only)).await
}

fn query<'a>(request: &'a Request, identity: &'a Identity, totals: Totals) -> AnnounceQuery<'a> {
    let Identity { info_hash, peer_id, port, key, ref ip, .. } = *identity;
    let Totals { uploaded, downloaded, left } = totals;
    AnnounceQuery {
        info_hash,
        peer_id,
        ip: ip.as_deref(),
        port,
        uploaded,
        downloaded,
        // The torrent was complete at the event, whatever is counted now.
        left: if request.event == Event::Completed { 0 } else { left },
        event: request.event,
        numwant: request.numwant,
        key,
        tracker_id: request.tracker_id.as_deref(),
    }
}

/// Interprets a response. An error status may still have a failure reason in its body.
fn interpret_response(fetched: Result<Vec<u8>, HttpError>) -> Result<AnnounceReply, AnnounceFailure> {
    match fetched {
        Ok(body) => Ok(decode_reply(&body)?),
        Err(HttpError::Status { status: 410, .. }) => Err(AnnounceFailure::Gone),
        Err(error) => {
            if let HttpError::Status { body, .. } = &error
                && let Err(failure @ TrackerReplyError::Failure { .. }) = decode_reply(body)
            {
                return Err(failure.into());
            }
            Err(AnnounceFailure::Transport(error.to_string()))
        }
    }
}

pub(in crate::engine) fn report(notice: &Notice) {
    match notice.kind {
        NoticeKind::Recovered => info!("{notice}"),
        _ => warn!("{notice}"),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "announcer_tests.rs"]
mod tests;
