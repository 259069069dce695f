//! Error responses of one line of plain text.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// Creates a plain-text response. `line` must end with a line break.
pub(super) fn plain(status: StatusCode, line: &'static str) -> Response {
    let about = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, about, line).into_response()
}

/// The response of `/healthz`: the server answers.
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// The 404 response for an unknown path.
pub(super) async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "not found: nothing is served at this address\n")
}
