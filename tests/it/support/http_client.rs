//! An HTTP client that sends raw requests, one per connection.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends a GET request with these headers, each with its line break. `Host` is the address unless `headers` has one.
#[track_caller]
pub(crate) fn get(address: SocketAddr, target: &str, headers: &str) -> Answer {
    let own_host = headers.to_ascii_lowercase().contains("host:");
    let host = if own_host { String::new() } else { format!("Host: {address}\r\n") };
    ask(address, format!("GET {target} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n").as_bytes())
        .unwrap_or_else(|| panic!("no answer to {target}"))
}

/// Sends a GET request for a URL of the form `http://ADDRESS/PATH`.
#[track_caller]
pub(crate) fn get_url(url: &str) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    get(address.parse().unwrap(), &format!("/{path}"), "")
}

/// Sends these bytes and reads until the end of the stream. Returns `None` without a complete head.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    // A server may close before it has read the whole request.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    Some(Answer { status: head.get(9..12)?.parse().ok()?, head, body: answer[end + 4..].to_vec() })
}
