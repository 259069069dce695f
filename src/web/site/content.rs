//! Content over HTTP, with ranges: a web seed (BEP 19) for BitTorrent clients, and plain downloads for browsers.
//!
//! Every byte is verified like those sent to peers, so that a file has one entity tag while it is served.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::file_body::{Source, read};
use super::listing::listing;
use super::published::{Found, Published};
use super::{Site, by_name, disposition};
use crate::base::{FileIdentity, InfoHash};
use crate::codec::percent::{self, Plus, unescape};
use crate::engine::Contents;
use crate::web::conditional::Validators;
use crate::web::listener::{Activity, RETRY_AFTER_S};
use crate::web::plain::{not_found, plain};
use crate::web::range::{Wanted, wanted};

/// Serves `/f/INFO_HASH/NAME` and `/f/INFO_HASH/NAME/PATH…`: a file, or with a slash at the end a folder. Names are
/// percent-escaped and may contain any bytes.
///
/// `/f/INFO_HASH/` is the URL of the web seed, to which clients append the name (BEP 19). It redirects to the content.
pub(super) async fn file(
    State(site): State<Site>,
    activity: Option<Extension<Activity>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some((published, mut path)) = requested(&site, uri.path()) else {
        let info_hash = uri.path().strip_prefix("/f/").and_then(|path| path.split('/').next());
        return match info_hash.and_then(InfoHash::from_hex) {
            Some(info_hash) => by_name::gone_or_not_found(&site, info_hash, &headers).await,
            None => not_found().await,
        };
    };
    let is_folder = path.pop_if(|last| last.is_empty()).is_some();
    if path.is_empty() {
        return to_content(&published, is_folder);
    }
    match published.find(&path) {
        Some(Found::File(index)) if !is_folder => {
            let activity = activity.map(|Extension(activity)| activity).unwrap_or_default();
            send(&site, &published, index, Request { method, headers, activity }).await
        }
        Some(Found::Folder(range)) if is_folder => listing(published, &path, range),
        Some(Found::Folder(_)) => {
            let mut location = String::from("./");
            percent::escape(&mut location, path.last().map(Vec::as_slice).unwrap_or_default());
            location.push('/');
            redirect(location)
        }
        _ => not_found().await,
    }
}

/// The parts of a request for a file that affect the response.
struct Request {
    method: Method,
    headers: HeaderMap,
    activity: Activity,
}

/// The torrent, and the path after its info-hash; `None` if its content is not served.
fn requested(site: &Site, path: &str) -> Option<(Arc<Published>, Vec<Vec<u8>>)> {
    let mut elements = path.strip_prefix("/f/")?.split('/');
    let published = site.published(InfoHash::from_hex(elements.next()?)?)?;
    published.content.as_ref()?;
    let path = elements.map(|text| unescape(text.as_bytes(), Plus::Itself)).collect::<Option<_>>()?;
    Some((published, path))
}

/// Redirects `/f/INFO_HASH`, with or without a slash at the end, to the file or the page of the folder.
fn to_content(published: &Published, has_slash: bool) -> Response {
    let root = if has_slash { "../../" } else { "../" };
    redirect(format!("{root}{}", published.content_path().unwrap_or_default()))
}

/// Creates a redirect. `location` should be relative to the path of the request, since a proxy may serve the origin
/// under a path prefix.
pub(super) fn redirect(location: String) -> Response {
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, location)]).into_response()
}

async fn send(site: &Site, published: &Published, index: usize, request: Request) -> Response {
    let Request { method, headers, activity } = request;
    let (Some(entry), Some(file)) = (published.files.get(index), Verified::of(published, index)) else {
        return not_found().await;
    };
    // RFC 9110, 14.2: ranges are defined only for GET.
    let range = if method == Method::GET { headers.get(header::RANGE) } else { None };
    let range = range.and_then(|value| value.to_str().ok());
    let first = match range.map(|range| wanted(range, entry.len)) {
        Some(Wanted::Part(range)) => *range.start(),
        Some(Wanted::All | Wanted::Nothing) | None => 0,
    };
    // Verify the first requested byte before the status is sent.
    let found = match file.clone().probe(site, first, entry.len).await {
        Ok(found) => found,
        // The file is changing, or descriptors are short for the moment.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            let answer = plain(StatusCode::SERVICE_UNAVAILABLE, "the file cannot be read at the moment: try again\n");
            return ([(header::RETRY_AFTER, RETRY_AFTER_S)], answer).into_response();
        }
        Err(_) => return plain(StatusCode::NOT_FOUND, "not found: the file is missing or was changed\n"),
    };
    let tag = format!("{}-{index}", published.info_hash);
    let validators = Validators::new(&tag, found.mtime.s, SystemTime::now());
    if let Some(refusal) = validators.refuse(&headers) {
        return refusal;
    }
    let range = if validators.permit_range(&headers) { range } else { None };
    let range = match range.map_or(Wanted::All, |range| wanted(range, entry.len)) {
        Wanted::Nothing => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{}", entry.len))];
            let answer = plain(StatusCode::RANGE_NOT_SATISFIABLE, "the range begins after the end of the file\n");
            return (whole, answer).into_response();
        }
        Wanted::All => None,
        Wanted::Part(range) => Some(range),
    };
    let (from, end) = range.as_ref().map_or((0, entry.len), |range| (*range.start(), *range.end() + 1));
    let body = if method == Method::HEAD { Body::empty() } else { read(file, from..end, &site.0.readers, activity) };
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

/// The verified bytes of one file.
#[derive(Clone, Debug)]
struct Verified {
    contents: Arc<Contents>,
    info_hash: InfoHash,
    file_index: usize,
}

impl Verified {
    fn of(published: &Published, file_index: usize) -> Option<Self> {
        Some(Self { contents: published.content.clone()?, info_hash: published.info_hash, file_index })
    }

    /// Verifies the byte at `offset` of the file, which is `len` bytes long, and returns the identity of the file.
    async fn probe(self, site: &Site, offset: u64, len: u64) -> io::Result<FileIdentity> {
        let probe = move || {
            let buffer = &mut [0][..usize::from(len > 0)];
            self.contents.read(self.info_hash, self.file_index, offset, buffer)
        };
        // Without a thread that could read it, the file is busy.
        site.0.readers.threads.run(probe).await.unwrap_or_else(|| Err(io::ErrorKind::ResourceBusy.into()))
    }
}

impl Source for Verified {
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.contents.read(self.info_hash, self.file_index, at, buffer).map(drop)
    }
}
