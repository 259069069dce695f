//! Recognizes other files that users take for a `.torrent`, by their first bytes.

use crate::codec::magnet::Magnet;

/// A file of another kind; the text says what to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mistaken {
    #[error("empty: fetch it again")]
    Empty,
    #[error("packed with {program}: unpack it first, as with '{program} -d'")]
    Packed { program: &'static str },
    #[error("a zip archive: unpack it first, as with 'unzip'")]
    Zip,
    #[error("a web page: open it in a browser; it may ask for a login or link to the torrent")]
    WebPage,
    #[error("a text with a magnet link: give the link itself to 'bt-fast get'")]
    MagnetLink,
    #[error("a text with a URL: give the URL itself to 'bt-fast get'")]
    Url,
}

/// The first bytes of compressed files, and the program that decompresses them.
const PACKED: [(&[u8], &str); 4] =
    [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")];
/// The byte order mark with which some editors begin a text.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl Mistaken {
    /// Recognizes the kind of a file that is not a torrent; `None` for an unknown kind.
    pub fn recognize(bytes: &[u8]) -> Option<Self> {
        if let Some((_, program)) = PACKED.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return Some(Self::Packed { program });
        }
        let text = bytes.strip_prefix(MARK).unwrap_or(bytes).trim_ascii_start();
        let begins =
            |head: &str| text.get(..head.len()).is_some_and(|found| found.eq_ignore_ascii_case(head.as_bytes()));
        match text {
            [] => Some(Self::Empty),
            _ if begins("PK\x03\x04") => Some(Self::Zip),
            _ if Magnet::is_meant(text) => Some(Self::MagnetLink),
            _ if begins("http://") || begins("https://") => Some(Self::Url),
            [b'<', ..] => Some(Self::WebPage),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_recognized_by_their_first_bytes() {
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b" \r\n", "empty"),
            (b"\x1f\x8b\x08\0", "'gzip -d'"),
            (b"\x28\xb5\x2f\xfd\x04", "'zstd -d'"),
            (b"\xfd7zXZ\0\0", "'xz -d'"),
            (b"BZh9", "'bzip2 -d'"),
            (b"PK\x03\x04\x14", "unzip"),
            (b"\n<!DOCTYPE html>", "web page"),
            (b"\xef\xbb\xbf<html>", "web page"),
            (b"Magnet:?xt=urn:btih:", "magnet link"),
            (b"https://t.example/x.torrent\n", "URL"),
        ] {
            let shown = Mistaken::recognize(bytes).unwrap().to_string();
            assert!(shown.contains(part) && shown.lines().count() == 1, "{shown}");
        }
        for bytes in [&b"d8:announce"[..], b"hello", b"\0\0\0", b"httpd", b"4:spam"] {
            assert_eq!(Mistaken::recognize(bytes), None);
        }
    }
}
