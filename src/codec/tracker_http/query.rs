//! The query string of an announce.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::base::{InfoHash, PeerId, limits};
use crate::codec::percent::{Plus, escape, unescape};

/// An announce to a tracker. The fields are named like the query's keys (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnnounceQuery<'a> {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// "the IP (or dns name) which this peer is at", for an origin on the machine of its tracker.
    pub ip: Option<&'a str>,
    pub port: u16,
    /// Bytes uploaded since `started`.
    pub uploaded: u64,
    /// Bytes downloaded since `started`.
    pub downloaded: u64,
    /// Bytes that are still to be downloaded.
    pub left: u64,
    pub event: Event,
    /// Peers requested in the reply; 0 with `stopped`.
    pub numwant: u32,
    /// A random value of each run, which identifies this peer even if its address changes.
    pub key: u32,
    /// The `tracker id` of an earlier reply.
    pub tracker_id: Option<&'a [u8]>,
}

/// Why an announce is made (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Event {
    /// A regular announce. The key is left out, "which is the same".
    #[default]
    Empty,
    Started,
    Completed,
    Stopped,
}

impl Event {
    /// Returns the value on the wire; empty for [`Event::Empty`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

impl AnnounceQuery<'_> {
    /// Returns the announce URL with this query after a `?`, or after a `&` if the tracker's URL already has a query.
    pub fn append_to(&self, url: &str) -> String {
        // A fragment is not part of a request. The rest is unchanged, since trackers compare keys byte by byte.
        let mut out = url.split('#').next().unwrap_or_default().to_owned();
        begin_parameter(&mut out);
        // BEP 3: values "will almost certainly have to be escaped".
        out.push_str("info_hash=");
        escape(&mut out, &self.info_hash.0);
        out.push_str("&peer_id=");
        escape(&mut out, &self.peer_id.0);
        let Self { port, uploaded, downloaded, left, numwant, key, .. } = self;
        let _ = write!(out, "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}");
        // BEP 23: `compact=1` asks for peers as a string.
        let _ = write!(out, "&compact=1&numwant={numwant}&key={key:08X}");
        if self.event != Event::Empty {
            let _ = write!(out, "&event={}", self.event.as_str());
        }
        if let Some(ip) = self.ip {
            out.push_str("&ip=");
            escape(&mut out, ip.as_bytes());
        }
        if let Some(tracker_id) = self.tracker_id {
            out.push_str("&trackerid=");
            escape(&mut out, tracker_id);
        }
        out
    }
}

/// Appends the separator of one more parameter to a URL without a fragment.
pub(super) fn begin_parameter(url: &mut String) {
    if !url.contains('?') {
        url.push('?');
    } else if !url.ends_with(['?', '&']) {
        url.push('&');
    }
}

/// The value of `left` for a peer that does not send it, which counts as a leecher.
pub const LEFT_UNKNOWN: u64 = u64::MAX;

/// An announce that our own tracker receives. Of repeated keys the first counts; unknown keys are ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedAnnounceQuery {
    pub info_hash: InfoHash,
    pub peer_id: PeerId,
    /// The address that the peer claims, which the tracker need not trust.
    pub ip: Option<String>,
    pub port: u16,
    /// Bytes uploaded; 0 if absent.
    pub uploaded: u64,
    /// Bytes downloaded; 0 if absent.
    pub downloaded: u64,
    /// Bytes that the peer still has to download; [`LEFT_UNKNOWN`] if absent.
    pub left: u64,
    /// An unknown event counts as a regular announce.
    pub event: Event,
    pub numwant: Option<u32>,
    pub key: Option<Vec<u8>>,
    /// `compact`: whether the peer asks for the compact form (BEP 23); `None` if absent.
    pub compact: Option<bool>,
    /// Peer ids may be left out of the dictionary form (BEP 23).
    pub no_peer_id: bool,
    pub tracker_id: Option<Vec<u8>>,
}

/// Why our own tracker cannot read an announce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("the query is longer than {max} bytes")]
    TooLong { max: usize },
    #[error("{key} is missing")]
    Missing { key: &'static str },
    #[error("{key} is not valid")]
    Invalid { key: &'static str },
}

/// Reads the escaped query string after the `?` of a request.
pub fn decode_query(query: &str) -> Result<OwnedAnnounceQuery, QueryError> {
    if query.len() > limits::TRACKER_QUERY_LEN_MAX {
        return Err(QueryError::TooLong { max: limits::TRACKER_QUERY_LEN_MAX });
    }
    let params = Params::new(query);
    let id = |key| {
        let bytes = params.value(key)?.ok_or(QueryError::Missing { key })?;
        <[u8; 20]>::try_from(&*bytes).map_err(|_| QueryError::Invalid { key })
    };
    // Some clients send a negative total if they do not know it.
    let total = |key| Ok::<_, QueryError>(params.number::<i128>(key)?.and_then(|total| u64::try_from(total).ok()));
    Ok(OwnedAnnounceQuery {
        info_hash: InfoHash(id("info_hash")?),
        peer_id: PeerId(id("peer_id")?),
        ip: params.text("ip")?.filter(|ip| !ip.is_empty()).map(Cow::into_owned),
        port: params.number("port")?.ok_or(QueryError::Missing { key: "port" })?,
        uploaded: total("uploaded")?.unwrap_or(0),
        downloaded: total("downloaded")?.unwrap_or(0),
        left: total("left")?.unwrap_or(LEFT_UNKNOWN),
        event: match params.text("event")?.as_deref() {
            Some("started") => Event::Started,
            Some("completed") => Event::Completed,
            Some("stopped") => Event::Stopped,
            _ => Event::Empty,
        },
        // Not in BEP 3. Some peers send -1 for "any number".
        numwant: params.number::<i64>("numwant")?.and_then(|numwant| u32::try_from(numwant).ok()),
        key: params.bytes("key")?,
        compact: params.text("compact")?.map(|value| value == "1"),
        no_peer_id: params.text("no_peer_id")?.is_some_and(|value| value == "1"),
        tracker_id: params.bytes("trackerid")?,
    })
}

/// A query string with access by key.
pub(super) struct Params<'a>(Vec<Param<'a>>);

/// `key=value`, or a key alone.
struct Param<'a> {
    key: &'a str,
    escaped: Option<&'a str>,
}

impl<'a> Params<'a> {
    pub(super) fn new(query: &'a str) -> Self {
        let param = |text: &'a str| match text.split_once('=') {
            Some((key, value)) => Param { key, escaped: Some(value) },
            None => Param { key: text, escaped: None },
        };
        // Room for the keys of an announce.
        let mut params = Vec::with_capacity(16);
        params.extend(query.split('&').map(param));
        Self(params)
    }

    /// Returns the values of all keys of this name.
    pub(super) fn all(&self, key: &'static str) -> impl Iterator<Item = Result<Vec<u8>, QueryError>> {
        let values = self.0.iter().filter(move |param| param.key == key).filter_map(|param| param.escaped);
        values.map(move |value| value_of(key, value).map(Cow::into_owned))
    }

    fn value(&self, key: &'static str) -> Result<Option<Cow<'a, [u8]>>, QueryError> {
        let found = self.0.iter().find(|param| param.key == key);
        found.map(|param| value_of(key, param.escaped.unwrap_or_default())).transpose()
    }

    fn bytes(&self, key: &'static str) -> Result<Option<Vec<u8>>, QueryError> {
        Ok(self.value(key)?.map(Cow::into_owned))
    }

    fn text(&self, key: &'static str) -> Result<Option<Cow<'a, str>>, QueryError> {
        let text = |bytes| match bytes {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        self.value(key)?.map(|bytes| text(bytes).ok_or(QueryError::Invalid { key })).transpose()
    }

    fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<Option<T>, QueryError> {
        let text = self.text(key)?;
        text.map(|text| text.parse().map_err(|_| QueryError::Invalid { key })).transpose()
    }
}

fn value_of<'a>(key: &'static str, escaped: &'a str) -> Result<Cow<'a, [u8]>, QueryError> {
    if !escaped.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(escaped.as_bytes()));
    }
    unescape(escaped.as_bytes(), Plus::Space).map(Cow::Owned).ok_or(QueryError::Invalid { key })
}
