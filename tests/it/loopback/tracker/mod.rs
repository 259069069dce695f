//! Trackers: announces, `bt-fast track`, name lookups and what may be asked of which host.

mod announces;
mod capacity;
mod name_servers;
mod opentracker_interop;
mod own_host;
mod private_torrents;
