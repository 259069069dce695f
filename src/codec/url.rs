//! URLs of trackers, web seeds and `.torrent` files, as torrents, servers and people write them.
//!
//! The crate `url` reads them as browsers do: spaces and letters beyond ASCII are escaped, dot segments resolved, names of
//! hosts mapped to ASCII. Here stands how bytes from outside get there, and what is asked of a URL beside that.

use std::borrow::Cow;
use std::fmt::Write as _;

pub use ::url::{Host, Position, Url};

use crate::base::escape::printable;
use crate::base::limits::URL_LEN_MAX;

/// Schemes of trackers that are spoken to.
pub const TRACKER_SCHEMES: [&str; 3] = ["http", "https", "udp"];
/// Schemes of web seeds, pages and `.torrent` files.
pub const WEB_SCHEMES: [&str; 2] = ["http", "https"];

/// A URL of one of these schemes, with a host, not too long. Blanks around it do not count; control characters inside
/// make it none.
pub fn read(bytes: &[u8], schemes: &[&str]) -> Option<Url> {
    let bytes = bytes.trim_ascii();
    if bytes.len() > URL_LEN_MAX || bytes.iter().any(u8::is_ascii_control) {
        return None;
    }
    let url = Url::parse(&text(bytes)).ok()?;
    let fits = schemes.contains(&url.scheme()) && url.as_str().len() <= URL_LEN_MAX;
    (fits && host(&url).is_some()).then_some(url)
}

/// The text of a URL as it is kept, shown and written: as it stood where it is printable ASCII, since trackers compare
/// the keys in it byte by byte, and else with everything escaped.
pub fn usable(bytes: &[u8], schemes: &[&str]) -> Option<String> {
    let url = read(bytes, schemes)?;
    let bytes = bytes.trim_ascii();
    if bytes.iter().all(u8::is_ascii_graphic) {
        return String::from_utf8(bytes.to_vec()).ok();
    }
    Some(url.into())
}

/// Resolves the reference that a server answers with against the URL it was asked for.
pub fn join(from: &Url, reference: &[u8]) -> Option<Url> {
    from.join(&text(reference.trim_ascii())).ok()
}

/// The host of a URL of any scheme; the crate reads names and addresses alone where it knows the scheme.
pub fn host(url: &Url) -> Option<Host> {
    Host::parse(url.host_str()?).ok()
}

/// Whether a tracker is asked over UDP.
pub fn is_udp(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "udp")
}

/// Scheme, host and port for messages: without what may be secret in the rest.
pub fn shown_server(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => {
            printable(format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort]).as_bytes())
        }
        Err(_) => "of an unreadable URL".to_owned(),
    }
}

/// What is meant by a text that was pasted: without the blanks, quotes and brackets around it.
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

/// Bytes that are not UTF-8 are escaped one by one, as they would be sent.
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
    fn what_is_not_ascii_is_escaped_and_the_rest_stays() {
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
    fn what_names_no_server_is_no_url() {
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
    }

    #[test]
    fn what_stands_around_a_pasted_text_is_left_out() {
        for text in ["<http://x/>", " \"http://x/\"\n", "'http://x/'", "`<http://x/>`"] {
            assert_eq!(pasted(text.as_bytes()), b"http://x/", "{text}");
        }
        assert_eq!(pasted(b"\""), b"\"");
    }

    proptest! {
        #[test]
        fn whatever_is_usable_is_printable_and_read_again(
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
