//! Counts the system calls of a process by a tracepoint of the kernel.

use std::fs;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};

/// Mount points of tracefs; the second one is that of older systems.
const TRACE_FOLDERS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Counts system calls in the processes that its thread starts, from their `execve` on.
pub(super) struct SystemCalls(Counter);

impl SystemCalls {
    /// Starts counting. `None` if that is not allowed: it needs root, or CAP_PERFMON and a readable tracefs.
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

    /// Returns the number of system calls so far, those of ended threads and processes included.
    pub(super) fn count(&mut self) -> Option<u64> {
        self.0.read().ok()
    }
}
