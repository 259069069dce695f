//! The number of complete hosts of all torrents together.

use std::fmt;

use crate::base::limits::TORRENTS_LISTED_MAX;
use crate::swarm::HostCounts;

/// The hosts of all torrents that are served. Its display is a part of a progress line, such as
/// `image.img: 3 of 5 hosts complete`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostSummary {
    torrent_count: usize,
    /// Torrents with hosts that are all complete.
    done_count: usize,
    /// The number of complete hosts of the torrent with the fewest.
    pub fewest_complete: usize,
    /// The torrents if they are few.
    listed: Vec<TorrentHosts>,
    /// The torrent with the most hosts that lack pieces.
    furthest: Option<TorrentHosts>,
}

/// The hosts of one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TorrentHosts {
    /// Safe for a terminal.
    pub(super) name: String,
    pub(super) counts: HostCounts,
}

impl TorrentHosts {
    fn lacking(&self) -> usize {
        self.counts.seen - self.counts.complete
    }
}

impl HostSummary {
    /// `torrents` are in the order in which they are listed.
    pub(super) fn of<'a>(torrents: impl ExactSizeIterator<Item = (&'a str, HostCounts)>) -> Self {
        let mut summary = Self { torrent_count: torrents.len(), fewest_complete: usize::MAX, ..Self::default() };
        for (name, counts) in torrents {
            summary.fewest_complete = summary.fewest_complete.min(counts.complete);
            summary.done_count += usize::from(counts.seen > 0 && counts.complete == counts.seen);
            let lacking_most = summary.furthest.as_ref().map_or(0, TorrentHosts::lacking);
            let hosts = || TorrentHosts { name: name.to_owned(), counts };
            if counts.seen - counts.complete > lacking_most {
                summary.furthest = Some(hosts());
            }
            if summary.torrent_count <= TORRENTS_LISTED_MAX {
                summary.listed.push(hosts());
            }
        }
        if summary.torrent_count == 0 {
            summary.fewest_complete = 0;
        }
        summary
    }
}

impl fmt::Display for HostSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { torrent_count, done_count, listed, furthest, .. } = self;
        let short =
            |TorrentHosts { name, counts }: &TorrentHosts| format!("{name} {}/{}", counts.complete, counts.seen);
        match (listed.as_slice(), furthest) {
            ([], _) if *torrent_count == 0 => f.write_str("no torrents"),
            ([TorrentHosts { name, counts }], _) => {
                write!(f, "{name}: {} of {} hosts complete", counts.complete, counts.seen)
            }
            ([], None) => write!(f, "{torrent_count} torrents: {done_count} complete on every host seen"),
            ([], Some(furthest)) => {
                write!(f, "{torrent_count} torrents: {done_count} complete on every host seen, {}", short(furthest))
            }
            (listed, _) => {
                let listed: Vec<String> = listed.iter().map(short).collect();
                write!(f, "{torrent_count} torrents: {}", listed.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(torrents: &[(&str, usize, usize)]) -> HostSummary {
        let hosts = |&(name, complete, seen): &(_, usize, usize)| (name, HostCounts { seen, complete });
        HostSummary::of(torrents.iter().map(hosts).collect::<Vec<_>>().into_iter())
    }

    #[test]
    fn few_torrents_are_listed_and_many_summed_up() {
        let (image, folder) = (("image.img", 3, 5), ("folder", 5, 5));
        for (torrents, shown, fewest) in [
            (&[][..], "no torrents", 0),
            (&[image], "image.img: 3 of 5 hosts complete", 3),
            (&[image, folder], "2 torrents: image.img 3/5, folder 5/5", 3),
            (&[folder, image, folder, ("x", 0, 1)], "4 torrents: 2 complete on every host seen, image.img 3/5", 0),
            (&[folder, folder, folder, ("x", 0, 0)], "4 torrents: 3 complete on every host seen", 0),
        ] {
            let summary = summary(torrents);
            assert_eq!((summary.to_string().as_str(), summary.fewest_complete), (shown, fewest));
        }
    }
}
