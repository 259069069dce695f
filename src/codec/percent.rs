//! Percent-escapes of URLs and query strings (RFC 3986).

use std::fmt::Write as _;

/// Appends `bytes`, of which all but RFC 3986's unreserved characters are escaped.
pub fn escape(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The meaning of `+` in an escaped text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plus {
    /// A space, as form encoders write it.
    Space,
    /// A plus.
    Itself,
}

/// Decodes percent-escapes; `None` if one is malformed.
pub fn unescape(text: &[u8], plus: Plus) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if plus == Plus::Space => b' ',
            byte => byte,
        });
    }
    Some(out)
}

/// Returns the value of a hexadecimal digit, or `None` for any other byte.
pub fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_escapes_are_refused() {
        assert_eq!(unescape(b"a%2fb+", Plus::Space).unwrap(), b"a/b ");
        assert_eq!(unescape(b"a%2Fb+", Plus::Itself).unwrap(), b"a/b+");
        for broken in ["%", "%4", "%zz", "a%+1"] {
            assert_eq!(unescape(broken.as_bytes(), Plus::Itself), None, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn escaped_bytes_are_read_back(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut text = String::new();
            escape(&mut text, &bytes);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(unescape(text.as_bytes(), Plus::Space).unwrap(), bytes);
        }
    }
}
