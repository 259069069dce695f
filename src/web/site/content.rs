//! Content over HTTP, with ranges: a web seed (BEP 19) for clients, a plain download for everybody else.
//!
//! Bytes are sent as they lie on the disk; who wants them verified takes the torrent.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;

use super::{Published, Site, disposition};
use crate::base::InfoHash;
use crate::base::limits::WEB_READ_LEN;
use crate::codec::percent::{Plus, unescape};
use crate::web::range::{Wanted, wanted};

/// `/f/INFO_HASH/NAME` and `/f/INFO_HASH/NAME/PATH…`, percent-escaped, of any bytes.
pub(super) async fn file(State(site): State<Site>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Some((published, index)) = find(&site, uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    let Some(entry) = published.metainfo.info.files.get(index) else { return StatusCode::NOT_FOUND.into_response() };
    let Some(Ok(file)) = published.content.as_ref().map(|content| content.open_to_read(index)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{}-{index}\"", published.metainfo.info_hash);
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let range = header(header::RANGE).filter(|_| header(header::IF_RANGE).is_none_or(|wanted| wanted == tag));
    let range = match range.map_or(Wanted::All, |range| wanted(range, entry.len)) {
        Wanted::Nothing => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{}", entry.len))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response();
        }
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
    };
    let (from, end) = range.as_ref().map_or((0, entry.len), |range| (*range.start(), *range.end() + 1));
    let body = if method == Method::HEAD { Body::empty() } else { body(file, from, end) };
    let name = entry.path.last().map(Vec::as_slice).unwrap_or_default();
    let mut response = Response::builder()
        .status(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, end - from)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, tag)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_DISPOSITION, disposition(name));
    if let Some(range) = range {
        let whole = entry.len;
        response = response.header(header::CONTENT_RANGE, format!("bytes {}-{}/{whole}", range.start(), range.end()));
    }
    response.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The file with this very path, element by element.
fn find(site: &Site, path: &str) -> Option<(Arc<Published>, usize)> {
    let mut elements = path.strip_prefix("/f/")?.split('/');
    let published = site.published(InfoHash::from_hex(elements.next()?)?)?;
    let wanted: Vec<Vec<u8>> = elements.map(|text| unescape(text.as_bytes(), Plus::Itself)).collect::<Option<_>>()?;
    let index = published.metainfo.info.files.iter().position(|file| !file.pad && file.path == wanted)?;
    Some((published, index))
}

/// The bytes from `from` to before `end`, read as fast as they are taken. A file that has become shorter ends the
/// connection early, which the client sees.
fn body(file: File, from: u64, end: u64) -> Body {
    let file = Arc::new(file);
    Body::from_stream(stream::try_unfold(from, move |at| {
        let file = Arc::clone(&file);
        async move {
            if at >= end {
                return Ok::<_, std::io::Error>(None);
            }
            let len = usize::try_from(end - at).unwrap_or(WEB_READ_LEN).min(WEB_READ_LEN);
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            });
            let bytes = read.await.map_err(std::io::Error::other)??;
            Ok(Some((Bytes::from(bytes), at + len as u64)))
        }
    }))
}
