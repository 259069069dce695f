//! Warnings about new connections that cannot be opened or accepted.

#![allow(clippy::disallowed_methods, reason = "warnings are limited by the clock")]

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use tracing::warn;

use crate::base::limits::{ACCEPT_FAILURES_REPORTED, SHORTAGE_WARNING_INTERVAL};
use crate::base::lock::lock;

/// Shared by all listeners of the process, which lack the same descriptors.
static WARNED_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// The failures of a listener since it last accepted a connection.
#[derive(Debug, Default)]
pub struct AcceptFailures(u32);

impl AcceptFailures {
    /// The listener works.
    pub fn handle_accepted(&mut self) {
        self.0 = 0;
    }

    /// The listener has failed, and will be tried again. Warns of a shortage at once, and of another failure once in the
    /// process if it lasts.
    pub fn handle_failed(&mut self, error: &io::Error) {
        static HAS_WARNED: AtomicBool = AtomicBool::new(false);
        self.0 = self.0.saturating_add(1);
        if error.raw_os_error().is_some_and(is_shortage) {
            report_shortage(error);
        } else if self.0 == ACCEPT_FAILURES_REPORTED && !HAS_WARNED.swap(true, Ordering::Relaxed) {
            warn!("new connections wait: accept: {error}: {}", remedy(error));
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            "a container may need a seccomp profile that allows accept4 and setsockopt"
        }
        _ => "bt-fast tries again; restart it if that does not help",
    }
}

/// Warns if `error` means that no descriptor or memory is left to open or accept a connection, at most once per
/// interval.
pub fn report_shortage(error: &io::Error) {
    match error.raw_os_error().filter(|code| is_shortage(*code)) {
        Some(libc::EMFILE) => report_descriptor_limit(),
        Some(libc::ENFILE) => warn_of(|| format!("{error}: raise 'sysctl fs.file-max'")),
        Some(_) => warn_of(|| format!("{error}: free memory, or allow fewer connections")),
        None => {}
    }
}

/// Warns that all descriptors which connections may have are in use.
pub fn report_descriptor_limit() {
    warn_of(|| {
        let limit = getrlimit(Resource::Nofile).current.map_or("unlimited".to_owned(), |limit| limit.to_string());
        format!("no descriptor is left for them: raise the hard limit 'ulimit -Hn' ({limit})")
    });
}

fn warn_of(cause: impl FnOnce() -> String) {
    let mut warned_at = lock(&WARNED_AT);
    if warned_at.is_some_and(|at| at.elapsed() < SHORTAGE_WARNING_INTERVAL) {
        return;
    }
    *warned_at = Some(Instant::now());
    drop(warned_at);
    warn!("new connections wait or are refused: {}", cause());
}

fn is_shortage(code: i32) -> bool {
    matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}
