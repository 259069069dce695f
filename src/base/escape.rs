//! Makes text from outside (file names, tracker messages, client names) safe for a terminal and for HTML.

use std::fmt::{Display, Write as _};

/// Returns bytes as text for a terminal. Control, bidi and zero-width characters and bytes that are not UTF-8 are
/// escaped, as `\x1b` or `\u{202e}`.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_ascii_control() {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            } else if c.is_control() || is_invisible_format(c) {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Returns the text of a value, such as an error, as [`printable`] does.
pub fn printed(value: impl Display) -> String {
    printable(value.to_string().as_bytes())
}

/// Returns bytes as one word of a POSIX shell's command line, quoted if needed. Returns `None` if [`printable`] would
/// change them, since they cannot be shown unchanged.
pub fn shell_word(bytes: &[u8]) -> Option<String> {
    let text = str::from_utf8(bytes).ok().filter(|text| *text == printable(bytes))?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Some(text.to_owned());
    }
    Some(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Returns [`printable`] text escaped for HTML elements and quoted attributes.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Returns whether a character reorders or hides the text around it.
fn is_invisible_format(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::{html, printable};

    #[test]
    fn markup_is_escaped() {
        assert_eq!(
            html("<img src=x onerror='a(\"b\")'>&"),
            "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;"
        );
    }

    #[test]
    fn terminal_control_characters_are_escaped() {
        assert_eq!(printable(b"a\x1b[31mb\n"), "a\\x1b[31mb\\x0a");
        assert_eq!(printable("x\u{202e}y\u{85}".as_bytes()), "x\\u{202e}y\\u{85}");
        assert_eq!(printable(b"\xff\xfeok"), "\\xff\\xfeok");
        assert_eq!(printable("größe 日本".as_bytes()), "größe 日本");
    }
}
