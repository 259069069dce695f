//! The trackers of a torrent in their tiers (BEP 12).

use crate::base::{Rng, Time};
use crate::codec::url;

/// The retry time of a tracker that is not tried again.
pub(super) const NEVER: Time = Time::MAX;

/// The state of one tracker.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) url: String,
    /// The tracker answered a `started` and no later `stopped`.
    pub(super) started: bool,
    /// The tracker counts us as a downloader, but the download is complete.
    pub(super) owes_completed: bool,
    pub(super) tracker_id: Option<Vec<u8>>,
    /// Consecutive failures.
    pub(super) failures: u32,
    /// Earliest time of the next announce.
    pub(super) retry_at: Time,
    /// The current failure, as last shown to the user.
    pub(super) trouble: Option<String>,
    /// The current warning, as last shown to the user.
    pub(super) warning: Option<String>,
}

/// The supported trackers of a torrent, without repetitions.
#[derive(Debug)]
pub(super) struct Tiers(Vec<Vec<Tracker>>);

impl Tiers {
    /// Shuffles each tier. The second list holds the URLs of unsupported protocols.
    pub(super) fn new(tiers: Vec<Vec<String>>, rng: &mut Rng) -> (Self, Vec<String>) {
        let mut seen: Vec<String> = Vec::new();
        let mut unsupported = Vec::new();
        let mut shuffled = Vec::new();
        for urls in tiers {
            let mut tier = Vec::new();
            for url in urls {
                if seen.contains(&url) {
                    continue;
                }
                seen.push(url.clone());
                if is_supported(&url) { tier.push(Tracker::new(url)) } else { unsupported.push(url) }
            }
            rng.shuffle(&mut tier);
            shuffled.push(tier);
        }
        (Self(shuffled), unsupported)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the trackers in the order in which they are tried.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Tracker> + Clone {
        self.0.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tracker> {
        self.0.iter_mut().flatten()
    }

    pub(super) fn find(&self, url: &str) -> Option<&Tracker> {
        self.iter().find(|tracker| tracker.url == url)
    }

    pub(super) fn find_mut(&mut self, url: &str) -> Option<&mut Tracker> {
        self.iter_mut().find(|tracker| tracker.url == url)
    }

    /// Moves a tracker that answered to the front of its tier (BEP 12).
    pub(super) fn move_to_front(&mut self, url: &str) {
        for tier in &mut self.0 {
            if let Some(at) = tier.iter().position(|tracker| tracker.url == url)
                && let Some(head) = tier.get_mut(..=at)
            {
                head.rotate_right(1);
            }
        }
    }
}

impl Tracker {
    fn new(url: String) -> Self {
        Self {
            url,
            started: false,
            owes_completed: false,
            tracker_id: None,
            failures: 0,
            retry_at: Time::ZERO,
            trouble: None,
            warning: None,
        }
    }
}

fn is_supported(url: &str) -> bool {
    url::read(url.as_bytes(), &url::TRACKER_SCHEMES).is_some()
}
