//! System calls of a process, counted by the kernel where it lets us.

use std::fs;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Where tracepoints are told; the second is its older place.
const TRACE_FOLDERS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Counts in the processes that the thread which made it starts, from their first instruction on.
pub(super) struct SystemCalls(Counter);

impl SystemCalls {
    /// `None` where this is not allowed: that takes root, or CAP_PERFMON and a readable tracefs.
    pub(super) fn of_children() -> Option<Self> {
        let id = TRACE_FOLDERS
            .iter()
            .find_map(|folder| fs::read_to_string(format!("{folder}/events/raw_syscalls/sys_enter/id")).ok())?;
        let counter = Builder::new(Tracepoint::with_id(id.trim().parse().ok()?))
            .observe_self()
            .inherit(true)
            .enable_on_exec(true)
            .include_kernel()
            .build();
        counter.ok().map(Self)
    }

    /// All until now, also those of threads and processes that have ended.
    pub(super) fn count(&mut self) -> Option<u64> {
        self.0.read().ok()
    }
}
