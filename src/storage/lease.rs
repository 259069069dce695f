//! Leases: the right to let the kernel read content from memory, in maps or in runs that were read.

use std::sync::Arc;

use super::mapping::Mapped;
use super::read_content::Run;
use crate::base::FileSpan;
use crate::io::Gather;

/// Spans of content in memory. The lease keeps the maps and runs that contain them alive.
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
    /// Appends a span of a mapped file. Returns `None` if the map is too short.
    pub(super) fn push_mapped(&mut self, map: Arc<Mapped>, span: FileSpan) -> Option<()> {
        let (offset, len) = map.place(span)?;
        self.spans.push(LeaseSpan::Mapped { map, offset, len });
        Some(())
    }

    /// Appends `len` bytes of the run from `offset`, which must lie inside the run.
    pub(super) fn push_read(&mut self, run: &Arc<Run>, offset: usize, len: usize) {
        // Adjacent files in one run become a single span.
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

// SAFETY: the spans lie inside maps and runs that the lease keeps alive. Nothing writes to a run. Other programs may
// write to a mapped file; the kernel then sends the new bytes, and no Rust reference to them exists.
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
