//! Requests that are answered without hyper: the head is parsed where it was received, and the whole response leaves
//! with one write.
//!
//! Owns the choice of these requests: `GET` of a path that [`Direct`] knows, HTTP/1.0 or 1.1, without a body. Every other
//! request, also a malformed or a long one, is left to hyper with the bytes received so far, so that a body is never
//! taken for a request.

#![allow(clippy::disallowed_methods, reason = "the web layer reads the clock")]

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::base::limits::{WEB_DIRECT_HEAD_LEN_MAX, WEB_DIRECT_HEADERS_MAX};

/// Both ends of a connection. Handlers get it as `ConnectInfo<Endpoints>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoints {
    /// The address of the client, even behind a trusted proxy.
    pub remote: SocketAddr,
    /// Our address, as used by the client or the proxy.
    pub local: SocketAddr,
}

/// Computes short plain-text responses at once.
pub trait Direct: Debug + Send + Sync {
    /// The paths that this answers.
    fn paths(&self) -> &[&str];
    /// Returns the body of the response with the status 200. `path` is one of [`Self::paths`].
    fn answer(&self, path: &str, query: &str, endpoints: Endpoints) -> Vec<u8>;
}

/// The result of [`respond`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// More bytes of the head have to be received.
    Receive,
    /// The response was appended, and the first `consumed` bytes are done.
    Answered { consumed: usize, next: Next },
    /// The request is hyper's.
    Other,
}

/// Whether the client may send a further request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Request,
    Close,
}

/// Answers the first request in `received`, and appends the response to `out`.
pub(super) fn respond(direct: &dyn Direct, received: &[u8], endpoints: Endpoints, out: &mut Vec<u8>) -> Step {
    if !may_be_ours(direct, received) {
        return Step::Other;
    }
    let mut headers = [httparse::EMPTY_HEADER; WEB_DIRECT_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let consumed = match request.parse(received) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if received.len() < WEB_DIRECT_HEAD_LEN_MAX => return Step::Receive,
        Ok(httparse::Status::Partial) | Err(_) => return Step::Other,
    };
    let (Some(target), Some(minor), Some(next)) = (request.path, request.version, next(&request)) else {
        return Step::Other;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if request.method != Some("GET") || !direct.paths().contains(&path) {
        return Step::Other;
    }
    let body = direct.answer(path, query, endpoints);
    let (date, len) = (httpdate::fmt_http_date(SystemTime::now()), body.len());
    let close = if next == Next::Close { "connection: close\r\n" } else { "" };
    out.extend_from_slice(
        format!(
            "HTTP/1.{minor} 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len}\r\n{close}date: {date}\r\n\r\n"
        )
        .as_bytes(),
    );
    out.extend_from_slice(&body);
    Step::Answered { consumed, next }
}

/// Whether the bytes can be the start of a request for one of our paths.
fn may_be_ours(direct: &dyn Direct, received: &[u8]) -> bool {
    let Some(target) = received.strip_prefix(b"GET ") else { return b"GET ".starts_with(received) };
    let is_start = |path: &&str| {
        let len = path.len().min(target.len());
        path.as_bytes().get(..len) == target.get(..len)
    };
    direct.paths().iter().any(is_start)
}

/// Returns `None` if the headers need hyper: those of a body, of another protocol, and `keep-alive` of HTTP/1.0.
fn next(request: &httparse::Request<'_, '_>) -> Option<Next> {
    let is_old = request.version == Some(0);
    let mut next = if is_old { Next::Close } else { Next::Request };
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") || is("transfer-encoding") || is("expect") || is("upgrade") {
            return None;
        }
        if is("connection") {
            for option in header.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    next = Next::Close;
                } else if is_old || !option.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            }
        }
    }
    Some(next)
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
