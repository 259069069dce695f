//! The page of a folder of the content: a list of links, generated while the client reads it.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;

use super::PAGE_HEADERS;
use super::published::{Entry, Published};
use crate::base::escape::{html, printable};
use crate::base::limits::LISTING_ROWS_AT_ONCE;
use crate::base::units;
use crate::codec::percent;

/// The page of the folder `path`, whose files are `range`.
pub(super) fn listing(published: Arc<Published>, path: &[Vec<u8>], range: Range<usize>) -> Response {
    let depth = path.len();
    let head = head(path);
    let rows = stream::unfold((published, range), move |(published, range)| async move {
        let (rows, rest) = rows(&published, depth, range)?;
        Some((Ok::<_, std::convert::Infallible>(rows), (published, rest)))
    });
    let page = |part: String| stream::iter([Ok(Bytes::from(part))]);
    let body = futures_util::StreamExt::chain(page(head), rows);
    let body = futures_util::StreamExt::chain(body, page("</table>\n</main>\n</html>\n".to_owned()));
    (PAGE_HEADERS, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], Body::from_stream(body)).into_response()
}

fn head(path: &[Vec<u8>]) -> String {
    let title = html(&printable(&path.join(&b'/')));
    // The path is preceded by `/f/INFO_HASH/`.
    let root = "../".repeat(path.len() + 2);
    let parent = if path.len() > 1 { "<tr><td><a href=\"../\">../</a></td><td></td></tr>\n" } else { "" };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<link rel=\"stylesheet\" href=\"{root}style.css\">\n\
         <header><h1>{title}</h1><p><a href=\"{root}\">All torrents of this origin</a></p></header>\n<main>\n<table>\n<tr><th>Name</th><th>Size</th></tr>\n{parent}"
    )
}

/// The next rows, at most [`LISTING_ROWS_AT_ONCE`], and the range of the remaining files; `None` at the end.
fn rows(published: &Published, depth: usize, range: Range<usize>) -> Option<(Bytes, Range<usize>)> {
    let (mut at, mut out) = (range.start, String::new());
    for _ in 0..LISTING_ROWS_AT_ONCE {
        if at >= range.end {
            break;
        }
        let (entry, next) = published.entry(at, depth)?;
        at = next;
        let (name, slash, size) = match entry {
            Entry::File(file) => {
                (file.path.last().map_or(&[][..], Vec::as_slice), "", units::Bytes(file.len).to_string())
            }
            Entry::Folder(name) => (name, "/", String::new()),
        };
        let mut link = String::new();
        percent::escape(&mut link, name);
        let shown = html(&printable(name));
        let _ = writeln!(out, "<tr><td><a href=\"{link}{slash}\">{shown}{slash}</a></td><td>{size}</td></tr>");
    }
    (!out.is_empty()).then(|| (out.into(), at..range.end))
}
