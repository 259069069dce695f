//! Looking up names, within a time. What is done with the addresses is the caller's.

use std::io;
use std::net::SocketAddr;

use tokio::time::timeout;
use tracing::debug;

use crate::base::escape::printable;
use crate::base::limits::{LOOKUP_ADDRESSES_MAX, LOOKUP_TIMEOUT};

/// All addresses of a tracker. The look-up goes on by itself when nobody waits for it any more.
pub(in crate::engine) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "its name was not found in time");
    let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await.map_err(late)??;
    Ok(found.collect())
}

/// The addresses of a peer: a name stands for one, so only the first of many are taken. None where there is no answer.
pub(in crate::engine) async fn look_up_peer(host: &str, port: u16) -> Vec<SocketAddr> {
    let mut found = look_up(host, port).await.unwrap_or_else(|error| {
        debug!("{}: {error}", printable(host.as_bytes()));
        Vec::new()
    });
    found.truncate(LOOKUP_ADDRESSES_MAX);
    found
}
