//! Notifications to a service manager (sd_notify(3)), if there is one.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use std::{env, io};

/// How much longer a start may take after each [`starting`].
const START_EXTENSION: Duration = Duration::from_secs(120);

/// Reports that the service is ready.
pub fn ready(status: &str) {
    send(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
}

/// Reports progress of the start, and extends its timeout by two minutes. Not needed after [`ready`].
pub fn starting(status: &str) {
    let more_us = START_EXTENSION.as_micros();
    send(&format!("EXTEND_TIMEOUT_USEC={more_us}\nSTATUS={}", status.replace('\n', " ")));
}

/// Reports the status line.
pub fn status(status: &str) {
    send(&format!("STATUS={}", status.replace('\n', " ")));
}

/// Reports that the service is stopping.
pub fn stopping() {
    send("STOPPING=1");
}

fn send(message: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    let sent = || {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
        Ok::<_, io::Error>(())
    };
    if let Err(error) = sent() {
        tracing::warn!("can't notify the service manager: {error}");
    }
}
