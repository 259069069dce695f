//! Splits source code into code, comments and string literals.

/// A comment or a string literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One line of a comment, without its slashes.
    Comment,
    /// One line of a comment at the head of a module (`//!`), without its slashes.
    ModuleHead,
    /// The content of a string literal.
    Literal,
}

/// Text in a source file that a reader or a user sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) kind: Kind,
    /// The line of its first character, from 1.
    pub(super) line: usize,
    pub(super) text: String,
}

/// Returns the comments and the string literals of a source file in order.
pub(super) fn texts(source: &str) -> Vec<Text> {
    scan(source).1
}

/// Returns the source with comments removed and string literals emptied. Line breaks are kept.
pub(super) fn code(source: &str) -> String {
    scan(source).0
}

fn scan(source: &str) -> (String, Vec<Text>) {
    let (mut code, mut texts, mut line) = (String::new(), Vec::new(), 1);
    let mut rest = source;
    while let Some(character) = rest.chars().next() {
        let token = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            let comment = rest[..end].trim_start_matches('/');
            let (kind, comment) = comment.strip_prefix('!').map_or((Kind::Comment, comment), |c| (Kind::ModuleHead, c));
            texts.push(Text { kind, line, text: comment.trim().to_owned() });
            &rest[..end]
        } else if let Some((token, content)) = literal(rest, code.chars().next_back()) {
            texts.push(Text { kind: Kind::Literal, line, text: content.to_owned() });
            code.push_str("\"\"");
            code.extend(token.chars().filter(|character| *character == '\n'));
            token
        } else {
            // A quote or a slash in a character literal begins nothing.
            let len = ["'\"'", "'\\\"'", "'\\''", "b'\"'", "'/'"].iter().find(|start| rest.starts_with(**start));
            let token = &rest[..len.map_or(character.len_utf8(), |start| start.len())];
            code.push_str(token);
            token
        };
        line += token.matches('\n').count();
        rest = &rest[token.len()..];
    }
    (code, texts)
}

/// Returns the string literal at the start of `rest`, with and without its quotes.
fn literal(rest: &str, before: Option<char>) -> Option<(&str, &str)> {
    let after_identifier = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r').filter(|_| !after_identifier);
    if let Some(raw) = raw {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(content) = raw[hashes..].strip_prefix('"') {
            let len = content.find(&format!("\"{}", "#".repeat(hashes)))?;
            let start = rest.len() - content.len();
            return Some((&rest[..start + len + 1 + hashes], &content[..len]));
        }
    }
    let content = rest.strip_prefix('"')?;
    let mut escaped = false;
    let len = content.find(|character| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    })?;
    Some((&rest[..len + 2], &content[..len]))
}

#[test]
fn comments_and_literals_are_separated() {
    let source =
        "//! Head.\nlet a = \"b // \\\" c\"; // Tail.\nlet d = '\"'; let e = r#\"f \" g\"#;\n/// Doc.\nfn h() {}\n";
    let found: Vec<(Kind, usize, String)> =
        texts(source).into_iter().map(|text| (text.kind, text.line, text.text)).collect();
    let expected = [
        (Kind::ModuleHead, 1, "Head."),
        (Kind::Literal, 2, "b // \\\" c"),
        (Kind::Comment, 2, "Tail."),
        (Kind::Literal, 3, "f \" g"),
        (Kind::Comment, 4, "Doc."),
    ];
    assert_eq!(found, expected.map(|(kind, line, text)| (kind, line, text.to_owned())));
    assert_eq!(code(source), "\nlet a = \"\"; \nlet d = '\"'; let e = \"\";\n\nfn h() {}\n");
}
