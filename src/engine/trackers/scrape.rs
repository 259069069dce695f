//! Asks trackers for the size of a swarm without joining it (BEP 15, BEP 48).

use tokio::task::JoinSet;

use crate::base::InfoHash;
use crate::base::limits::{SCRAPE_TIMEOUT, TRACKER_UDP_SCRAPE_RESEND_AFTER};
use crate::codec::tracker_http::{ScrapedSwarm, TrackerReplyError, decode_reply, decode_scrape, scrape_url};
use crate::codec::url::is_udp;
use crate::engine::network::egress::Egress;
use crate::engine::trackers::http::{FetchLimits, Fetcher};
use crate::engine::trackers::udp::{self, Patience};
use crate::io::{EventLoopError, event_loop};

/// Asks all trackers once, concurrently. Returns the answer of each of `urls` in order, or a one-line reason why there
/// is none. Blocks for at most [`SCRAPE_TIMEOUT`] and the lookup of names.
pub fn scrape(
    urls: &[String],
    info_hash: InfoHash,
    egress: Egress,
) -> Result<Vec<Result<ScrapedSwarm, String>>, EventLoopError> {
    let fetcher = Fetcher::new(egress);
    let runtime = event_loop()?;
    let answers = runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (index, url) in urls.iter().cloned().enumerate() {
            let fetcher = fetcher.clone();
            tasks.spawn(async move { (index, ask(fetcher, url, info_hash).await) });
        }
        let mut answers = tasks.join_all().await;
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    });
    runtime.shutdown_background();
    Ok(answers)
}

async fn ask(fetcher: Fetcher, url: String, info_hash: InfoHash) -> Result<ScrapedSwarm, String> {
    if is_udp(&url) {
        let patience = Patience { timeout: SCRAPE_TIMEOUT, resend_after: TRACKER_UDP_SCRAPE_RESEND_AFTER };
        return udp::scrape(&url, info_hash, patience, fetcher.egress()).await.map_err(|failure| failure.to_string());
    }
    let url = scrape_url(&url, info_hash).ok_or("it has no scrape: its path does not end in /announce")?;
    let limits = FetchLimits { timeout: SCRAPE_TIMEOUT, ..FetchLimits::announce() };
    let fetched = tokio::task::spawn_blocking(move || fetcher.fetch(&url, limits)).await;
    let body = fetched.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    decode_scrape(&body, info_hash).ok_or_else(|| match decode_reply(&body) {
        Err(refused @ TrackerReplyError::Failure { .. }) => refused.to_string(),
        _ => "it does not know this torrent".to_owned(),
    })
}
