//! Name lookups with a time limit.

use std::io;
use std::net::SocketAddr;

use tokio::time::timeout;
use tracing::debug;

use crate::base::escape::printable;
use crate::base::limits::{LOOKUP_ADDRESSES_MAX, LOOKUP_TIMEOUT};

/// Returns all addresses of a name. A lookup that times out continues in the background.
pub(in crate::engine) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "its name was not resolved in time");
    let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await.map_err(late)??;
    Ok(found.collect())
}

/// Returns the first [`LOOKUP_ADDRESSES_MAX`] addresses of a peer, since a name stands for one peer. Empty if the
/// lookup fails.
pub(in crate::engine) async fn look_up_peer(host: &str, port: u16) -> Vec<SocketAddr> {
    let mut found = look_up(host, port).await.unwrap_or_else(|error| {
        debug!("{}: {error}", printable(host.as_bytes()));
        Vec::new()
    });
    found.truncate(LOOKUP_ADDRESSES_MAX);
    found
}
