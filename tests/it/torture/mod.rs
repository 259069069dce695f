//! Bad input from outside, given to the real binary.

mod metainfo;
mod table;
