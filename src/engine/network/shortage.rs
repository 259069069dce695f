//! Warnings that descriptors or memory for new connections are short, at most once per interval.

#![allow(clippy::disallowed_methods, reason = "warnings are limited by the clock")]

use std::io;
use std::sync::Mutex;
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use tracing::warn;

use crate::base::limits::SHORTAGE_WARNING_INTERVAL;
use crate::base::lock::lock;

/// Shared by all listeners of the process, which lack the same descriptors.
static WARNED_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// Warns if `error` means that no descriptor or memory is left to open or accept a connection.
pub fn report_shortage(error: &io::Error) {
    match error.raw_os_error().filter(|code| is_shortage(*code)) {
        Some(libc::EMFILE) => report_descriptor_limit(),
        Some(libc::ENFILE) => warn_of(&format!("{error}: raise 'sysctl fs.file-max'")),
        Some(_) => warn_of(&format!("{error}: free memory, or allow fewer connections")),
        None => {}
    }
}

/// Warns that all descriptors which connections may have are in use.
pub fn report_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile).current.map_or("unlimited".to_owned(), |limit| limit.to_string());
    warn_of(&format!("no descriptor is left for them: raise 'ulimit -n' ({limit})"));
}

fn warn_of(cause: &str) {
    let mut warned_at = lock(&WARNED_AT);
    if warned_at.is_some_and(|at| at.elapsed() < SHORTAGE_WARNING_INTERVAL) {
        return;
    }
    *warned_at = Some(Instant::now());
    drop(warned_at);
    warn!("new connections wait or are refused: {cause}");
}

fn is_shortage(code: i32) -> bool {
    matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}
