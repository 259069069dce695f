//! Scrapes over HTTP (BEP 48), which ask a tracker for the size of swarms without joining them.

use super::query::{self, Params, QueryError};
use crate::base::{InfoHash, limits};
use crate::codec::bencode::{self, Document, Value};
use crate::codec::percent::escape;
use crate::codec::url::Url;

/// The numbers of one swarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrapedSwarm {
    /// Seeders, BEP 48's `complete`.
    pub seeders: u64,
    /// Downloads completed so far, BEP 48's `downloaded`.
    pub completed: u64,
    /// Leechers, BEP 48's `incomplete`.
    pub leechers: u64,
}

/// Returns the scrape URL of a tracker with the query. BEP 48 replaces `announce` at the start of the last part of the
/// path by `scrape`. Returns `None` if that part begins otherwise, since the tracker has no scrape.
pub fn scrape_url(announce_url: &str, info_hash: InfoHash) -> Option<String> {
    let mut url = Url::parse(announce_url).ok()?;
    let (head, last) = url.path().rsplit_once('/')?;
    let path = format!("{head}/scrape{}", last.strip_prefix("announce")?);
    url.set_path(&path);
    url.set_fragment(None);
    let mut out = String::from(url);
    query::begin_parameter(&mut out);
    out.push_str("info_hash=");
    escape(&mut out, &info_hash.0);
    Some(out)
}

/// Reads the torrents in a scrape of our own tracker, at most [`limits::TRACKER_SCRAPE_MAX`].
pub fn decode_scrape_query(query: &str) -> Result<Vec<InfoHash>, QueryError> {
    if query.len() > limits::TRACKER_SCRAPE_QUERY_LEN_MAX {
        return Err(QueryError::TooLong { max: limits::TRACKER_SCRAPE_QUERY_LEN_MAX });
    }
    let hash = |value: Result<Vec<u8>, QueryError>| {
        Ok(InfoHash(value?.try_into().map_err(|_| QueryError::Invalid { key: "info_hash" })?))
    };
    let params = Params::new(query);
    let hashes = params.all("info_hash").take(limits::TRACKER_SCRAPE_MAX).map(hash);
    let hashes: Vec<InfoHash> = hashes.collect::<Result<_, _>>()?;
    // Other trackers answer with their whole list, which no client needs.
    if hashes.is_empty() { Err(QueryError::Missing { key: "info_hash" }) } else { Ok(hashes) }
}

/// Returns the body of our own tracker's reply. The caller leaves out torrents that the tracker does not know.
pub fn encode_scrape(swarms: impl IntoIterator<Item = (InfoHash, ScrapedSwarm)>) -> Vec<u8> {
    let swarm = |(info_hash, swarm): (InfoHash, ScrapedSwarm)| {
        let ScrapedSwarm { seeders, completed, leechers } = swarm;
        let counts = [("complete", seeders), ("downloaded", completed), ("incomplete", leechers)];
        (info_hash.0, Value::dictionary(counts.map(|(key, count)| (key, Value::from(count)))))
    };
    Value::dictionary([("files", Value::dictionary(swarms.into_iter().map(swarm)))]).encode()
}

/// Reads a tracker's numbers of this torrent; `None` if the reply does not have them.
pub fn decode_scrape(bytes: &[u8], info_hash: InfoHash) -> Option<ScrapedSwarm> {
    let caps = bencode::Limits { depth_max: limits::TRACKER_REPLY_DEPTH_MAX, tokens_max: limits::SMALL_TOKENS_MAX };
    let (document, _) = Document::decode_prefix(bytes, &caps).ok()?;
    let swarm = document.root().get(b"files")?.get(&info_hash.0)?;
    let count = |key: &[u8]| swarm.get(key).and_then(|count| u64::try_from(count.as_i64()?).ok());
    Some(ScrapedSwarm {
        seeders: count(b"complete")?,
        completed: count(b"downloaded").unwrap_or(0),
        leechers: count(b"incomplete")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: InfoHash = InfoHash([b'%'; 20]);

    #[test]
    fn urls_are_those_of_bep_48() {
        let escaped = "%25".repeat(20);
        for (announce, scrape) in [
            ("http://t/announce", format!("http://t/scrape?info_hash={escaped}")),
            ("http://t/x/announce", format!("http://t/x/scrape?info_hash={escaped}")),
            ("http://t/announce.php?x=2#f", format!("http://t/scrape.php?x=2&info_hash={escaped}")),
        ] {
            assert_eq!(scrape_url(announce, HASH), Some(scrape));
        }
        for none in
            ["http://t/a", "http://t/announce/x", "http://t/x%064announce", "http://t/?x/announce", "http://announce"]
        {
            assert_eq!(scrape_url(none, HASH), None, "{none}");
        }
    }

    #[test]
    fn a_written_scrape_is_read_back() {
        let url = scrape_url("http://t/announce", HASH).unwrap();
        let query = url.split_once('?').unwrap().1;
        assert_eq!(decode_scrape_query(&format!("{query}&x=1&{query}")), Ok(vec![HASH, HASH]));
        assert_eq!(decode_scrape_query("x=1"), Err(QueryError::Missing { key: "info_hash" }));
        assert_eq!(decode_scrape_query("info_hash=abc"), Err(QueryError::Invalid { key: "info_hash" }));
        let swarm = ScrapedSwarm { seeders: 1, completed: 2, leechers: 3 };
        let body = encode_scrape([(HASH, swarm)]);
        assert_eq!(body, b"d5:filesd20:%%%%%%%%%%%%%%%%%%%%d8:completei1e10:downloadedi2e10:incompletei3eeee");
        assert_eq!(decode_scrape(&body, HASH), Some(swarm));
        assert_eq!(decode_scrape(&body, InfoHash([0; 20])), None);
        assert_eq!(decode_scrape(b"d5:filesle", HASH), None);
    }
}
