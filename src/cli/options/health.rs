//! Resolves the options of `health`.

use std::time::Duration;

use super::{url, usage};
use crate::cli::args::HealthArgs;
use crate::cli::exit::Failure;
use crate::codec::url::{WEB_SCHEMES, read};

/// The page of an origin, a dashboard and a tracker that answers when they do.
const HEALTH_PATH: &str = "/healthz";

#[derive(Debug, PartialEq, Eq)]
pub struct HealthOptions {
    /// An HTTP or HTTPS URL with a path.
    pub url: String,
    /// For the whole request.
    pub timeout: Duration,
}

pub(super) fn resolve_health(args: &HealthArgs) -> Result<HealthOptions, Failure> {
    if args.timeout.is_zero() {
        return Err(usage("--timeout: 0: give more than zero"));
    }
    let text = url("health", &args.url, &WEB_SCHEMES)?;
    let url = match read(text.as_bytes(), &WEB_SCHEMES) {
        Some(mut url) if url.path() == "/" && !text.ends_with('/') && url.query().is_none() => {
            url.set_path(HEALTH_PATH);
            url.into()
        }
        _ => text,
    };
    Ok(HealthOptions { url, timeout: args.timeout })
}
