//! The loop of the decoder, and the grammar of strings and integers (BEP 3).

use super::{BencodeError, Document, Limits, Token};
use crate::codec::reader::Reader;

/// A container whose `e` has not been read yet.
struct Open<'a> {
    token: usize,
    expected: Expected<'a>,
}

/// The token that a container expects next.
enum Expected<'a> {
    /// An item of a list.
    Item,
    /// A dictionary key, which is compared with the previous one.
    Key { previous: Option<&'a [u8]> },
    /// The dictionary value of this key.
    Value { key: &'a [u8] },
}

/// The state of one decoding. Open containers are on an explicit stack, at most `depth_max` deep.
pub(super) struct Decoder<'a, 'l> {
    reader: Reader<'a>,
    bytes: &'a [u8],
    limits: &'l Limits,
    tokens: Vec<Token>,
    open: Vec<Open<'a>>,
    disorder: Option<usize>,
}

impl<'a, 'l> Decoder<'a, 'l> {
    pub(super) fn new(bytes: &'a [u8], limits: &'l Limits) -> Result<Self, BencodeError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(BencodeError::InputTooLong { len: bytes.len() });
        }
        let reader = Reader::new(bytes);
        Ok(Self { reader, bytes, limits, tokens: Vec::new(), open: Vec::new(), disorder: None })
    }

    /// Reads one complete value.
    pub(super) fn run(mut self) -> Result<(Document<'a>, usize), BencodeError> {
        loop {
            self.step()?;
            if self.open.is_empty() {
                let document = Document { bytes: self.bytes, tokens: self.tokens, disorder: self.disorder };
                return Ok((document, self.reader.offset()));
            }
        }
    }

    /// Reads a string, an integer, or the start or end of a container.
    fn step(&mut self) -> Result<(), BencodeError> {
        let offset = self.reader.offset();
        let byte = self.reader.peek().ok_or(BencodeError::UnexpectedEnd { offset })?;
        match byte {
            b'e' => return self.close(offset),
            b'0'..=b'9' => {
                let token = self.push(offset)?;
                let content = bytes(&mut self.reader)?;
                self.settle(token);
                self.advance(content, offset);
                return Ok(());
            }
            b'i' | b'l' | b'd' => {}
            _ => return Err(BencodeError::UnexpectedByte { offset, byte }),
        }
        // BEP 3: "Keys must be strings".
        if let Some(Open { expected: Expected::Key { .. }, .. }) = self.open.last() {
            return Err(BencodeError::KeyNotString { offset });
        }
        if byte == b'i' {
            let token = self.push(offset)?;
            integer(&mut self.reader)?;
            self.settle(token);
            self.advance(&[], offset);
            return Ok(());
        }
        if self.open.len() >= self.limits.depth_max {
            return Err(BencodeError::TooDeep { offset, max: self.limits.depth_max });
        }
        let token = self.push(offset)?;
        self.advance(&[], offset);
        let expected = if byte == b'l' { Expected::Item } else { Expected::Key { previous: None } };
        self.open.push(Open { token, expected });
        let _ = self.reader.u8();
        Ok(())
    }

    /// Ends the innermost container.
    fn close(&mut self, offset: usize) -> Result<(), BencodeError> {
        match self.open.pop() {
            None => Err(BencodeError::UnexpectedByte { offset, byte: b'e' }),
            Some(Open { expected: Expected::Value { .. }, .. }) => Err(BencodeError::KeyWithoutValue { offset }),
            Some(Open { token, .. }) => {
                let _ = self.reader.u8();
                self.settle(token);
                Ok(())
            }
        }
    }

    /// Updates the innermost container after a value, or after the key `content` at `offset`.
    fn advance(&mut self, content: &'a [u8], offset: usize) {
        let Some(open) = self.open.last_mut() else { return };
        open.expected = match open.expected {
            Expected::Item => Expected::Item,
            Expected::Value { key } => Expected::Key { previous: Some(key) },
            Expected::Key { previous } => {
                if previous.is_some_and(|previous| previous >= content) {
                    self.disorder.get_or_insert(offset);
                }
                Expected::Value { key: content }
            }
        };
    }

    fn push(&mut self, offset: usize) -> Result<usize, BencodeError> {
        let index = self.tokens.len();
        let start = u32::try_from(offset).map_err(|_| BencodeError::InputTooLong { len: offset })?;
        let max = self.limits.tokens_max.min(u32::MAX as usize - 1);
        if index >= max {
            return Err(BencodeError::TooManyTokens { offset, max });
        }
        self.tokens.push(Token { start, next: 0 });
        Ok(index)
    }

    /// Completes a token whose value has all its tokens in the table.
    fn settle(&mut self, token: usize) {
        let next = u32::try_from(self.tokens.len()).unwrap_or(u32::MAX);
        if let Some(token) = self.tokens.get_mut(token) {
            token.next = next;
        }
    }
}

/// Reads a string. BEP 3: "Strings are length-prefixed base ten followed by a colon and the string."
pub(super) fn bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], BencodeError> {
    let offset = reader.offset();
    let digits = reader.take_while(|byte| byte.is_ascii_digit());
    expect(reader, if digits.is_empty() { b'0' } else { b':' })?;
    if digits.len() > 1 && digits.first() == Some(&b'0') {
        return Err(BencodeError::LeadingZero { offset });
    }
    let decimal = |len: usize, digit: &u8| len.checked_mul(10)?.checked_add(usize::from(digit - b'0'));
    let len = digits.iter().try_fold(0, decimal);
    len.and_then(|len| reader.take(len)).ok_or(BencodeError::StringPastEnd { offset })
}

/// Skips an integer of any size. BEP 3: "'i' followed by the number in base 10 followed by an 'e'"; `i-0e` and leading
/// zeros are invalid.
fn integer(reader: &mut Reader<'_>) -> Result<(), BencodeError> {
    let offset = reader.offset();
    expect(reader, b'i')?;
    let negative = reader.peek() == Some(b'-');
    if negative {
        let _ = reader.u8();
    }
    let digits = reader.take_while(|byte| byte.is_ascii_digit());
    expect(reader, b'e')?;
    match digits {
        [] => Err(BencodeError::EmptyInteger { offset }),
        [b'0'] if negative => Err(BencodeError::NegativeZero { offset }),
        [b'0', _, ..] => Err(BencodeError::LeadingZero { offset }),
        _ => Ok(()),
    }
}

/// Returns the offset after a valid value that contains no other value.
pub(super) fn leaf_end(mut reader: Reader<'_>) -> usize {
    match reader.peek() {
        Some(b'i') => {
            reader.take_while(|byte| byte != b'e');
            reader.offset() + 1
        }
        Some(b'l' | b'd') => reader.offset() + 2,
        _ => {
            let _ = bytes(&mut reader);
            reader.offset()
        }
    }
}

fn expect(reader: &mut Reader<'_>, wanted: u8) -> Result<(), BencodeError> {
    let offset = reader.offset();
    match reader.u8() {
        Some(byte) if byte == wanted => Ok(()),
        Some(byte) => Err(BencodeError::UnexpectedByte { offset, byte }),
        None => Err(BencodeError::UnexpectedEnd { offset }),
    }
}
