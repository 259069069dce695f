//! Checks the `Host` header against our own names.
//!
//! A foreign web page could let its own domain name resolve to our address (DNS rebinding), and so read our pages with
//! a browser on this network. The browser then sends that name as the host, never an IP address or one of our names.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// `HOST[:PORT]`, as in a `Host` header or a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority<'a> {
    /// The host, without the brackets of an IPv6 address.
    pub host: &'a str,
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        (!host.is_empty() && host.bytes().all(plain)).then_some(Self { host, port })
    }
}

/// The accepted host names. All IP addresses and `localhost` are accepted in addition.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    pub fn accepts(&self, header: &str) -> bool {
        Authority::parse(header).is_some_and(|Authority { host, .. }| {
            let known = |name: &String| name.eq_ignore_ascii_case(host);
            host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") || self.0.iter().any(known)
        })
    }
}

/// Refuses requests for other hosts. Announces, scrapes and health checks are allowed for any host.
pub async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let anywhere = matches!(request.uri().path(), "/announce" | "/scrape" | "/healthz");
    if anywhere || host.is_some_and(|host| hosts.accepts(host)) {
        return next.run(request).await;
    }
    let line = "this server does not serve the requested host: its operator sets the name with --public-url\n";
    (StatusCode::MISDIRECTED_REQUEST, line).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_our_own_names_are_accepted() {
        let hosts = Hosts::new(["Origin.example".to_owned()]);
        for ours in ["10.0.0.1", "10.0.0.1:6880", "[::1]:80", "[fe80::1]", "LOCALHOST:1", "origin.EXAMPLE:80"] {
            assert!(hosts.accepts(ours), "{ours}");
        }
        for other in
            ["", "evil.example", "origin.example.evil", "10.0.0.1.evil:80", "[::1]x", "[::1", "a b", "x:99999", "\"<"]
        {
            assert!(!hosts.accepts(other), "{other}");
        }
    }
}
