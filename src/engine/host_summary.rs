//! The number of complete hosts of all torrents together.

use std::fmt;

use crate::base::limits::TORRENTS_LISTED_MAX;
use crate::base::units::Count;
use crate::swarm::HostCounts;

/// The hosts of all torrents that are served. Its display is a part of a progress line, such as
/// `image.img: 3 of 5 hosts complete`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostSummary {
    torrent_count: usize,
    /// Torrents with hosts that are all complete.
    done_count: usize,
    /// The hosts of all torrents. A host of several torrents counts once for each.
    sum: HostCounts,
    /// The number of complete hosts of the torrent with the fewest.
    pub fewest_complete: usize,
    /// The torrents if they are few.
    listed: Vec<TorrentHosts>,
    /// The torrent with the most hosts that lack pieces.
    furthest: Option<TorrentHosts>,
}

/// The hosts of one torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TorrentHosts {
    /// Safe for a terminal.
    name: String,
    counts: HostCounts,
}

impl HostSummary {
    /// `torrents` are in the order in which they are listed.
    pub(crate) fn of<'a>(torrents: impl ExactSizeIterator<Item = (&'a str, HostCounts)>) -> Self {
        let mut summary = Self { torrent_count: torrents.len(), fewest_complete: usize::MAX, ..Self::default() };
        let mut lacking_most = 0;
        for (name, counts) in torrents {
            summary.fewest_complete = summary.fewest_complete.min(counts.complete);
            summary.done_count += usize::from(counts.seen > 0 && counts.complete == counts.seen);
            summary.sum.seen += counts.seen;
            summary.sum.complete += counts.complete;
            let hosts = || TorrentHosts { name: name.to_owned(), counts };
            let lacking = counts.seen.saturating_sub(counts.complete);
            if lacking > lacking_most {
                lacking_most = lacking;
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

    /// Returns the summary as a part of a line, with each name as `shorten` returns it.
    pub fn named(&self, shorten: impl Fn(&str) -> String) -> String {
        let Self { torrent_count, done_count, listed, furthest, .. } = self;
        let short = |TorrentHosts { name, counts }: &TorrentHosts| {
            format!("{} {}/{}", shorten(name), counts.complete, counts.seen)
        };
        match (listed.as_slice(), furthest) {
            ([], _) if *torrent_count == 0 => "no torrents".to_owned(),
            ([TorrentHosts { name, .. }], _) => format!("{}: {}", shorten(name), self.counted()),
            ([], None) => format!("{torrent_count} torrents: {done_count} complete on every host seen"),
            ([], Some(furthest)) => {
                format!("{torrent_count} torrents: {done_count} complete on every host seen, {}", short(furthest))
            }
            (listed, _) => {
                let listed: Vec<String> = listed.iter().map(short).collect();
                format!("{torrent_count} torrents: {}", listed.join(", "))
            }
        }
    }

    /// Returns the counts without names, such as `3 of 5 hosts complete` or `2 torrents, 6 of 10 hosts`.
    pub fn counted(&self) -> String {
        let HostCounts { seen, complete } = self.sum;
        match self.torrent_count {
            0 => "no torrents".to_owned(),
            1 => format!("{complete} of {} complete", Count(seen as u64, "host")),
            count => format!("{count} torrents, {complete} of {}", Count(seen as u64, "host")),
        }
    }

    /// Returns the sum of the counts in the shortest form, such as `6/10 hosts`.
    pub fn shortest(&self) -> String {
        format!("{}/{} hosts", self.sum.complete, self.sum.seen)
    }
}

impl fmt::Display for HostSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named(str::to_owned))
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
            (&[("image.img", 1, 1)], "image.img: 1 of 1 host complete", 1),
            (&[image, folder], "2 torrents: image.img 3/5, folder 5/5", 3),
            (&[folder, image, folder, ("x", 0, 1)], "4 torrents: 2 complete on every host seen, image.img 3/5", 0),
            (&[folder, folder, folder, ("x", 0, 0)], "4 torrents: 3 complete on every host seen", 0),
        ] {
            let summary = summary(torrents);
            assert_eq!((summary.to_string().as_str(), summary.fewest_complete), (shown, fewest));
        }
    }

    #[test]
    fn counts_are_shown_without_names() {
        let (image, folder) = (("image.img", 3, 5), ("folder", 5, 5));
        for (torrents, counted, shortest) in [
            (&[][..], "no torrents", "0/0 hosts"),
            (&[image], "3 of 5 hosts complete", "3/5 hosts"),
            (&[image, folder], "2 torrents, 8 of 10 hosts", "8/10 hosts"),
        ] {
            let summary = summary(torrents);
            assert_eq!((summary.counted().as_str(), summary.shortest().as_str()), (counted, shortest));
        }
        assert_eq!(summary(&[image]).named(|name| name.to_uppercase()), "IMAGE.IMG: 3 of 5 hosts complete");
    }
}
