//! Conditional requests (RFC 9110, 8.8 and 13): `ETag`, `Last-Modified`, and the request headers that refer to them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::plain::plain;

/// The last second of the year 9999, at which the dates of HTTP end.
const DATE_MAX_S: u64 = 253_402_300_799;

/// The validators of one version of a response.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    /// A strong entity tag, with its quotes.
    tag: String,
    /// In whole seconds; `None` if HTTP cannot express the date.
    modified: Option<SystemTime>,
}

impl Validators {
    /// `tag` must consist of letters, digits and hyphens. `modified` is in seconds since 1970; a date after `now` is
    /// replaced by `now`.
    pub(super) fn new(tag: &str, modified: i64, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let modified = u64::try_from(modified).ok().map(|seconds| seconds.min(now).min(DATE_MAX_S));
        let modified = modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Self { tag: format!("\"{tag}\""), modified }
    }

    /// Returns the 412 or 304 response to a GET or HEAD whose conditions are not met, or `None` if this version is to
    /// be sent (RFC 9110, 13.2.2).
    pub(super) fn refuse(&self, request: &HeaderMap) -> Option<Response> {
        if !self.is_expected(request) {
            let line = "precondition failed: the tag or date of the content does not match the request\n";
            return Some((self.headers(), plain(StatusCode::PRECONDITION_FAILED, line)).into_response());
        }
        self.is_known(request).then(|| (StatusCode::NOT_MODIFIED, self.headers()).into_response())
    }

    /// Whether `If-Match`, or else `If-Unmodified-Since`, is met by this version.
    fn is_expected(&self, request: &HeaderMap) -> bool {
        let strongly = |tag: &str| tag == self.tag;
        self.matches(request, header::IF_MATCH, strongly)
            .or_else(|| Some(self.modified? <= date(request, header::IF_UNMODIFIED_SINCE)?))
            .unwrap_or(true)
    }

    /// Whether the client has this version, according to `If-None-Match` or else `If-Modified-Since`.
    fn is_known(&self, request: &HeaderMap) -> bool {
        let weakly = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == self.tag;
        self.matches(request, header::IF_NONE_MATCH, weakly)
            .or_else(|| Some(self.modified? <= date(request, header::IF_MODIFIED_SINCE)?))
            .unwrap_or(false)
    }

    /// Whether a header lists `*` or a tag for which `same` returns true; `None` if the request lacks the header.
    fn matches(&self, request: &HeaderMap, name: HeaderName, same: impl Fn(&str) -> bool) -> Option<bool> {
        let mut lists = request.get_all(name).iter().peekable();
        lists.peek()?;
        // Our own tags contain no comma, so splitting at commas is exact for them.
        let mut tags = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim);
        Some(tags.any(|tag| tag == "*" || same(tag)))
    }

    /// Whether a range may be sent: `If-Range` is missing or refers to this version.
    pub(super) fn permit_range(&self, request: &HeaderMap) -> bool {
        match request.get(header::IF_RANGE) {
            None => true,
            Some(value) if value.as_bytes() == self.tag.as_bytes() => true,
            Some(_) => self.modified.is_some() && self.modified == date(request, header::IF_RANGE),
        }
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let date = self.modified.map(httpdate::fmt_http_date);
        let pairs = [(header::ETAG, Some(self.tag.clone())), (header::LAST_MODIFIED, date)];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?.parse().ok()?))).collect()
    }
}

fn date(request: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(request.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: &str = "Thu, 01 Jan 1970 12:00:00 GMT";
    const LATER: &str = "Thu, 01 Jan 1970 12:00:01 GMT";
    const EARLIER: &str = "Thu, 01 Jan 1970 11:59:59 GMT";

    fn at_noon() -> Validators {
        Validators::new("abc", 12 * 3600, UNIX_EPOCH + Duration::from_secs(24 * 3600))
    }

    fn request(headers: &[(HeaderName, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_client_that_names_this_version_has_it() {
        for (tags, known) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("\"x\"", false),
            ("abc", false),
            ("", false),
        ] {
            assert_eq!(at_noon().is_known(&request(&[(header::IF_NONE_MATCH, tags)])), known, "{tags}");
        }
        for (since, known) in [(NOON, true), (LATER, true), (EARLIER, false), ("yesterday", false)] {
            assert_eq!(at_noon().is_known(&request(&[(header::IF_MODIFIED_SINCE, since)])), known, "{since}");
        }
        let both = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, LATER)];
        assert!(!at_noon().is_known(&request(&both)), "the tag counts");
        assert!(!at_noon().is_known(&HeaderMap::new()));
    }

    #[test]
    fn preconditions_hold_or_fail_in_the_order_of_rfc_9110() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        for (headers, status) in [
            (&[(IF_MATCH, "\"abc\"")][..], None),
            (&[(IF_MATCH, "\"x\", \"abc\"")], None),
            (&[(IF_MATCH, "\"x\""), (IF_MATCH, "\"abc\"")], None),
            (&[(IF_MATCH, "*")], None),
            (&[(IF_MATCH, "\"x\"")], Some(412)),
            (&[(IF_MATCH, "W/\"abc\"")], Some(412)),
            (&[(IF_MATCH, "")], Some(412)),
            (&[(IF_UNMODIFIED_SINCE, NOON)], None),
            (&[(IF_UNMODIFIED_SINCE, LATER)], None),
            (&[(IF_UNMODIFIED_SINCE, EARLIER)], Some(412)),
            (&[(IF_UNMODIFIED_SINCE, "yesterday")], None),
            // `If-Match` takes precedence over the date, and both over the conditions for 304.
            (&[(IF_MATCH, "\"abc\""), (IF_UNMODIFIED_SINCE, EARLIER)], None),
            (&[(IF_MATCH, "\"x\""), (IF_NONE_MATCH, "\"abc\"")], Some(412)),
            (&[(IF_MATCH, "\"abc\""), (IF_NONE_MATCH, "\"abc\"")], Some(304)),
            (&[(IF_UNMODIFIED_SINCE, EARLIER), (IF_MODIFIED_SINCE, LATER)], Some(412)),
            (&[(IF_UNMODIFIED_SINCE, NOON), (IF_MODIFIED_SINCE, NOON)], Some(304)),
        ] {
            let refused = at_noon().refuse(&request(headers)).map(|response| response.status().as_u16());
            assert_eq!(refused, status, "{headers:?}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_not_permitted() {
        for (value, permitted) in
            [("\"abc\"", true), ("W/\"abc\"", false), ("\"x\"", false), (NOON, true), (LATER, false), (EARLIER, false)]
        {
            assert_eq!(at_noon().permit_range(&request(&[(header::IF_RANGE, value)])), permitted, "{value}");
        }
        assert!(at_noon().permit_range(&HeaderMap::new()));
    }

    #[test]
    fn dates_that_http_cannot_express_are_omitted() {
        let now = UNIX_EPOCH + Duration::from_secs(12 * 3600);
        assert_eq!(Validators::new("x", i64::MAX, now).headers()[header::LAST_MODIFIED], NOON);
        let before = Validators::new("x", -1, now);
        assert_eq!(before.headers().get(header::LAST_MODIFIED), None);
        assert!(!before.is_known(&request(&[(header::IF_MODIFIED_SINCE, LATER)])));
        assert!(before.is_expected(&request(&[(header::IF_UNMODIFIED_SINCE, EARLIER)])));
    }
}
