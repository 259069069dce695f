//! What a client has already (RFC 9110, 8.8 and 13): `ETag` and `Last-Modified`, and the requests that name them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, header};

/// HTTP's dates end with the year 9999.
const DATE_MAX_S: u64 = 253_402_300_799;

/// What tells one state of an answer from another.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    /// A strong one, with its quotes.
    tag: String,
    /// In whole seconds; `None` where HTTP has no date for it.
    modified: Option<SystemTime>,
}

impl Validators {
    /// `tag` is plain letters and digits; `modified` is in seconds since 1970. Nothing was modified later than `now`.
    pub(super) fn new(tag: &str, modified: i64, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let modified = u64::try_from(modified).ok().map(|seconds| seconds.min(now).min(DATE_MAX_S));
        let modified = modified.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Self { tag: format!("\"{tag}\""), modified }
    }

    /// Whether the client has this state: the answer is 304. Tags count before dates.
    pub(super) fn are_known(&self, request: &HeaderMap) -> bool {
        let mut tags = request.get_all(header::IF_NONE_MATCH).iter().peekable();
        if tags.peek().is_some() {
            return tags.filter_map(|value| value.to_str().ok()).any(|value| self.is_among(value));
        }
        let since = date(request, header::IF_MODIFIED_SINCE);
        self.modified.zip(since).is_some_and(|(modified, since)| modified <= since)
    }

    /// Whether a range of this state is wanted, or all of another one.
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

    /// Among the tags of a list, compared weakly.
    fn is_among(&self, list: &str) -> bool {
        let same = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag;
        // Our own tags have no comma in them.
        list.split(',').any(|tag| same(tag.trim()))
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
    fn a_client_that_names_the_state_has_it() {
        for (tags, known) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("\"x\"", false),
            ("abc", false),
            ("", false),
        ] {
            assert_eq!(at_noon().are_known(&request(&[(header::IF_NONE_MATCH, tags)])), known, "{tags}");
        }
        for (since, known) in [(NOON, true), (LATER, true), (EARLIER, false), ("yesterday", false)] {
            assert_eq!(at_noon().are_known(&request(&[(header::IF_MODIFIED_SINCE, since)])), known, "{since}");
        }
        let both = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_MODIFIED_SINCE, LATER)];
        assert!(!at_noon().are_known(&request(&both)), "the tag counts");
        assert!(!at_noon().are_known(&HeaderMap::new()));
    }

    #[test]
    fn a_range_of_another_state_is_all_of_this_one() {
        for (value, permitted) in
            [("\"abc\"", true), ("W/\"abc\"", false), ("\"x\"", false), (NOON, true), (LATER, false), (EARLIER, false)]
        {
            assert_eq!(at_noon().permit_range(&request(&[(header::IF_RANGE, value)])), permitted, "{value}");
        }
        assert!(at_noon().permit_range(&HeaderMap::new()));
    }

    #[test]
    fn dates_that_http_lacks_are_left_out() {
        let now = UNIX_EPOCH + Duration::from_secs(12 * 3600);
        assert_eq!(Validators::new("x", i64::MAX, now).headers()[header::LAST_MODIFIED], NOON);
        let before = Validators::new("x", -1, now);
        assert_eq!(before.headers().get(header::LAST_MODIFIED), None);
        assert!(!before.are_known(&request(&[(header::IF_MODIFIED_SINCE, LATER)])));
    }
}
