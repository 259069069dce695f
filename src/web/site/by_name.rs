//! URLs by name, which lead to the newest version of a torrent, and the answer for replaced versions.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use super::{Site, host};
use crate::base::InfoHash;
use crate::codec::percent::{Plus, unescape};
use crate::web::plain::not_found;

/// Redirects `/NAME` to the entry of this torrent on the landing page, and `/NAME.torrent` to its `.torrent`.
pub(super) async fn entry(State(site): State<Site>, uri: Uri) -> Response {
    let name = uri.path().strip_prefix('/').and_then(|name| unescape(name.as_bytes(), Plus::Itself));
    let Some(name) = name else { return not_found().await };
    if let Some(published) = site.first_of_name(&name) {
        return to_newest(format!("./#{}", published.info_hash));
    }
    let of_torrent = name.strip_suffix(b".torrent").and_then(|name| site.first_of_name(name));
    match of_torrent {
        Some(published) => to_newest(format!("./{}", site.newest_path(&published))),
        None => not_found().await,
    }
}

/// Creates a redirect that no cache keeps, since the name may lead to a newer version later.
fn to_newest(location: String) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".to_owned())]).into_response()
}

/// Creates the response for a torrent that is not published: 410 with the URL of the newest version if the torrent was
/// replaced (RFC 5829), else 404.
pub(super) async fn gone_or_not_found(site: &Site, info_hash: InfoHash, headers: &HeaderMap) -> Response {
    let Some(path) = site.0.tracker.replaced().successor(info_hash) else { return not_found().await };
    let url = format!("{}/{path}", site.base(host(headers)));
    let about = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::LINK, format!("<{url}>; rel=\"successor-version\"")),
    ];
    (StatusCode::GONE, about, format!("this torrent was replaced: get {url}\n")).into_response()
}
