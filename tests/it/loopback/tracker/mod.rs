//! Trackers: announces, `bt-fast track`, name lookups and the hosts that are contacted.

mod announces;
mod capacity;
mod http_connections;
mod name_servers;
mod opentracker_interop;
mod own_host;
mod private_torrents;
