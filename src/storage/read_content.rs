//! Content that is read into the heap: that of short files, as one map per file would exceed the limit on maps, and
//! that of long files while no map is available.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::budget::{Budget, BudgetedCache};
use super::memory_limit::memory_limit;
use crate::base::limits;

/// A contiguous range of the content.
#[derive(Debug)]
pub(super) struct Run {
    /// Byte offset in the content.
    start: u64,
    bytes: Box<[u8]>,
}

/// The parts of one extent that were read: runs in ascending order.
#[derive(Debug, Default)]
pub(super) struct Pack(Box<[Arc<Run>]>);

/// The packs of one torrent, by extent.
pub(super) type Packs = BudgetedCache<Pack>;

/// The budget of the process in bytes, a share of its memory limit. Its minimum covers several extents.
pub(super) fn packs_budget() -> Arc<Budget<Pack>> {
    static BUDGET: OnceLock<Arc<Budget<Pack>>> = OnceLock::new();
    let len = (memory_limit() / limits::READ_CONTENT_MEMORY_SHARE)
        .clamp(limits::READ_CONTENT_LEN_MIN, limits::READ_CONTENT_LEN_MAX);
    BUDGET.get_or_init(|| Budget::new(len)).clone()
}

impl Run {
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// The position of a range of the content in the run, or `None` if the run does not contain all of it.
    fn place(&self, range: &Range<u64>) -> Option<Range<usize>> {
        let at = |offset: u64| usize::try_from(offset.checked_sub(self.start)?).ok();
        let place = at(range.start)?..at(range.end)?;
        (place.end <= self.bytes.len()).then_some(place)
    }
}

impl Pack {
    /// The run that contains a range of the content, and the position of the range in it.
    pub(super) fn find(&self, range: &Range<u64>) -> Option<(&Arc<Run>, Range<usize>)> {
        let behind = self.0.partition_point(|run| run.start <= range.start);
        let run = self.0.get(behind.checked_sub(1)?)?;
        Some((run, run.place(range)?))
    }

    /// Memory that the pack uses, in bytes.
    pub(super) fn cost(&self) -> u64 {
        self.0.iter().map(|run| (run.bytes.len() + size_of::<Run>()) as u64).sum()
    }
}

/// A pack that is being read.
#[derive(Debug, Default)]
pub(super) struct PackDraft {
    runs: Vec<Arc<Run>>,
    /// Offset in the content of the current run, whose bytes are `bytes`.
    start: u64,
    bytes: Vec<u8>,
}

impl PackDraft {
    /// Reads a range of the content that follows all earlier ones. A range that cannot be read is a gap between runs.
    pub(super) fn read(
        &mut self,
        range: &Range<u64>,
        read: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.start + self.bytes.len() as u64 != range.start {
            self.end_run();
            self.start = range.start;
        }
        let filled = self.bytes.len();
        let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        self.bytes.try_reserve(len).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        self.bytes.resize(filled + len, 0);
        read(self.bytes.get_mut(filled..).unwrap_or_default()).inspect_err(|_| self.bytes.truncate(filled))
    }

    fn end_run(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes).into();
            self.runs.push(Arc::new(Run { start: self.start, bytes }));
        }
    }

    pub(super) fn finish(mut self) -> Pack {
        self.end_run();
        Pack(self.runs.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_ranges_are_one_run_and_failures_are_gaps() {
        let mut draft = PackDraft::default();
        let fill = |byte| {
            move |buffer: &mut [u8]| {
                buffer.fill(byte);
                Ok(())
            }
        };
        draft.read(&(10..13), fill(1)).unwrap();
        draft.read(&(13..15), fill(2)).unwrap();
        draft.read(&(15..20), |_| Err(io::ErrorKind::NotFound.into())).unwrap_err();
        draft.read(&(20..21), fill(3)).unwrap();
        let pack = draft.finish();
        let bytes = |range| pack.find(&range).map(|(run, place)| run.bytes[place].to_vec());
        assert_eq!(bytes(10..15), Some(vec![1, 1, 1, 2, 2]));
        assert_eq!(bytes(12..14), Some(vec![1, 2]));
        assert_eq!(bytes(20..21), Some(vec![3]));
        assert!([9..11, 14..16, 15..16, 19..21, 20..22].into_iter().all(|range| bytes(range).is_none()));
        assert!(Pack::default().find(&(0..1)).is_none() && pack.cost() > 6);
    }
}
