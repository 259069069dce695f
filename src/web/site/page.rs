//! The landing page.

use std::fmt::Write as _;

use super::{Links, Published, Site};
use crate::base::escape::{html, printable};
use crate::base::limits::FILES_SHOWN_MAX;
use crate::base::units::Bytes;

/// One style sheet for all pages, light and dark.
pub const STYLE: &str = include_str!("../assets/style.css");

pub(super) fn landing(site: &Site, host: &str) -> String {
    let published = site.torrents();
    let torrents: String = published.iter().filter_map(|torrent| article(site, torrent, host)).collect();
    let count = published.len();
    let what = counted(count, "torrent");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{what} – bt-fast origin</title>\n<link rel=\"stylesheet\" href=\"style.css\">\n\
         <header><h1>bt-fast origin</h1><p>{what}, served by BitTorrent</p></header>\n<main>\n{torrents}</main>\n\
         <footer><p>Open a .torrent or a magnet link with any BitTorrent client.</p></footer>\n</html>\n"
    )
}

fn article(site: &Site, published: &Published, host: &str) -> Option<String> {
    let info = &published.metainfo.info;
    let info_hash = published.metainfo.info_hash;
    let Links { torrent, magnet, content, .. } = site.links(info_hash, host, None)?;
    let stats = site.0.tracker.stats(info_hash).unwrap_or_default();
    let files = info.files.iter().filter(|file| !file.pad).count();
    let mut out = format!(
        "<article>\n<h2>{}</h2>\n<p class=\"facts\">{} · {} · {} · {} · {} downloaded</p>\n\
         <p class=\"links\"><a class=\"main\" href=\"t/{info_hash}.torrent\">.torrent</a> <a href=\"{}\">magnet link</a>",
        html(&printable(&info.name)),
        Bytes(info.geometry.total_len()),
        counted(files, "file"),
        counted(stats.seeders, "seeder"),
        counted(stats.leechers, "leecher"),
        stats.completed,
        html(&magnet),
    );
    if let Some(url) = content.filter(|_| info.single_file) {
        let _ = write!(out, " <a href=\"{}\">the file</a>", html(&url));
    }
    let _ = writeln!(out, "</p>\n<p>On a command line:</p>\n<pre><code>bt-fast get {}</code></pre>", html(&torrent));
    let _ = writeln!(out, "<p>Info-hash <code>{info_hash}</code></p>");
    if !info.single_file {
        out.push_str(&file_table(published));
    }
    out.push_str("</article>\n");
    Some(out)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn file_table(published: &Published) -> String {
    let files: Vec<_> = published.metainfo.info.files.iter().filter(|file| !file.pad).collect();
    let mut out =
        format!("<details>\n<summary>{} files</summary>\n<table>\n<tr><th>File</th><th>Size</th></tr>\n", files.len());
    for file in files.iter().take(FILES_SHOWN_MAX) {
        let elements: Vec<String> = file.path.iter().skip(1).map(|element| printable(element)).collect();
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", html(&elements.join("/")), Bytes(file.len));
    }
    if files.len() > FILES_SHOWN_MAX {
        let _ = writeln!(out, "<tr><td>and {} more</td><td></td></tr>", files.len() - FILES_SHOWN_MAX);
    }
    out.push_str("</table>\n</details>\n");
    out
}
