//! Sockets that a service manager has opened for us (sd_listen_fds(3)), told apart by their names.

use std::env;
use std::io;
use std::net::{TcpListener, UdpSocket};

use listenfd::ListenFd;

use super::exit::Failure;
use super::options::usage;

/// What was handed over, each at most once.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// TCP, listening: where peers connect to us.
    pub peers: Option<TcpListener>,
    /// TCP, listening: the public pages and the tracker.
    pub web: Option<TcpListener>,
    /// UDP: the tracker.
    pub tracker: Option<UdpSocket>,
    /// TCP, listening: the operator's pages.
    pub admin: Option<TcpListener>,
}

impl Handed {
    /// Takes them over from the environment; nobody else does. `wanted` are the names that this command has a use for.
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
                    "a socket named '{}' was handed over: its unit's FileDescriptorName= has to be one of {}, each once",
                    crate::base::escape::printable(name.as_bytes()),
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

    /// Sockets of the web side are no use where there is none, and the tracker stands on the pages' port.
    pub(super) fn check(&self, has_web: bool) -> Result<(), Failure> {
        match (&self.web, &self.tracker, &self.admin) {
            (None, Some(_), _) => Err(usage("a socket named 'tracker' was handed over without one named 'web'")),
            (Some(_), ..) | (.., Some(_)) if !has_web => {
                Err(usage("a socket for the web side was handed over and there is none: name content, or give --web"))
            }
            _ => Ok(()),
        }
    }
}

/// Whatever the unit's `NonBlocking=` says: whoever takes a socket sets it as it needs.
fn blocking(listener: Option<TcpListener>) -> io::Result<Option<TcpListener>> {
    listener.map(|listener| listener.set_nonblocking(false).map(|()| listener)).transpose()
}
