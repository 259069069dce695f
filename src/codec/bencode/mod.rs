//! Bencoding (BEP 3): a reader of hostile input that does not recurse, and a small tree for writing.
//!
//! The reader makes a [`Document`], a flat table of eight-byte tokens over the input. It copies no bytes, and limits
//! depth and number of values. It knows no keys; the caller interprets the values.

mod decode;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;

pub use value::{Value, write_bytes, write_integer};

use super::reader::Reader;

/// Limits of a document. Each value, key and container counts as one token of eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nesting of containers; a single list has depth 1.
    pub depth_max: usize,
    pub tokens_max: usize,
}

/// Why bytes are not bencoding. Offsets are in bytes from the start of the input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BencodeError {
    #[error("the input ends at byte {offset} inside a value")]
    UnexpectedEnd { offset: usize },
    #[error("byte {offset} (0x{byte:02x}) begins no bencoded value")]
    UnexpectedByte { offset: usize, byte: u8 },
    #[error("the integer at byte {offset} has no digits")]
    EmptyInteger { offset: usize },
    #[error("the integer at byte {offset} is minus zero")]
    NegativeZero { offset: usize },
    #[error("the number at byte {offset} has a leading zero")]
    LeadingZero { offset: usize },
    #[error("the string at byte {offset} is longer than the rest of the input")]
    StringPastEnd { offset: usize },
    #[error("the dictionary key at byte {offset} is not a string")]
    KeyNotString { offset: usize },
    #[error("the dictionary ends at byte {offset} after a key without a value")]
    KeyWithoutValue { offset: usize },
    #[error("more than {max} levels of lists and dictionaries at byte {offset}")]
    TooDeep { offset: usize, max: usize },
    #[error("more than {max} values at byte {offset}")]
    TooManyTokens { offset: usize, max: usize },
    #[error("the input continues after the end of the value at byte {offset}")]
    TrailingBytes { offset: usize },
    #[error("{len} bytes of input; at most 4 GiB can be read")]
    InputTooLong { len: usize },
}

/// The four types of bencoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Bytes,
    Integer,
    List,
    Dictionary,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "a string",
            Self::Integer => "an integer",
            Self::List => "a list",
            Self::Dictionary => "a dictionary",
        })
    }
}

/// One value in document order. Its type and end are read from the input on each access, since the metainfo of a
/// million files has several million tokens.
#[derive(Clone, Copy, Debug)]
struct Token {
    /// Offset of the value's first byte.
    start: u32,
    /// Index of the token after this value and all values inside it.
    next: u32,
}

/// A decoded input: the table of its values in document order.
#[derive(Debug)]
pub struct Document<'a> {
    bytes: &'a [u8],
    tokens: Vec<Token>,
    disorder: Option<usize>,
}

impl<'a> Document<'a> {
    /// Reads the whole input as one value. Trailing bytes are an error.
    pub fn decode(bytes: &'a [u8], limits: &Limits) -> Result<Self, BencodeError> {
        let (document, consumed) = Self::decode_prefix(bytes, limits)?;
        if consumed < bytes.len() {
            return Err(BencodeError::TrailingBytes { offset: consumed });
        }
        Ok(document)
    }

    /// Reads one value from the front of the input, and returns it with its length in bytes.
    pub fn decode_prefix(bytes: &'a [u8], limits: &Limits) -> Result<(Self, usize), BencodeError> {
        decode::Decoder::new(bytes, limits)?.run()
    }

    /// Returns the outermost value.
    pub fn root(&self) -> Node<'_, 'a> {
        Node { document: self, index: 0 }
    }

    /// Returns the offset of the first dictionary key that is not greater than the one before it: unsorted or
    /// duplicate. BEP 3 demands keys "in sorted order (sorted as raw strings, not alphanumerics)", but some published
    /// files break this rule.
    pub fn disorder(&self) -> Option<usize> {
        self.disorder
    }

    fn token(&self, index: u32) -> Option<Token> {
        self.tokens.get(usize::try_from(index).ok()?).copied()
    }
}

/// One value of a [`Document`].
#[derive(Clone, Copy)]
pub struct Node<'d, 'a> {
    document: &'d Document<'a>,
    index: u32,
}

impl<'d, 'a> Node<'d, 'a> {
    /// Returns the type of this value.
    pub fn kind(&self) -> Kind {
        match self.reader().peek() {
            Some(b'i') => Kind::Integer,
            Some(b'l') => Kind::List,
            Some(b'd') => Kind::Dictionary,
            _ => Kind::Bytes,
        }
    }

    /// Returns the offset of this value's first byte in the input.
    pub fn offset(&self) -> usize {
        self.document.token(self.index).map_or(0, |token| token.start as usize)
    }

    /// Returns the content of a string; `None` for other types.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        decode::bytes(&mut self.reader()).ok()
    }

    /// Returns the value of an integer; `None` for other types and for integers outside `i64`, which are legal (BEP 3:
    /// "Integers have no size limitation").
    pub fn as_i64(&self) -> Option<i64> {
        let mut reader = self.reader();
        reader.u8().filter(|&byte| byte == b'i')?;
        let digits = reader.take_while(|byte| byte != b'e');
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Returns the exact bytes of this value in the input.
    pub fn raw(&self) -> &'a [u8] {
        self.document.bytes.get(self.offset()..self.end()).unwrap_or_default()
    }

    /// Returns the keys and values of a dictionary in document order; none for other types.
    pub fn entries(&self) -> impl Iterator<Item = (&'a [u8], Node<'d, 'a>)> + use<'d, 'a> {
        let mut children = self.children_if(Kind::Dictionary);
        std::iter::from_fn(move || Some((children.next()?.as_bytes()?, children.next()?)))
    }

    /// Returns the items of a list; none for other types.
    pub fn items(&self) -> impl Iterator<Item = Node<'d, 'a>> + use<'d, 'a> {
        self.children_if(Kind::List)
    }

    /// Returns a dictionary's value for `key`, the first one if the key is repeated.
    pub fn get(&self, key: &[u8]) -> Option<Node<'d, 'a>> {
        self.entries().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    fn reader(&self) -> Reader<'a> {
        let mut reader = Reader::new(self.document.bytes);
        let _ = reader.take(self.offset());
        reader
    }

    fn children_if(&self, kind: Kind) -> Children<'d, 'a> {
        let end = if self.kind() == kind { self.next() } else { 0 };
        Children { document: self.document, index: self.index + 1, end }
    }

    fn next(&self) -> u32 {
        self.document.token(self.index).map_or(0, |token| token.next)
    }

    /// Returns the offset after this value: the end of its last descendant, plus an `e` for each container around that.
    fn end(&self) -> usize {
        let mut node = *self;
        let mut closing = 0;
        loop {
            let children = Children { document: node.document, index: node.index + 1, end: node.next() };
            match children.last() {
                Some(child) => node = child,
                None => return decode::leaf_end(node.reader()) + closing,
            }
            closing += 1;
        }
    }
}

/// The direct children of a container.
struct Children<'d, 'a> {
    document: &'d Document<'a>,
    index: u32,
    end: u32,
}

impl<'d, 'a> Iterator for Children<'d, 'a> {
    type Item = Node<'d, 'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.end {
            return None;
        }
        let node = Node { document: self.document, index: self.index };
        self.index = node.next();
        Some(node)
    }
}
