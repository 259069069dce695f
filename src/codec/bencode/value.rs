//! The tree of values for writing.

use std::collections::BTreeMap;

/// A value to be written. Writing recurses, since this program alone chooses the depth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Bytes(Vec<u8>),
    Integer(i64),
    /// Bencoded bytes, copied unchanged.
    Raw(Vec<u8>),
    List(Vec<Value>),
    /// A dictionary, written "in sorted order (sorted as raw strings, not alphanumerics)" (BEP 3).
    Dictionary(BTreeMap<Vec<u8>, Value>),
}

impl Value {
    /// Returns a dictionary of these entries; of equal keys the last counts.
    pub fn dictionary<K: Into<Vec<u8>>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Dictionary(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// Returns the value as bencoded bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => write_bytes(out, bytes),
            Self::Integer(integer) => write_integer(out, integer),
            Self::Raw(raw) => out.extend_from_slice(raw),
            Self::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.write(out));
                out.push(b'e');
            }
            Self::Dictionary(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    write_bytes(out, key);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<u32> for Value {
    fn from(integer: u32) -> Self {
        Self::Integer(integer.into())
    }
}

impl From<u64> for Value {
    fn from(integer: u64) -> Self {
        i64::try_from(integer).map_or_else(|_| Self::Raw(format!("i{integer}e").into_bytes()), Self::Integer)
    }
}

/// Appends a string: `spam` as `4:spam`.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

/// Appends an integer: 3 as `i3e`.
pub fn write_integer(out: &mut Vec<u8>, integer: impl std::fmt::Display) {
    out.extend_from_slice(format!("i{integer}e").as_bytes());
}
