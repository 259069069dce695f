//! Tells the user that the process lacks descriptors or memory for new connections: once, and again after a while.

#![allow(clippy::disallowed_methods, reason = "warnings are limited by the clock")]

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::process::{Resource, getrlimit};
use tracing::warn;

use crate::base::limits::SHORTAGE_WARNING_INTERVAL;

/// One for all doors of the process: they lack the same descriptors.
static WARNED_AT: Mutex<Option<Instant>> = Mutex::new(None);

/// Warns if `error` says that there is no descriptor or memory left to open or accept a connection with.
pub fn report_shortage(error: &io::Error) {
    let Some(code) = error.raw_os_error().filter(|code| is_shortage(*code)) else { return };
    let mut warned_at = WARNED_AT.lock().unwrap_or_else(PoisonError::into_inner);
    if warned_at.is_some_and(|at| at.elapsed() < SHORTAGE_WARNING_INTERVAL) {
        return;
    }
    *warned_at = Some(Instant::now());
    drop(warned_at);
    if code == libc::EMFILE {
        let limit = getrlimit(Resource::Nofile).current.map_or("unlimited".to_owned(), |limit| limit.to_string());
        warn!("no descriptor is left, new connections wait: {error}: raise 'ulimit -n' ({limit})");
    } else {
        warn!("new connections wait: {error}");
    }
}

fn is_shortage(code: i32) -> bool {
    matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
}
