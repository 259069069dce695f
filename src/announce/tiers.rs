//! Trackers in their tiers (BEP 12).

use crate::base::{Rng, Time};
use crate::codec::url;

/// Of a tracker that is not asked again.
pub(super) const NEVER: Time = Time::MAX;

/// What we know of one tracker.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) url: String,
    /// It answered a `started`, and no `stopped` yet.
    pub(super) started: bool,
    /// It counts us as a downloader and we are one no longer.
    pub(super) owes_completed: bool,
    pub(super) tracker_id: Option<Vec<u8>>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Not to be asked before.
    pub(super) retry_at: Time,
    /// What was last told to the user, while it holds.
    pub(super) trouble: Option<String>,
    pub(super) warning: Option<String>,
}

/// All trackers of a torrent that we can speak to, each once.
#[derive(Debug)]
pub(super) struct Tiers(Vec<Vec<Tracker>>);

impl Tiers {
    /// Shuffles each tier. The second list holds the URLs of protocols we do not speak.
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
                if is_known(&url) { tier.push(Tracker::new(url)) } else { unsupported.push(url) }
            }
            rng.shuffle(&mut tier);
            shuffled.push(tier);
        }
        (Self(shuffled), unsupported)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// In the order in which they are asked.
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

    /// BEP 12: a tracker that answers moves to the front of its tier.
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

fn is_known(url: &str) -> bool {
    url::read(url.as_bytes(), &url::TRACKER_SCHEMES).is_some()
}
