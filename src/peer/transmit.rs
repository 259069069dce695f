//! What leaves a connection at a time.

use std::time::Duration;

use crate::base::geometry::BLOCK_LEN;
use crate::base::{BlockRef, limits};

/// What to send next: `control`, then each block with its head. Reused from call to call.
#[derive(Debug)]
pub struct Transmit {
    pub control: Vec<u8>,
    pub blocks: Vec<BlockRef>,
    /// Payload bytes that may be taken at a time; a single block is taken whatever its length.
    pub len_max: usize,
}

impl Default for Transmit {
    fn default() -> Self {
        Self { control: Vec::new(), blocks: Vec::new(), len_max: limits::SEND_LEN_MAX }
    }
}

impl Transmit {
    /// The last one took so long to leave: the next one is cut to what leaves quickly.
    pub fn handle_sent(&mut self, took: Duration) {
        if took > limits::SEND_SLOW {
            self.len_max = (self.len_max / 2).max(BLOCK_LEN as usize);
        } else if took < limits::SEND_QUICK {
            self.len_max = (self.len_max * 2).min(limits::SEND_LEN_MAX);
        }
    }
}
