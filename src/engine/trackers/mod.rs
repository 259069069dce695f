//! Trackers asked over HTTP and UDP, and other fetches over HTTP.

pub mod announcer;
pub(in crate::engine) mod dual_stack;
pub mod http;
pub mod scrape;
pub mod udp;
