pub mod announcer;
pub mod http;
