//! Content over HTTP, with ranges: a web seed (BEP 19) for clients, a plain download for everybody else.
//!
//! Bytes are sent as they lie on the disk; who wants them verified takes the torrent.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::listing::listing;
use super::published::{Found, Published};
use super::reading::read;
use super::{Site, disposition};
use crate::base::InfoHash;
use crate::codec::metainfo::FileEntry;
use crate::codec::percent::{self, Plus, unescape};
use crate::web::conditional::Validators;
use crate::web::range::{Wanted, wanted};

/// `/f/INFO_HASH/NAME` and `/f/INFO_HASH/NAME/PATH…`, percent-escaped, of any bytes: a file, or with a slash at its end a
/// folder.
pub(super) async fn file(State(site): State<Site>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Some((published, mut path)) = requested(&site, uri.path()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let is_folder = path.pop_if(|last| last.is_empty()).is_some();
    match published.find(&path) {
        Some(Found::File(index)) if !is_folder => send(&site, &published, index, &method, &headers),
        Some(Found::Folder(range)) if is_folder => listing(published, &path, range),
        Some(Found::Folder(_)) => to_folder(&path),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The torrent, where its content is given out, and the path behind its info-hash.
fn requested(site: &Site, path: &str) -> Option<(Arc<Published>, Vec<Vec<u8>>)> {
    let mut elements = path.strip_prefix("/f/")?.split('/');
    let published = site.published(InfoHash::from_hex(elements.next()?)?)?;
    published.content.as_ref()?;
    let path = elements.map(|text| unescape(text.as_bytes(), Plus::Itself)).collect::<Option<_>>()?;
    Some((published, path))
}

/// To where links in the folder's page lead on from.
fn to_folder(path: &[Vec<u8>]) -> Response {
    let mut location = String::from("./");
    percent::escape(&mut location, path.last().map(Vec::as_slice).unwrap_or_default());
    location.push('/');
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, location)]).into_response()
}

fn send(site: &Site, published: &Published, index: usize, method: &Method, headers: &HeaderMap) -> Response {
    let (entry, file, found) = match open(published, index) {
        Ok(opened) => opened,
        Err(status) => return status.into_response(),
    };
    let validators = validators(published, index, &found);
    if validators.are_known(headers) {
        return (StatusCode::NOT_MODIFIED, validators.headers()).into_response();
    }
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = range.filter(|_| validators.permit_range(headers));
    let range = match range.map_or(Wanted::All, |range| wanted(range, entry.len)) {
        Wanted::Nothing => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{}", entry.len))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response();
        }
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
    };
    let (from, end) = range.as_ref().map_or((0, entry.len), |range| (*range.start(), *range.end() + 1));
    let body = if method == Method::HEAD { Body::empty() } else { read(file, from..end, &site.0.long_reads) };
    let name = entry.path.last().map(Vec::as_slice).unwrap_or_default();
    let mut response = Response::builder()
        .status(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, end - from)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::CONTENT_DISPOSITION, disposition(name));
    if let Some(range) = range {
        let whole = entry.len;
        response = response.header(header::CONTENT_RANGE, format!("bytes {}-{}/{whole}", range.start(), range.end()));
    }
    let mut response = response.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
    response.headers_mut().extend(validators.headers());
    response
}

/// `Err` is what the client is told: to come again where the machine lacks descriptors for a moment.
fn open(published: &Published, index: usize) -> Result<(&FileEntry, File, Metadata), StatusCode> {
    let content = published.content.as_ref().ok_or(StatusCode::NOT_FOUND)?;
    let file = content
        .open_to_read(index)
        .map_err(|error| if error.passes() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NOT_FOUND })?;
    let found = file.metadata().map_err(|_| StatusCode::NOT_FOUND)?;
    Ok((published.files.get(index).ok_or(StatusCode::NOT_FOUND)?, file, found))
}

/// Of the file as it is now. The tag does not tell inodes to strangers.
fn validators(published: &Published, index: usize, found: &Metadata) -> Validators {
    let mut state = DefaultHasher::new();
    (found.dev(), found.ino(), found.len()).hash(&mut state);
    (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()).hash(&mut state);
    let tag = format!("{}-{index}-{:016x}", published.info_hash, state.finish());
    Validators::new(&tag, found.mtime(), SystemTime::now())
}
