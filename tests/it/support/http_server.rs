//! A scripted HTTP server for announces and `.torrent` files, which records every request.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::process::wait_until;

const PORT: u16 = 7080;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Get {
    /// Path and query.
    pub(crate) target: String,
}

impl Get {
    /// Returns the raw value of a query key.
    pub(crate) fn raw(&self, key: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Returns the decoded value of a query key.
    pub(crate) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        let mut raw = self.raw(key)?.bytes();
        let mut bytes = Vec::new();
        while let Some(byte) = raw.next() {
            bytes.push(if byte == b'%' {
                let digits = [raw.next()?, raw.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            } else {
                byte
            });
        }
        Some(bytes)
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.raw(key)?.parse().ok()
    }

    /// Returns the event of an announce; empty for a regular one.
    pub(crate) fn event(&self) -> &str {
        self.raw("event").unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) body: Vec<u8>,
    /// The value of `Content-Length`.
    pub(crate) announced_len: u64,
    /// The value of `Location`.
    pub(crate) location: Option<&'static str>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status: "200 OK", announced_len: body.len() as u64, body, location: None }
    }

    pub(crate) fn redirect(location: &'static str) -> Self {
        Self { status: "302 Found", location: Some(location), ..Self::ok("") }
    }
}

/// A server that runs until the tests end.
pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Get>>>,
}

impl HttpServer {
    pub(crate) fn start(ip: Ipv4Addr, answer: impl Fn(&Get) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, PORT)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen) = (answer.clone(), seen.clone());
                thread::spawn(move || serve(stream, &*answer, &seen));
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Get> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the events of all announces so far.
    pub(crate) fn events(&self) -> Vec<String> {
        self.requests().iter().map(|get| get.event().to_owned()).collect()
    }

    pub(crate) fn saw_event(&self, event: &str, within: Duration) -> bool {
        wait_until(within, || self.requests().iter().any(|get| get.event() == event))
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Get) -> Answer, seen: &Mutex<Vec<Get>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(target) = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)) else { return };
    // Skip the headers.
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let get = Get { target };
    let Answer { status, body, announced_len, location } = answer(&get);
    seen.lock().unwrap().push(get);
    let location = location.map_or(String::new(), |location| format!("Location: {location}\r\n"));
    let head = format!("HTTP/1.1 {status}\r\n{location}Content-Length: {announced_len}\r\nConnection: close\r\n\r\n");
    let mut stream = stream;
    let _ = stream.write_all(&[head.as_bytes(), &body].concat());
}
