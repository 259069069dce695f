//! A scripted name server (RFC 1035), whose answers may change from query to query.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

const PORT: u16 = 53;
const HEAD_LEN: usize = 12;
/// The length of a question's type and class. Names in questions are not compressed.
const TYPE_AND_CLASS_LEN: usize = 4;
const TYPE_A: [u8; 2] = [0, 1];

/// A server that runs until the tests end.
pub(crate) struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// `answer` receives the name and the number of earlier queries for its IPv4 addresses; `None` sends no answer. No
    /// name has an IPv6 address.
    pub(crate) fn start(ip: Ipv4Addr, answer: impl Fn(&str, usize) -> Option<Vec<Ipv4Addr>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind((ip, PORT)).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut query) {
                let Some((name, question)) = question(&query[..len]) else { continue };
                let is_ipv4 = question.ends_with(&[TYPE_A, [0, 1]].concat());
                let before = if is_ipv4 { count(&seen.lock().unwrap(), &name) } else { 0 };
                let Some(addresses) = answer(&name, before) else { continue };
                let addresses = if is_ipv4 { addresses } else { Vec::new() };
                if is_ipv4 {
                    seen.lock().unwrap().push(name);
                }
                let _ = socket.send_to(&reply(&query[..2], question, &addresses), from);
            }
        });
        Self { asked }
    }

    /// Returns the number of answered queries for the IPv4 addresses of this name.
    pub(crate) fn answered(&self, name: &str) -> usize {
        count(&self.asked.lock().unwrap(), name)
    }
}

fn count(asked: &[String], name: &str) -> usize {
    asked.iter().filter(|asked| *asked == name).count()
}

/// Returns the name in a query and the bytes of its question.
fn question(query: &[u8]) -> Option<(String, &[u8])> {
    let mut labels = Vec::new();
    let mut at = HEAD_LEN;
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            return Some((labels.join("."), query.get(HEAD_LEN..at + TYPE_AND_CLASS_LEN)?));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + len)?).into_owned());
        at += len;
    }
}

fn reply(id: &[u8], question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let count = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    // Flags: response, recursion desired and available. One question, the answers, no further records.
    let mut bytes = [id, &[0x81, 0x80, 0, 1], &count, &[0; 4], question].concat();
    for address in addresses {
        // A pointer to the name in the question; type A, class IN, a TTL of zero, four bytes.
        bytes.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        bytes.extend(address.octets());
    }
    bytes
}
