//! Sockets that a service manager hands over (sd_listen_fds(3)), recognized by their names.

use std::net::{TcpListener, UdpSocket};
use std::{env, io};

use listenfd::ListenFd;

use super::exit::Failure;
use super::options::usage;
use crate::base::escape::printable;

/// The sockets that were handed over, at most one of each name.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// Listener for peers.
    pub peers: Option<TcpListener>,
    /// Listener for the public pages and the HTTP tracker.
    pub web: Option<TcpListener>,
    /// Socket of the UDP tracker.
    pub tracker: Option<UdpSocket>,
    /// Listener for the operator's pages.
    pub admin: Option<TcpListener>,
}

impl Handed {
    /// Takes the sockets from the environment. `wanted` are the names that the command uses; any other name is an
    /// error. Must be called at most once.
    pub(super) fn take(wanted: &[&str]) -> Result<Self, Failure> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = ListenFd::from_env();
        let mut handed = Self::default();
        let mut names = names.split(':');
        for index in 0..sockets.len() {
            let name = names.next().unwrap_or_default();
            let is_free = match name {
                _ if !wanted.contains(&name) => false,
                "peers" => handed.peers.is_none(),
                "web" => handed.web.is_none(),
                "tracker" => handed.tracker.is_none(),
                _ => handed.admin.is_none(),
            };
            if !is_free {
                return Err(usage(format_args!(
                    "a socket named '{}' was handed over: its unit's FileDescriptorName= must be one of {}, each used once",
                    printable(name.as_bytes()),
                    wanted.join(", "),
                )));
            }
            let place = |error| Failure::io("can't use the socket that was handed over", name, &error);
            match name {
                "tracker" => handed.tracker = sockets.take_udp_socket(index).map_err(place)?,
                _ => {
                    let listener = sockets.take_tcp_listener(index).and_then(blocking).map_err(place)?;
                    match name {
                        "peers" => handed.peers = listener,
                        "web" => handed.web = listener,
                        _ => handed.admin = listener,
                    }
                }
            }
        }
        Ok(handed)
    }

    /// Fails if there are sockets of the web side and `has_web` is false, or a tracker socket without the listener for
    /// the pages, whose port the tracker shares.
    pub(super) fn check(&self, has_web: bool) -> Result<(), Failure> {
        match (&self.web, &self.tracker, &self.admin) {
            (None, Some(_), _) => Err(usage("a socket named 'tracker' was handed over without one named 'web'")),
            (Some(_), ..) | (.., Some(_)) if !has_web => Err(usage(
                "a socket for the web side was handed over, and the web side is off: name content, or give --web",
            )),
            _ => Ok(()),
        }
    }
}

/// Makes a listener blocking, regardless of the unit's `NonBlocking=`. A caller that needs a non-blocking one sets it
/// again.
fn blocking(listener: Option<TcpListener>) -> io::Result<Option<TcpListener>> {
    listener.map(|listener| listener.set_nonblocking(false).map(|()| listener)).transpose()
}
