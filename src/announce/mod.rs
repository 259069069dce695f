//! One torrent's talk with its trackers (BEP 3, BEP 12, BEP 31).
//!
//! Owns which tracker is asked, when, and about what: tiers, schedule, back-off and events. Sends nothing and reads no
//! clock: it hands out requests and is told what came of them.

mod schedule;
mod tiers;

use std::collections::VecDeque;
use std::fmt;

use crate::base::escape::printable;
use crate::base::limits::{TRACKER_NUMWANT, TRACKER_TEXT_LEN_MAX};
use crate::base::{Rng, Time};
use crate::codec::tracker_http::{AnnounceReply, Event, RetryIn, TrackerPeer, TrackerReplyError};
use crate::codec::url::shown_server;
use tiers::Tiers;

/// Names one request; never used again for another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(u64);

/// An announce to be made now. Its outcome must be told by [`Announce::handle_reply`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub id: RequestId,
    /// The tracker's URL, without a query of ours.
    pub url: String,
    pub event: Event,
    /// Peers wanted.
    pub numwant: u32,
    /// What this tracker told us to send back (BEP 3's `tracker id`).
    pub tracker_id: Option<Vec<u8>>,
}

/// Why an announce brought no reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnnounceFailure {
    /// No answer, or not one of a tracker.
    #[error("{0}")]
    Transport(String),
    /// HTTP status 410: the tracker is gone for good.
    #[error("the tracker is gone (HTTP status 410)")]
    Gone,
    #[error(transparent)]
    Reply(#[from] TrackerReplyError),
}

/// Something to tell the user, once: a tracker's state changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Scheme and host alone: paths and queries carry pass keys.
    pub tracker: String,
    pub kind: NoticeKind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoticeKind {
    /// It failed, or fails in another way than before.
    Trouble(String),
    /// It answers after trouble.
    Recovered,
    /// It answers, and has something to say.
    Warning(String),
    /// A protocol we do not speak.
    Unsupported,
}

/// What a reply brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    pub peers: Vec<TrackerPeer>,
    pub notices: Vec<Notice>,
}

/// The announcing of one torrent.
///
/// After each `handle_` call, and when [`Self::poll_timeout`] is due, call [`Self::poll_request`] until it is `None`, and
/// [`Self::poll_notice`] once at the start. The first request is due at once.
#[derive(Debug)]
pub struct Announce {
    tiers: Tiers,
    notices: VecDeque<Notice>,
    requests: Vec<InFlight>,
    next_id: u64,
    /// When the next regular announce is due.
    due: Time,
    /// After an answer: when we may ask again for want of peers.
    hungry_from: Option<Time>,
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
    /// `tiers` of tracker URLs as in the metainfo (BEP 12); they are shuffled here, once. `complete_at_start`: there is
    /// nothing to download, so `completed` is never sent.
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
            hungry_from: None,
            complete: complete_at_start,
            stopping: false,
        }
    }

    /// Whether there is a tracker to talk to at all.
    pub fn has_trackers(&self) -> bool {
        !self.tiers.is_empty()
    }

    /// Notices that belong to no reply.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// An announce to make now, if there is one.
    pub fn poll_request(&mut self, now: Time) -> Option<Request> {
        let (url, event) = if self.stopping { self.next_farewell()? } else { self.next_announce(now)? };
        let tracker_id = self.tiers.find(&url)?.tracker_id.clone();
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.requests.push(InFlight { id, url: url.clone(), event, complete: self.complete });
        let numwant = if event == Event::Stopped { 0 } else { TRACKER_NUMWANT };
        Some(Request { id, url, event, numwant, tracker_id })
    }

    /// When to call [`Self::poll_request`] again. `None`: not before something happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.stopping || self.is_asking() {
            return None;
        }
        let regular = self.tiers.iter().map(|tracker| tracker.retry_at).min()?.max(self.due);
        let completed = self.tiers.iter().filter(|tracker| tracker.owes_completed).map(|tracker| tracker.retry_at);
        Some(completed.min().unwrap_or(regular).min(regular)).filter(|&timeout| timeout < tiers::NEVER)
    }

    /// The outcome of a request.
    pub fn handle_reply(&mut self, now: Time, id: RequestId, reply: Result<AnnounceReply, AnnounceFailure>) -> Outcome {
        let Some(at) = self.requests.iter().position(|request| request.id == id) else { return Outcome::default() };
        let request = self.requests.swap_remove(at);
        match reply {
            Ok(reply) => self.handle_answer(now, &request, reply),
            Err(failure) => self.handle_failure(now, &request, &failure),
        }
    }

    /// The download is complete: trackers that count us as a downloader are told `completed`, at once.
    pub fn handle_complete(&mut self) {
        if !std::mem::replace(&mut self.complete, true) {
            self.tiers.iter_mut().for_each(|tracker| tracker.owes_completed = tracker.started);
        }
    }

    /// We need more peers: the next announce comes as early as the tracker allows. Failing trackers are not asked any
    /// sooner for that.
    pub fn handle_hungry(&mut self, now: Time) {
        if let Some(from) = self.hungry_from.take() {
            self.due = self.due.min(from.max(now));
        }
    }

    /// We leave: trackers that answered a `started` are told `stopped`, after a `completed` they have not had yet.
    pub fn handle_stop(&mut self) {
        self.stopping = true;
    }

    /// After [`Self::handle_stop`]: nothing is left to send or to wait for.
    pub fn is_finished(&self) -> bool {
        self.stopping && !self.tiers.iter().any(|tracker| tracker.started)
    }

    /// A regular announce is under way: trackers are asked one after the other.
    fn is_asking(&self) -> bool {
        !self.requests.is_empty()
    }

    fn is_busy(&self, url: &str) -> bool {
        self.requests.iter().any(|request| request.url == url)
    }

    fn next_announce(&self, now: Time) -> Option<(String, Event)> {
        if self.is_asking() {
            return None;
        }
        let mut ready = self.tiers.iter().filter(|tracker| tracker.retry_at <= now);
        if let Some(tracker) = ready.clone().find(|tracker| tracker.owes_completed) {
            return Some((tracker.url.clone(), Event::Completed));
        }
        // BEP 12: in order; those that failed stand back, so the next tier comes when all of this one have.
        let tracker = ready.next().filter(|_| self.due <= now)?;
        Some((tracker.url.clone(), if tracker.started { Event::Empty } else { Event::Started }))
    }

    fn next_farewell(&self) -> Option<(String, Event)> {
        // A `stopped` that overtakes another announce would be undone by it.
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
        self.hungry_from = Some(now + schedule::hungry_interval(reply.min_interval));
        self.tiers.move_to_front(&request.url);

        let tracker = shown_server(&request.url);
        let notices = notices.into_iter().map(|kind| Notice { tracker: tracker.clone(), kind }).collect();
        Outcome { peers: reply.peers, notices }
    }

    fn handle_failure(&mut self, now: Time, request: &InFlight, failure: &AnnounceFailure) -> Outcome {
        let stopping = self.stopping;
        let Some(tracker) = self.tiers.find_mut(&request.url) else { return Outcome::default() };
        tracker.failures = tracker.failures.saturating_add(1);
        tracker.retry_at = now + schedule::back_off(tracker.failures);
        match retry_in(failure) {
            Some(RetryIn::Minutes(minutes)) => tracker.retry_at = now + schedule::asked_wait(minutes),
            Some(RetryIn::Never) => tracker.retry_at = tiers::NEVER,
            None => {}
        }
        if stopping {
            // There is time for one attempt.
            match request.event {
                Event::Stopped => tracker.started = false,
                _ => tracker.owes_completed = false,
            }
        }
        let text = shown(&failure.to_string());
        let changed = tracker.trouble.as_ref() != Some(&text);
        tracker.trouble = Some(text.clone());
        // Whoever leaves no longer cares.
        let notices = (changed && !stopping)
            .then(|| Notice { tracker: shown_server(&request.url), kind: NoticeKind::Trouble(text) })
            .into_iter()
            .collect();
        Outcome { peers: Vec::new(), notices }
    }
}

fn retry_in(failure: &AnnounceFailure) -> Option<RetryIn> {
    match failure {
        AnnounceFailure::Gone => Some(RetryIn::Never),
        AnnounceFailure::Reply(TrackerReplyError::Failure { retry_in, .. }) => *retry_in,
        _ => None,
    }
}

/// One printable line of bounded length.
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
                write!(f, "tracker {tracker}: skipped, only http, https and udp trackers are spoken to")
            }
        }
    }
}

#[cfg(test)]
mod tests;
