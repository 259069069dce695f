//! Bad input from outside, given to the real binary.

mod metainfo;
