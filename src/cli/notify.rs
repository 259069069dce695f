//! What a service manager is told (sd_notify(3)), where there is one.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

const START_EXTENSION: Duration = Duration::from_secs(120);

/// Everything is up, and what is going on.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
}

/// The start goes on and may take this much longer; after [`ready`] there is no need for it.
pub fn starting(status: &str) {
    let more_us = START_EXTENSION.as_micros();
    tell(&format!("EXTEND_TIMEOUT_USEC={more_us}\nSTATUS={}", status.replace('\n', " ")));
}

/// What is going on.
pub fn status(status: &str) {
    tell(&format!("STATUS={}", status.replace('\n', " ")));
}

/// The end has begun.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(message: &str) {
    let Some(place) = env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else { return };
    let send = || {
        let address = match place.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&place)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
        Ok::<_, io::Error>(())
    };
    if let Err(error) = send() {
        tracing::warn!("the service manager can't be told: {error}");
    }
}
