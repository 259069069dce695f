//! The landing page.

use std::convert::Infallible;
use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use futures_util::stream;

use super::{Links, Pending, Published, Site};
use crate::base::escape::{html, printable};
use crate::base::units;
use crate::engine::Timeliness;

/// The style sheet of all pages, with a light and a dark theme.
pub const STYLE: &str = include_str!("../assets/style.css");

/// The landing page for clients that use `host` as our name. The article of a torrent is generated when the client has
/// read those before it.
pub(super) fn landing(site: Site, host: &str) -> Body {
    let published = site.torrents();
    let len = published.list().len();
    let count = counted(len, "torrent");
    let head = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{count} – bt-fast origin</title>\n<link rel=\"stylesheet\" href=\"style.css\">\n\
         <header><h1>bt-fast origin</h1><p>{count}, served by BitTorrent</p></header>\n<main>\n"
    );
    let foot =
        "</main>\n<footer><p>Open a .torrent or a magnet link with any BitTorrent client.</p></footer>\n</html>\n";
    let pending: String = site.0.pending.list().iter().map(|content| pending_article(content)).collect();
    let host = host.to_owned();
    let articles = (0..len).flat_map(move |at| match published.list().get(at) {
        Some(torrent) => article(&site, torrent, &host),
        None => [Bytes::new(), Bytes::new(), Bytes::new()],
    });
    let parts =
        [Bytes::from(head)].into_iter().chain(articles).chain([pending.into(), Bytes::from_static(foot.as_bytes())]);
    Body::from_stream(stream::iter(parts.filter(|part| !part.is_empty()).map(Ok::<_, Infallible>)))
}

/// The article of one torrent. The file table is shared by all responses.
fn article(site: &Site, published: &Published, host: &str) -> [Bytes; 3] {
    let info_hash = published.info_hash;
    if published.timeliness() == Timeliness::Outdated {
        return [outdated_article(published).into(), Bytes::new(), Bytes::new()];
    }
    let Links { torrent, newest, magnet, .. } = site.links_of(published, host, None);
    let stats = site.0.tracker.stats(info_hash).unwrap_or_default();
    let mut out = format!(
        "<article id=\"{info_hash}\">\n<h2>{}</h2>\n<p class=\"facts\">{} · {} · {} · {} · {} downloaded</p>\n\
         <p class=\"links\"><a class=\"main\" href=\"t/{info_hash}.torrent\">.torrent</a> <a href=\"{}\">magnet link</a>",
        html(&printable(&published.name)),
        units::Bytes(published.total_len),
        counted(published.file_count(), "file"),
        counted(stats.seeders, "seeder"),
        counted(stats.leechers, "leecher"),
        stats.completed,
        html(&magnet),
    );
    // Links within the origin are relative, since a proxy may serve it under a path prefix.
    if let Some(url) = published.content_path() {
        let label = if published.single_file { "the file" } else { "the files" };
        let _ = write!(out, " <a href=\"./{}\">{label}</a>", html(&url));
    }
    let _ = writeln!(
        out,
        "</p>\n<p>On a command line:</p>\n<pre><code>bt-fast get {}</code></pre>",
        html(&newest.unwrap_or(torrent))
    );
    let _ = writeln!(out, "<p>Info-hash <code>{info_hash}</code></p>");
    [out.into(), published.file_table.clone(), Bytes::from_static(b"</article>\n")]
}

/// The article of a torrent whose files have changed.
fn outdated_article(published: &Published) -> String {
    let Published { info_hash, name, total_len, .. } = published;
    format!(
        "<article id=\"{info_hash}\">\n<h2>{}</h2>\n<p class=\"facts\">{} · being updated: its files have changed</p>\n\
         </article>\n",
        html(&printable(name)),
        units::Bytes(*total_len)
    )
}

/// The article of content that is still being hashed.
fn pending_article(content: &Pending) -> String {
    let Pending { name, len, .. } = content;
    let (name, percent) = (html(name), content.percent());
    format!(
        "<article>\n<h2>{name}</h2>\n<p class=\"facts\">{} · hashing {percent} %</p>\n</article>\n",
        units::Bytes(*len)
    )
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
