//! Magnet links (BEP 9): a torrent named by its info-hash, with hints on where to find it.
//!
//! Links are read as users paste them: wrapped over lines, in quotes or brackets, with HTML's `&amp;`, escaped as a
//! whole, or as a bare info-hash. Unknown parameters and unusable trackers, web seeds and peers are ignored; only the
//! info-hash must be right.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::percent::{Plus, escape, hex, unescape};
use super::url::{TRACKER_SCHEMES, WEB_SCHEMES, pasted, usable};
use crate::base::{InfoHash, limits};

/// The content of a magnet link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Magnet {
    /// `xt=urn:btih:`: the torrent.
    pub info_hash: InfoHash,
    /// `dn`: a name for display until the metadata are known; any bytes.
    pub name: Option<Vec<u8>>,
    /// `xl`: length of the content in bytes, as claimed.
    pub len: Option<u64>,
    /// `tr`: trackers in order, without repeated URLs, at most [`limits::TRACKER_COUNT_MAX`].
    pub trackers: Vec<String>,
    /// `ws`: web seeds (BEP 19), at most [`limits::WEB_SEED_COUNT_MAX`].
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers, at most [`limits::MAGNET_PEERS_MAX`].
    pub peers: Vec<PeerAddress>,
}

/// The `HOST:PORT` of an `x.pe` parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerAddress {
    Socket(SocketAddr),
    /// A DNS name, which is not resolved yet, and a port.
    Name(String, u16),
}

/// Why a text is not a magnet link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MagnetError {
    #[error("not a magnet link: it must begin with 'magnet:?'")]
    NotMagnet,
    #[error("the link is longer than {} bytes", limits::MAGNET_LEN_MAX)]
    TooLong,
    #[error("the link names no torrent: 'xt=urn:btih:' is missing")]
    NoInfoHash,
    #[error("the link's info-hash is malformed: 'urn:btih:' takes 40 hexadecimal or 32 base32 digits")]
    BadInfoHash,
    #[error("the link names two torrents")]
    TwoInfoHashes,
    #[error("the link names only a v2 torrent (BEP 52), which is not supported")]
    V2Only,
}

const SCHEME: &str = "magnet:";
/// The scheme of a link that was escaped as a whole, as inside another URL.
const ESCAPED_SCHEME: &str = "magnet%3a";
/// The rest of HTML's escapes of `&` after a link is split at each `&`.
const ENTITY_ENDS: [&[u8]; 4] = [b"amp;", b"#38;", b"#038;", b"#x26;"];

impl Magnet {
    /// Returns a link with nothing but the info-hash.
    pub fn new(info_hash: InfoHash) -> Self {
        Self { info_hash, name: None, len: None, trackers: Vec::new(), web_seeds: Vec::new(), peers: Vec::new() }
    }

    /// Returns whether a text is meant as a magnet link, well-formed or not.
    pub fn is_meant(text: &[u8]) -> bool {
        let text = pasted(text);
        [SCHEME, ESCAPED_SCHEME].iter().any(|scheme| strip_scheme(text, scheme).is_some())
    }

    /// Reads a bare info-hash, which could be a file name too; `None` for any other text.
    pub fn from_info_hash(text: &[u8]) -> Option<Self> {
        info_hash(pasted(text)).map(Self::new)
    }

    /// Reads a magnet link in any form in which users paste it.
    pub fn parse(text: &[u8]) -> Result<Self, MagnetError> {
        if text.len() > limits::MAGNET_LEN_MAX {
            return Err(MagnetError::TooLong);
        }
        let mut text = unfold(pasted(text));
        if strip_scheme(&text, ESCAPED_SCHEME).is_some() {
            text = unescape(&text, Plus::Itself).ok_or(MagnetError::NotMagnet)?;
        }
        let query = strip_scheme(&text, SCHEME).ok_or(MagnetError::NotMagnet)?;
        // Some programs write `magnet://?`.
        let start = query.iter().position(|byte| !b"/? ".contains(byte)).unwrap_or(query.len());
        let query = query.get(start..).unwrap_or_default();
        let mut info_hash = None;
        let mut is_v2 = false;
        let mut rest = Self::new(InfoHash([0; 20]));
        for (key, value) in query.split(|&byte| byte == b'&').filter_map(parameter) {
            match key {
                b"xt" => match exact_topic(value) {
                    Some(Topic::V1(found)) if info_hash.is_some_and(|known| known != found) => {
                        return Err(MagnetError::TwoInfoHashes);
                    }
                    Some(Topic::V1(found)) => info_hash = Some(found),
                    Some(Topic::V2) => is_v2 = true,
                    Some(Topic::Broken) => return Err(MagnetError::BadInfoHash),
                    None => {}
                },
                _ => rest.take(key, value),
            }
        }
        let missing = if is_v2 { MagnetError::V2Only } else { MagnetError::NoInfoHash };
        Ok(Self { info_hash: info_hash.ok_or(missing)?, ..rest })
    }

    /// Takes one parameter that is a hint. Of repeated names and lengths the first counts.
    fn take(&mut self, key: &[u8], value: &[u8]) {
        // Names are written by form encoders, with a plus for a space; a URL may contain a plus.
        let plus = if key == b"dn" { Plus::Space } else { Plus::Itself };
        let Some(value) = unescape(value, plus) else { return };
        match key {
            b"dn" if self.name.is_none() && !value.is_empty() => self.name = Some(value),
            b"xl" => self.len = self.len.or_else(|| std::str::from_utf8(&value).ok()?.parse().ok()),
            b"tr" => keep(&mut self.trackers, usable(&value, &TRACKER_SCHEMES), limits::TRACKER_COUNT_MAX),
            b"ws" => keep(&mut self.web_seeds, usable(&value, &WEB_SCHEMES), limits::WEB_SEED_COUNT_MAX),
            b"x.pe" => keep(&mut self.peers, PeerAddress::parse(&value), limits::MAGNET_PEERS_MAX),
            _ => {}
        }
    }

    /// Returns the link with its info-hash in hexadecimal digits, which every client reads.
    pub fn encode(&self) -> String {
        let mut link = format!("{SCHEME}?xt=urn:btih:{}", self.info_hash);
        let mut add = |key: &str, value: &[u8]| {
            let _ = write!(link, "&{key}=");
            escape(&mut link, value);
        };
        self.name.iter().for_each(|name| add("dn", name));
        self.len.iter().for_each(|len| add("xl", len.to_string().as_bytes()));
        self.trackers.iter().for_each(|url| add("tr", url.as_bytes()));
        self.web_seeds.iter().for_each(|url| add("ws", url.as_bytes()));
        // aria2 and libtorrent expect the colon of an address unescaped.
        for peer in &self.peers {
            let _ = match peer {
                PeerAddress::Socket(address) => write!(link, "&x.pe={address}"),
                PeerAddress::Name(name, port) => write!(link, "&x.pe={name}:{port}"),
            };
        }
        link
    }
}

fn keep<T: PartialEq>(list: &mut Vec<T>, item: Option<T>, count_max: usize) {
    if let Some(item) = item.filter(|item| list.len() < count_max && !list.contains(item)) {
        list.push(item);
    }
}

/// Splits a parameter into its key, without the number of a repeated one (`tr.1`), and its escaped value.
fn parameter(mut text: &[u8]) -> Option<(&[u8], &[u8])> {
    while let Some(rest) = ENTITY_ENDS.iter().find_map(|end| text.strip_prefix(*end)) {
        text = rest;
    }
    let (key, value) = text.split_at_checked(text.iter().position(|&byte| byte == b'=')?)?;
    let (key, value) = (key.trim_ascii(), value.get(1..)?.trim_ascii());
    let key = if key.eq_ignore_ascii_case(b"xt") { b"xt" } else { key };
    let numbered = key.iter().rposition(|&byte| byte == b'.').and_then(|dot| key.split_at_checked(dot));
    match numbered {
        Some((name, [b'.', digits @ ..])) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            Some((name, value))
        }
        _ => Some((key, value)),
    }
}

enum Topic {
    V1(InfoHash),
    /// `btmh`: the multihash of a v2 info dictionary.
    V2,
    Broken,
}

/// Reads the value of `xt`; `None` if it is for another network.
fn exact_topic(value: &[u8]) -> Option<Topic> {
    let value = unescape(value, Plus::Itself)?;
    let urn = value.get(..9)?.to_ascii_lowercase();
    let digits = value.get(9..)?;
    match urn.as_slice() {
        b"urn:btmh:" => Some(Topic::V2),
        b"urn:btih:" => {
            let digits: Vec<u8> = digits.iter().copied().filter(|&byte| byte != b' ').collect();
            Some(info_hash(&digits).map_or(Topic::Broken, Topic::V1))
        }
        _ => None,
    }
}

/// Reads 40 hexadecimal or 32 base32 digits.
fn info_hash(digits: &[u8]) -> Option<InfoHash> {
    if digits.len() == 40 { from_hex(digits) } else { from_base32(digits) }.map(InfoHash)
}

fn strip_scheme<'a>(text: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
}

/// Removes line ends, tabs, and the blanks at the start of lines.
fn unfold(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|&byte| matches!(byte, b'\r' | b'\n' | b'\t'));
    lines.flat_map(<[u8]>::trim_ascii_start).copied().collect()
}

fn from_hex(digits: &[u8]) -> Option<[u8; 20]> {
    let (pairs, _) = digits.as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|&[high, low]| Some(hex(high)? << 4 | hex(low)?)).collect();
    bytes?.try_into().ok()
}

/// Reads base32 (RFC 4648): each digit, A to Z and 2 to 7, has five bits, and eight digits make five bytes.
fn from_base32(digits: &[u8]) -> Option<[u8; 20]> {
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = Vec::with_capacity(20);
    let (groups, _) = digits.as_chunks::<8>();
    for group in groups {
        let mut bits = 0_u64;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a',
                b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        bytes.extend_from_slice(bits.to_be_bytes().get(3..)?);
    }
    bytes.try_into().ok()
}

impl PeerAddress {
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(address) = text.parse::<SocketAddr>() {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            return (address.port() != 0).then_some(Self::Socket(address));
        }
        let (name, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        // The longest DNS name has 253 bytes.
        let is_name = (1..=253).contains(&name.len()) && name.bytes().all(plain) && name.parse::<IpAddr>().is_err();
        is_name.then(|| Self::Name(name.to_owned(), port))
    }
}

#[cfg(test)]
#[path = "magnet_tests.rs"]
mod tests;
