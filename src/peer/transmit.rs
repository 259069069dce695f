//! The bytes and blocks of one send.

use std::time::Duration;

use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, limits};

/// The next send: `control`, then each block with its head. Reused from call to call.
#[derive(Debug)]
pub struct Transmit {
    pub control: Vec<u8>,
    pub blocks: Vec<BlockRef>,
    /// The maximum number of payload bytes in one send; a single block is taken whatever its length.
    pub len_max: usize,
}

impl Default for Transmit {
    fn default() -> Self {
        Self { control: Vec::new(), blocks: Vec::new(), len_max: limits::SEND_LEN_MAX }
    }
}

impl Transmit {
    /// The last send took this long. Adapts the length of the next one, so that each leaves quickly.
    pub fn handle_sent(&mut self, took: Duration) {
        if took > limits::SEND_SLOW {
            self.len_max = (self.len_max / 2).max(BLOCK_LEN as usize);
        } else if took < limits::SEND_QUICK {
            self.len_max = (self.len_max * 2).min(limits::SEND_LEN_MAX);
        }
    }
}
