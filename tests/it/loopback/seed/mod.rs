//! `bt-fast seed`: an origin, its pages and tracker, and the peers that it serves.

mod addresses;
mod complete_hosts;
pub(crate) mod crowd;
mod eviction;
mod hostile_peers;
mod many_torrents;
mod new_versions;
mod operations;
mod origin;
mod peer_identities;
mod service_start;
mod socket_activation;
mod streams;
mod super_seeding;
mod utp;
mod watch_folder;
