//! The announces of one torrent to its trackers (BEP 3, BEP 12, BEP 31).
//!
//! Owns the choice of tracker, time and event: tiers, schedule and back-off. Does no I/O and reads no clock; it returns
//! requests and takes their results.

mod schedule;
mod tiers;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::base::escape::printable;
use crate::base::limits::{TRACKER_NUMWANT, TRACKER_RETRY_MIN, TRACKER_RETRY_UNANSWERED_MIN, TRACKER_TEXT_LEN_MAX};
use crate::base::{Rng, Time};
use crate::codec::tracker_http::{AnnounceReply, Event, RetryIn, TrackerPeer, TrackerReplyError};
use crate::codec::url::shown_server;
use tiers::Tiers;

/// Identifies one request; an id is never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(u64);

/// An announce to make at once. The caller must pass its result to [`Announce::handle_reply`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub id: RequestId,
    /// The tracker's URL, without the announce query.
    pub url: String,
    pub event: Event,
    /// Peers requested.
    pub numwant: u32,
    /// The `tracker id` (BEP 3) that this tracker last sent.
    pub tracker_id: Option<Vec<u8>>,
}

/// Why an announce failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnnounceFailure {
    /// There was no answer, or one that is not a tracker's.
    #[error("{0}")]
    Transport(String),
    /// HTTP status 410: the tracker is permanently gone.
    #[error("the tracker is gone (HTTP status 410)")]
    Gone,
    #[error(transparent)]
    Reply(#[from] TrackerReplyError),
}

/// A change of a tracker's state, to show to the user once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Scheme, host and port of the tracker; path and query may contain pass keys.
    pub tracker: String,
    pub kind: NoticeKind,
}

/// The kind of a [`Notice`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoticeKind {
    /// The tracker failed, or fails in another way than before.
    Trouble(String),
    /// The tracker answers after a failure.
    Recovered,
    /// The tracker answers with a new warning.
    Warning(String),
    /// The tracker's protocol is not supported.
    Unsupported,
}

/// The peers and notices of one reply.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    pub peers: Vec<TrackerPeer>,
    pub notices: Vec<Notice>,
}

/// The announces of one torrent.
///
/// After each `handle_` call and each [`Self::poll_timeout`], call [`Self::poll_request`] until it returns `None`. At
/// the start, also call [`Self::poll_notice`] until it returns `None`. The first request is due at once.
#[derive(Debug)]
pub struct Announce {
    tiers: Tiers,
    notices: VecDeque<Notice>,
    requests: Vec<InFlight>,
    next_id: u64,
    /// Time of the next regular announce.
    due: Time,
    /// Earliest time of an announce for more peers, after an answer.
    early_from: Option<Time>,
    complete: bool,
    stopping: bool,
}

#[derive(Debug)]
struct InFlight {
    id: RequestId,
    url: String,
    event: Event,
    /// The torrent was complete when the request left.
    complete: bool,
}

impl Announce {
    /// Takes the tiers of tracker URLs in the metainfo (BEP 12), and shuffles each tier once. `complete_at_start` means
    /// that there is nothing to download, so that `completed` is never sent.
    pub fn new(tiers: Vec<Vec<String>>, complete_at_start: bool, rng: &mut Rng) -> Self {
        let (tiers, unsupported) = Tiers::new(tiers, rng);
        let notices =
            unsupported.iter().map(|url| Notice { tracker: shown_server(url), kind: NoticeKind::Unsupported });
        Self {
            tiers,
            notices: notices.collect(),
            requests: Vec::new(),
            next_id: 0,
            due: Time::ZERO,
            early_from: None,
            complete: complete_at_start,
            stopping: false,
        }
    }

    /// Returns whether the torrent has a supported tracker.
    pub fn has_trackers(&self) -> bool {
        !self.tiers.is_empty()
    }

    /// Returns the next notice that belongs to no reply.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Returns an announce to make at once, if one is due.
    pub fn poll_request(&mut self, now: Time) -> Option<Request> {
        let (url, event) = if self.stopping { self.next_stopped()? } else { self.next_announce(now)? };
        let tracker_id = self.tiers.find(&url)?.tracker_id.clone();
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.requests.push(InFlight { id, url: url.clone(), event, complete: self.complete });
        let numwant = if event == Event::Stopped { 0 } else { TRACKER_NUMWANT };
        Some(Request { id, url, event, numwant, tracker_id })
    }

    /// Returns the time at which to call [`Self::poll_request`] again, or `None` if only a `handle_` call can make one
    /// due.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.stopping || self.has_request() {
            return None;
        }
        let regular = self.tiers.iter().map(|tracker| tracker.retry_at).min()?.max(self.due);
        let completed = self.tiers.iter().filter(|tracker| tracker.owes_completed).map(|tracker| tracker.retry_at);
        Some(completed.min().unwrap_or(regular).min(regular)).filter(|&timeout| timeout < tiers::NEVER)
    }

    /// Takes the result of a request. Unknown and repeated ids are ignored.
    pub fn handle_reply(&mut self, now: Time, id: RequestId, reply: Result<AnnounceReply, AnnounceFailure>) -> Outcome {
        let Some(at) = self.requests.iter().position(|request| request.id == id) else { return Outcome::default() };
        let request = self.requests.swap_remove(at);
        match reply {
            Ok(reply) => self.handle_answer(now, &request, reply),
            Err(failure) => self.handle_failure(now, &request, &failure),
        }
    }

    /// The download is complete. `completed` is due at once at each tracker that counts us as a downloader.
    pub fn handle_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.tiers.iter_mut().for_each(|tracker| tracker.owes_completed = tracker.started);
        }
    }

    /// The torrent needs more peers. The next announce is due as early as the tracker allows; the back-off of failed
    /// trackers is unchanged.
    pub fn handle_need_peers(&mut self, now: Time) {
        if let Some(from) = self.early_from.take() {
            self.due = self.due.min(from.max(now));
        }
    }

    /// The torrent leaves. `stopped` is due at each tracker that answered a `started`, after any pending `completed`.
    pub fn handle_stop(&mut self) {
        self.stopping = true;
    }

    /// Returns whether all announces after [`Self::handle_stop`] are done. A first announce of an incomplete torrent is
    /// not awaited; one of a complete torrent is, since an origin counts its hosts by it.
    pub fn is_finished(&self) -> bool {
        let reports_complete = |request: &InFlight| request.complete && request.event == Event::Started;
        self.stopping
            && !self.tiers.iter().any(|tracker| tracker.started)
            && !self.requests.iter().any(reports_complete)
    }

    /// Returns whether a request is in progress; regular announces go to one tracker at a time.
    fn has_request(&self) -> bool {
        !self.requests.is_empty()
    }

    fn is_busy(&self, url: &str) -> bool {
        self.requests.iter().any(|request| request.url == url)
    }

    fn next_announce(&self, now: Time) -> Option<(String, Event)> {
        if self.has_request() {
            return None;
        }
        let mut ready = self.tiers.iter().filter(|tracker| tracker.retry_at <= now);
        if let Some(tracker) = ready.clone().find(|tracker| tracker.owes_completed) {
            return Some((tracker.url.clone(), Event::Completed));
        }
        // BEP 12: trackers are tried in order. Failed ones are backed off, so the next tier is tried once all of this
        // one failed.
        let tracker = ready.next().filter(|_| self.due <= now)?;
        Some((tracker.url.clone(), if tracker.started { Event::Empty } else { Event::Started }))
    }

    fn next_stopped(&self) -> Option<(String, Event)> {
        // A `stopped` that overtakes another announce would be undone by that announce.
        let tracker = self.tiers.iter().find(|tracker| tracker.started && !self.is_busy(&tracker.url))?;
        Some((tracker.url.clone(), if tracker.owes_completed { Event::Completed } else { Event::Stopped }))
    }

    fn handle_answer(&mut self, now: Time, request: &InFlight, reply: AnnounceReply) -> Outcome {
        let complete = self.complete;
        let Some(tracker) = self.tiers.find_mut(&request.url) else { return Outcome::default() };
        tracker.failures = 0;
        tracker.retry_at = now;
        tracker.tracker_id = reply.tracker_id.or(tracker.tracker_id.take());
        match request.event {
            Event::Started => {
                tracker.started = true;
                tracker.owes_completed = complete && !request.complete;
            }
            Event::Completed => tracker.owes_completed = false,
            Event::Stopped => tracker.started = false,
            Event::Empty => {}
        }
        let mut notices = Vec::new();
        if tracker.trouble.take().is_some() {
            notices.push(NoticeKind::Recovered);
        }
        let warning = reply.warning.map(|text| shown(&text));
        if warning != tracker.warning {
            tracker.warning.clone_from(&warning);
            notices.extend(warning.map(NoticeKind::Warning));
        }
        self.due = now + schedule::interval(reply.interval, reply.min_interval);
        self.early_from = Some(now + schedule::early_interval(reply.min_interval));
        self.tiers.move_to_front(&request.url);

        let tracker = shown_server(&request.url);
        let notices = notices.into_iter().map(|kind| Notice { tracker: tracker.clone(), kind }).collect();
        Outcome { peers: reply.peers, notices }
    }

    fn handle_failure(&mut self, now: Time, request: &InFlight, failure: &AnnounceFailure) -> Outcome {
        let stopping = self.stopping;
        let Some(tracker) = self.tiers.find_mut(&request.url) else { return Outcome::default() };
        tracker.failures = tracker.failures.saturating_add(1);
        tracker.retry_at = now + schedule::back_off(first_wait(failure), tracker.failures);
        match retry_in(failure) {
            Some(RetryIn::Minutes(minutes)) => tracker.retry_at = now + schedule::retry_wait(minutes),
            Some(RetryIn::Never) => tracker.retry_at = tiers::NEVER,
            None => {}
        }
        if stopping {
            // There is no time for a second attempt.
            match request.event {
                Event::Stopped => tracker.started = false,
                _ => tracker.owes_completed = false,
            }
        }
        let text = shown(&failure.to_string());
        let changed = tracker.trouble.as_ref() != Some(&text);
        tracker.trouble = Some(text.clone());
        // A failure after the stop does not matter to the user.
        let notices = (changed && !stopping)
            .then(|| Notice { tracker: shown_server(&request.url), kind: NoticeKind::Trouble(text) })
            .into_iter()
            .collect();
        Outcome { peers: Vec::new(), notices }
    }
}

/// Returns the wait after the first failure of this kind.
fn first_wait(failure: &AnnounceFailure) -> Duration {
    match failure {
        AnnounceFailure::Transport(_) => TRACKER_RETRY_UNANSWERED_MIN,
        AnnounceFailure::Gone | AnnounceFailure::Reply(_) => TRACKER_RETRY_MIN,
    }
}

fn retry_in(failure: &AnnounceFailure) -> Option<RetryIn> {
    match failure {
        AnnounceFailure::Gone => Some(RetryIn::Never),
        AnnounceFailure::Reply(TrackerReplyError::Failure { retry_in, .. }) => *retry_in,
        _ => None,
    }
}

/// Returns a text as one printable line of bounded length.
fn shown(text: &str) -> String {
    let cut = text.char_indices().map(|(at, _)| at).find(|&at| at >= TRACKER_TEXT_LEN_MAX).unwrap_or(text.len());
    printable(text.get(..cut).unwrap_or(text).as_bytes())
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tracker = &self.tracker;
        match &self.kind {
            NoticeKind::Trouble(text) => write!(f, "tracker {tracker}: {text}"),
            NoticeKind::Recovered => write!(f, "tracker {tracker}: answers again"),
            NoticeKind::Warning(text) => write!(f, "tracker {tracker} warns: {text}"),
            NoticeKind::Unsupported => {
                write!(f, "tracker {tracker}: skipped, only http, https and udp trackers are supported")
            }
        }
    }
}

#[cfg(test)]
mod tests;
