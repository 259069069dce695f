//! `get --select`: chooses the files of a torrent to download.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::exit::{Exit, Failure};
use crate::base::escape::{printable, printed};
use crate::codec::metainfo::{FileEntry, Metainfo};
use crate::create::Filters;
use crate::create::filters::Verdict;
use crate::swarm::Choice;

/// One `--select`.
#[derive(Debug)]
pub struct Selector {
    /// The value as it was given, printable.
    text: String,
    pattern: Pattern,
}

#[derive(Debug)]
enum Pattern {
    /// File numbers from 1 on, as `show` prints them; padding files have none.
    Numbers(Vec<RangeInclusive<usize>>),
    Glob(Filters),
}

/// The files to download.
#[derive(Debug)]
pub struct Chosen {
    /// The choice for each file of the torrent.
    pub choices: Box<[Choice]>,
    /// The number of wanted files.
    pub file_count: usize,
    /// Bytes of the wanted files.
    pub len: u64,
}

impl Selector {
    /// Parses a list of numbers if the text has only digits, commas and dashes, and a glob otherwise.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse =
            |why: &str| Failure::new(Exit::Usage, format_args!("--select: '{}': {why}", printable(text.as_bytes())));
        let pattern = if text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-')) {
            let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
            Pattern::Numbers(ranges.ok_or_else(|| refuse("give numbers from 1 on and ranges, as 1,3-5, or a glob"))?)
        } else {
            let filters = Filters::new([text]).map_err(|error| refuse(&printed(error)))?;
            Pattern::Glob(filters.with_junk(true))
        };
        Ok(Self { text: printable(text.as_bytes()), pattern })
    }

    fn matches(&self, number: usize, file: &FileEntry) -> bool {
        match &self.pattern {
            Pattern::Numbers(ranges) => ranges.iter().any(|range| range.contains(&number)),
            Pattern::Glob(filters) => {
                let inner = if file.path.len() > 1 { file.path.get(1..) } else { file.path.get(..) };
                let path: PathBuf = inner.unwrap_or_default().iter().map(|name| OsStr::from_bytes(name)).collect();
                filters.judge(&path) == Verdict::Include
            }
        }
    }
}

/// Parses `3`, `3-5`, or `3-` for all numbers from 3 on.
fn range(text: &str) -> Option<RangeInclusive<usize>> {
    let (start, end) = match text.split_once('-') {
        None => (text.parse().ok()?, text.parse().ok()?),
        Some((start, "")) => (start.parse().ok()?, usize::MAX),
        Some((start, end)) => (start.parse().ok()?, end.parse().ok()?),
    };
    (1 <= start && start <= end).then_some(start..=end)
}

/// Applies the selectors; `None` if there are none. The files of an earlier selector are downloaded first.
///
/// Fails if a selector matches no file.
pub fn choose(selectors: &[Selector], metainfo: &Metainfo) -> Result<Option<Chosen>, Failure> {
    if selectors.is_empty() {
        return Ok(None);
    }
    let files = &metainfo.info.files;
    let mut choices: Box<[Choice]> =
        files.iter().map(|file| if file.pad { Choice::Kept } else { Choice::Deselected }).collect();
    for (selector, rank) in selectors.iter().zip(0u8..) {
        let mut any = false;
        let listed = files.iter().zip(&mut choices).filter(|(file, _)| !file.pad);
        for (number, (file, choice)) in (1..).zip(listed) {
            if selector.matches(number, file) {
                any = true;
                if *choice == Choice::Deselected {
                    *choice = Choice::Wanted(u8::MAX - rank);
                }
            }
        }
        if !any {
            let count = files.iter().filter(|file| !file.pad).count();
            let line =
                format!("--select: '{}' matches none of the {count} files: 'bt-fast show' lists them", selector.text);
            return Err(Failure::new(Exit::Usage, line));
        }
    }
    let wanted = || choices.iter().zip(files).filter(|(choice, _)| matches!(choice, Choice::Wanted(_)));
    let (file_count, len) = (wanted().count(), wanted().map(|(_, file)| file.len).sum());
    Ok(Some(Chosen { choices, file_count, len }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PieceHash;
    use crate::codec::metainfo::{Draft, DraftFiles, MetainfoLimits};

    /// Indices of the wanted files in the order of download.
    fn chosen(selectors: &[&str], paths: &[&str]) -> Result<Vec<usize>, String> {
        let entry = |path: &&str| FileEntry {
            path: path.split('/').map(|name| name.as_bytes().to_vec()).collect(),
            len: 10,
            pad: false,
            symlink: None,
        };
        let files = DraftFiles::Many(paths.iter().map(entry).collect());
        let draft = Draft::new(b"top".to_vec(), 16_384, files, vec![PieceHash([0; 20])]);
        let metainfo = Metainfo::decode(&draft.encode(), &MetainfoLimits::default()).unwrap();
        let selectors: Result<Vec<_>, _> = selectors.iter().map(|text| Selector::parse(text)).collect();
        let chosen = choose(&selectors.map_err(|e| e.to_string())?, &metainfo).map_err(|e| e.to_string())?;
        let choices = chosen.map(|chosen| chosen.choices).unwrap_or_default();
        let mut wanted: Vec<(usize, u8)> = (0..)
            .zip(&choices)
            .filter_map(|(at, choice)| if let Choice::Wanted(rank) = choice { Some((at, *rank)) } else { None })
            .collect();
        wanted.sort_by_key(|&(at, rank)| (std::cmp::Reverse(rank), at));
        Ok(wanted.into_iter().map(|(at, _)| at).collect())
    }

    const PATHS: [&str; 5] = ["a.iso", "b.txt", "sub/c.iso", "sub/d.txt", "e"];

    #[test]
    fn numbers_ranges_and_globs_choose_files_in_order() {
        for (selectors, expected) in [
            (&["2"][..], &[1][..]),
            (&["1,3-4"], &[0, 2, 3]),
            (&["4-"], &[3, 4]),
            (&["4-", "1"], &[3, 4, 0]),
            (&["*.iso"], &[0, 2]),
            (&["sub"], &[2, 3]),
            (&["sub/*.txt", "e", "*.iso"], &[3, 4, 0, 2]),
            (&["!*.iso"], &[1, 3, 4]),
            (&["*", "1"], &[0, 1, 2, 3, 4]),
            (&[], &[]),
        ] {
            assert_eq!(chosen(selectors, &PATHS).unwrap(), expected, "{selectors:?}");
        }
    }

    #[test]
    fn a_selector_that_matches_nothing_is_refused() {
        for (selector, part) in [
            ("6", "'6' matches none of the 5 files"),
            ("*.mp3", "'*.mp3' matches none"),
            ("0", "give numbers from 1 on"),
            ("3-1", "give numbers"),
            ("1,,2", "give numbers"),
            ("", "give numbers"),
            ("99999999999999999999", "give numbers"),
            ("a[", "bad glob"),
        ] {
            let refusal = chosen(&[selector], &PATHS).unwrap_err();
            assert!(refusal.contains(part), "{selector}: {refusal}");
        }
    }
}
