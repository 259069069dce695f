//! A bounds-checked cursor, with which the codec reads bytes from outside.

/// A position in a byte string. A read past the end returns `None` and consumes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Returns the number of bytes consumed.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the bytes that are not consumed yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.offset..).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Returns the next byte without consuming it.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.offset).copied()
    }

    /// Consumes the next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.offset.checked_add(len)?;
        let taken = self.bytes.get(self.offset..end)?;
        self.offset = end;
        Some(taken)
    }

    /// Consumes the longest run of bytes for which `wanted` holds, possibly none.
    pub fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|&byte| !wanted(byte)).unwrap_or(rest.len());
        self.take(len).unwrap_or_default()
    }

    /// Consumes the next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = self.rest().first_chunk::<N>().copied()?;
        self.offset += N;
        Some(array)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// Consumes two bytes, big-endian.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Consumes four bytes, big-endian.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;

    #[test]
    fn a_read_past_the_end_consumes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.take(4), None);
        assert_eq!(reader.take(usize::MAX), None);
        assert_eq!(reader.u16(), Some(0x0102));
        assert_eq!(reader.offset(), 2);
        assert_eq!(reader.rest(), [3]);
        assert_eq!(reader.peek(), Some(3));
        assert_eq!(reader.u8(), Some(3));
        assert_eq!(reader.peek(), None);
        assert!(reader.is_empty());
        assert_eq!(reader.take(0), Some(&[][..]));
    }

    #[test]
    fn a_run_ends_at_the_first_other_byte_or_the_end() {
        let mut reader = Reader::new(b"12a3");
        assert_eq!(reader.take_while(|byte| byte.is_ascii_digit()), b"12");
        assert_eq!(reader.take_while(|byte| byte.is_ascii_digit()), b"");
        assert_eq!(reader.u8(), Some(b'a'));
        assert_eq!(reader.take_while(|byte| byte.is_ascii_digit()), b"3");
    }
}
