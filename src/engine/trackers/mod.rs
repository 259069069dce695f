//! Announces and scrapes over HTTP and UDP, and other fetches over HTTP. Which tracker to ask and when is decided by
//! `announce`; the bytes are `codec`'s.

pub mod announcer;
pub(in crate::engine) mod dual_stack;
pub mod http;
mod roots;
pub mod scrape;
pub mod udp;
