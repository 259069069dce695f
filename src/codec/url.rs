//! URLs of trackers, web seeds and `.torrent` files, as torrents, servers and users write them.
//!
//! The crate `url` reads them as browsers do: it escapes spaces and letters beyond ASCII, resolves dot segments and
//! maps host names to ASCII. This module passes bytes from outside to the crate, and adds the rules of this program.

use std::borrow::Cow;
use std::fmt::Write as _;

pub use ::url::{Host, Position, Url};

use crate::base::escape::printable;
use crate::base::limits::URL_LEN_MAX;

/// Schemes of the trackers that are supported.
pub const TRACKER_SCHEMES: [&str; 3] = ["http", "https", "udp"];
/// Schemes of web seeds, pages and `.torrent` files.
pub const WEB_SCHEMES: [&str; 2] = ["http", "https"];

/// Reads a URL that has one of these schemes and a host, and at most [`URL_LEN_MAX`] bytes. Blanks around it are
/// ignored; a control character makes it invalid.
pub fn read(bytes: &[u8], schemes: &[&str]) -> Option<Url> {
    let bytes = bytes.trim_ascii();
    if bytes.len() > URL_LEN_MAX || bytes.iter().any(u8::is_ascii_control) {
        return None;
    }
    let url = Url::parse(&text(bytes)).ok()?;
    let fits = schemes.contains(&url.scheme()) && url.as_str().len() <= URL_LEN_MAX;
    (fits && host(&url).is_some()).then_some(url)
}

/// Returns a URL in the form in which it is kept, shown and written. Printable ASCII is unchanged, since trackers
/// compare the keys in it byte by byte; any other text is normalized and escaped.
pub fn usable(bytes: &[u8], schemes: &[&str]) -> Option<String> {
    let url = read(bytes, schemes)?;
    let bytes = bytes.trim_ascii();
    if bytes.iter().all(u8::is_ascii_graphic) {
        return String::from_utf8(bytes.to_vec()).ok();
    }
    Some(url.into())
}

/// Resolves the reference in a server's answer against the URL of the request.
pub fn join(from: &Url, reference: &[u8]) -> Option<Url> {
    from.join(&text(reference.trim_ascii())).ok()
}

/// Returns the host of a URL of any scheme. The crate distinguishes names and addresses only in schemes that it knows.
pub fn host(url: &Url) -> Option<Host> {
    Host::parse(url.host_str()?).ok()
}

/// Returns whether a tracker's URL is for UDP.
pub fn is_udp(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "udp")
}

/// Returns scheme, host and port of a URL for messages, without its other parts, which may be secret.
pub fn shown_server(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => {
            printable(format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort]).as_bytes())
        }
        Err(_) => "of an unreadable URL".to_owned(),
    }
}

/// Returns a text that is meant as a URL without its user and password, for messages.
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((credentials, _)) => format!("{scheme}://{}", &rest[credentials.len() + 1..]).into(),
        None => text.into(),
    }
}

/// Removes the blanks, quotes and brackets around a pasted text.
pub fn pasted(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii();
        text = match text {
            [b'<', inner @ .., b'>']
            | [b'"', inner @ .., b'"']
            | [b'\'', inner @ .., b'\'']
            | [b'`', inner @ .., b'`'] => inner,
            _ => return text,
        };
    }
}

/// Converts bytes to text. If they are not UTF-8, each byte beyond ASCII is escaped, as it would be sent.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        if byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_urls_beyond_ascii_are_escaped() {
        for (text, kept) in [
            (&b"HTTP://x"[..], "HTTP://x"),
            (b" http://t.example/a?passkey=%7e'a%20b&x=1#f\n", "http://t.example/a?passkey=%7e'a%20b&x=1#f"),
            (b"http://t.example/My File", "http://t.example/My%20File"),
            ("http://t.example/Café?q=é".as_bytes(), "http://t.example/Caf%C3%A9?q=%C3%A9"),
            (b"http://t.example/Caf\xe9", "http://t.example/Caf%E9"),
            ("http://bücher.example/a".as_bytes(), "http://xn--bcher-kva.example/a"),
            ("udp://t.example:80/é".as_bytes(), "udp://t.example:80/%C3%A9"),
        ] {
            assert_eq!(usable(text, &TRACKER_SCHEMES).as_deref(), Some(kept));
        }
    }

    #[test]
    fn urls_without_a_usable_server_are_refused() {
        for text in [
            "",
            "x",
            "http://",
            "udp://",
            "ftp://x/",
            "http://a\r\nb/",
            "http://a\x1b[m",
            "http://a b/",
            "http://[::1",
            "http://x:99999/",
        ] {
            assert_eq!(read(text.as_bytes(), &TRACKER_SCHEMES), None, "{text:?}");
        }
        assert_eq!(read(b"udp://t.example:80", &WEB_SCHEMES), None);
        assert_eq!(read(format!("http://t/{}", "x".repeat(URL_LEN_MAX)).as_bytes(), &WEB_SCHEMES), None);
        assert_eq!(read(format!("http://t/{}", "é".repeat(URL_LEN_MAX / 3)).as_bytes(), &WEB_SCHEMES), None);
    }

    #[test]
    fn hosts_of_every_scheme_are_read_alike() {
        for scheme in TRACKER_SCHEMES {
            let host = |authority: &str| host(&Url::parse(&format!("{scheme}://{authority}/announce")).unwrap());
            assert_eq!(host("u:p@10.0.0.1:80"), Some(Host::Ipv4([10, 0, 0, 1].into())));
            assert_eq!(host("[::1]:80"), Some(Host::Ipv6([0, 0, 0, 0, 0, 0, 0, 1].into())));
            assert_eq!(host("bücher.example"), Some(Host::Domain("xn--bcher-kva.example".to_owned())));
        }
    }

    #[test]
    fn messages_name_the_server_without_the_secrets() {
        assert_eq!(shown_server("https://user:word@t.example:8443/key/announce?pass=x"), "https://t.example:8443");
        assert_eq!(shown_server("udp://[::1]:80/x"), "udp://[::1]:80");
        assert_eq!(shown_server("t.example:secret"), "t.example://");
        for (text, shown) in [
            ("http://user:pass@word@t.example:80/a@b?c#d", "http://t.example:80/a@b?c#d"),
            ("http://user@[::1]", "http://[::1]"),
            ("http://user:word@", "http://"),
            ("http://t.example/a?b=c@d", "http://t.example/a?b=c@d"),
            ("user:word@t.example", "user:word@t.example"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn quotes_around_a_pasted_text_are_removed() {
        for text in ["<http://x/>", " \"http://x/\"\n", "'http://x/'", "`<http://x/>`"] {
            assert_eq!(pasted(text.as_bytes()), b"http://x/", "{text}");
        }
        assert_eq!(pasted(b"\""), b"\"");
    }

    proptest! {
        #[test]
        fn usable_urls_are_printable_and_read_back(
            bytes in prop::collection::vec(any::<u8>(), 0..60), scheme in prop::sample::select(&TRACKER_SCHEMES[..])
        ) {
            let text = [scheme.as_bytes(), b"://t.example/", &bytes].concat();
            if let Some(kept) = usable(&text, &TRACKER_SCHEMES) {
                prop_assert!(kept.bytes().all(|byte| byte.is_ascii_graphic()), "{kept}");
                prop_assert_eq!(usable(kept.as_bytes(), &TRACKER_SCHEMES), Some(kept));
            }
        }
    }
}
