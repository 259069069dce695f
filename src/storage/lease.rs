//! The right to have the kernel read content from memory: of maps, or of what was read.

use std::sync::Arc;

use super::mapping::Mapped;
use super::read_content::Run;
use crate::base::FileSpan;
use crate::uring::Gather;

/// Spans of the content in memory; what they lie in stays while this lives.
#[derive(Debug, Default)]
pub struct ReadLease {
    spans: Vec<LeaseSpan>,
}

#[derive(Debug)]
enum LeaseSpan {
    Mapped { map: Arc<Mapped>, offset: usize, len: usize },
    Read { run: Arc<Run>, offset: usize, len: usize },
}

impl ReadLease {
    /// `None` when the map does not reach so far.
    pub(super) fn push_mapped(&mut self, map: Arc<Mapped>, span: FileSpan) -> Option<()> {
        let (offset, len) = map.place(span)?;
        self.spans.push(LeaseSpan::Mapped { map, offset, len });
        Some(())
    }

    /// `len` bytes of the run from `offset` on, which lie in it.
    pub(super) fn push_read(&mut self, run: &Arc<Run>, offset: usize, len: usize) {
        // Content of many files that follow each other leaves as one.
        if let Some(LeaseSpan::Read { run: last, offset: start, len: last_len }) = self.spans.last_mut()
            && Arc::ptr_eq(last, run)
            && *start + *last_len == offset
        {
            *last_len += len;
        } else {
            self.spans.push(LeaseSpan::Read { run: run.clone(), offset, len });
        }
    }
}

// SAFETY: the spans lie inside maps and runs that the lease keeps alive. Nothing writes to a run. The files of maps may be
// written to by other programs, which the kernel reads as it would from a file: no Rust reference to those bytes exists.
unsafe impl Gather for ReadLease {
    fn gather(&self, out: &mut Vec<libc::iovec>) {
        out.extend(self.spans.iter().map(|span| {
            let (start, offset, len) = match span {
                LeaseSpan::Mapped { map, offset, len } => (map.as_ptr(), *offset, *len),
                LeaseSpan::Read { run, offset, len } => (run.as_ptr(), *offset, *len),
            };
            libc::iovec { iov_base: start.wrapping_add(offset).cast_mut().cast(), iov_len: len }
        }));
    }
}
