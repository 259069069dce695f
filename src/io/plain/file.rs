//! Writes and syncs for threads that may block.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use crate::base::limits::DIRECT_ALIGN;
use crate::io::fault::{Step, chaos_truncate_blocking, fault_point};
use crate::io::memory::{FlushStep, Gather, SPANS_PER_CALL, advance};
use crate::io::retry::retry_transient;

/// Writes all bytes of `source` at `offset`.
pub fn write_all_at_blocking<G: Gather + ?Sized>(file: &File, source: &G, offset: u64) -> io::Result<()> {
    let mut spans = Vec::new();
    source.gather(&mut spans);
    let mut at = offset;
    while let Some(first) = spans.first_mut() {
        fault_point(Step::Write)?;
        let whole = first.iov_len;
        first.iov_len = chaos_truncate_blocking(whole, DIRECT_ALIGN);
        let count = if first.iov_len < whole { 1 } else { spans.len().min(SPANS_PER_CALL) };
        let count = libc::c_int::try_from(count).unwrap_or(1);
        let at_signed = libc::off64_t::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let written = retry_transient(|| {
            // SAFETY: the spans point into memory that `source` keeps alive (contract of `Gather`) and outlive the call.
            let written = unsafe { libc::pwritev64(file.as_raw_fd(), spans.as_ptr(), count, at_signed) };
            usize::try_from(written).map_err(|_| io::Error::last_os_error())
        })?;
        if let Some(first) = spans.first_mut() {
            first.iov_len = whole;
        }
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written as u64;
        advance(&mut spans, written);
    }
    Ok(())
}

/// Takes a step of writing out the dirty pages in a range of a file. Does nothing on a file system without a disk.
pub fn flush_range_blocking(file: &File, offset: u64, len: u32, step: FlushStep) -> io::Result<()> {
    let offset = libc::off64_t::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    retry_transient(|| {
        // SAFETY: the call takes no pointer.
        let failed = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len.into(), step.flags()) };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}
