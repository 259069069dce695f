//! The sending side: sends blocks from memory, each with a message head.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use socket2::Socket;

use super::{BLOCK, BLOCKS_PER_SEND, Shape, cpu_time, join_all};
use crate::base::Rng;
use crate::base::geometry::BLOCK_LEN;
use crate::codec::message::encode_piece_head;

/// Maximum bytes of content in memory, which are sent repeatedly. They are far more than a processor's cache holds, and
/// lie on pages of the same size as those of the page cache.
const CONTENT_LEN_MAX: u64 = 256 << 20;

/// Sends all runs, and returns the processor time of the transfer. `listening` is called with the port.
pub(super) fn run(shape: Shape, listening: &mut dyn FnMut(u16) -> io::Result<()>) -> io::Result<Duration> {
    let content = content(&shape);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listening(listener.local_addr()?.port())?;
    let before = cpu_time();
    let sockets = (0..shape.connection_count).map(|_| Ok(listener.accept()?.0.into()));
    let sockets: Vec<Socket> = sockets.collect::<io::Result<_>>()?;
    thread::scope(|scope| {
        let content = &content[..];
        let sends = sockets.into_iter().enumerate();
        let threads: Vec<_> = sends
            .map(|(connection, socket)| scope.spawn(move || send_runs(&socket, content, shape, connection)))
            .collect();
        join_all(threads)
    })?;
    Ok(cpu_time().saturating_sub(before))
}

/// Makes random content.
pub(super) fn content(shape: &Shape) -> Vec<u8> {
    let run_len = shape.run_len as u64;
    let len = shape.len().min(CONTENT_LEN_MAX.next_multiple_of(run_len));
    let mut content = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    Rng::with_seed(1).fill(&mut content);
    content
}

/// Returns the bytes of a run.
pub(super) fn run_of<'a>(content: &'a [u8], shape: &Shape, index: u64) -> &'a [u8] {
    let runs = content.len() / shape.run_len;
    let index = usize::try_from(index).unwrap_or(0) % runs.max(1);
    &content[index * shape.run_len..][..shape.run_len]
}

fn send_runs(socket: &Socket, content: &[u8], shape: Shape, connection: usize) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    for index in shape.runs(connection) {
        for blocks in run_of(content, &shape, index).chunks(BLOCKS_PER_SEND * BLOCK) {
            send_blocks(socket, u32::try_from(index).unwrap_or(u32::MAX), blocks)?;
        }
    }
    Ok(())
}

/// Sends sixteen heads and blocks with one call, and with further calls the bytes that the socket did not accept.
fn send_blocks(socket: &Socket, index: u32, blocks: &[u8]) -> io::Result<()> {
    let mut begin = 0;
    let heads: [_; BLOCKS_PER_SEND] = std::array::from_fn(|_| {
        begin += BLOCK_LEN;
        encode_piece_head(index, begin - BLOCK_LEN, BLOCK_LEN)
    });
    let mut slices: Vec<IoSlice<'_>> = heads
        .iter()
        .zip(blocks.chunks(BLOCK))
        .flat_map(|(head, block)| [IoSlice::new(head), IoSlice::new(block)])
        .collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let sent = socket.send_vectored(left)?;
        IoSlice::advance_slices(&mut left, sent);
    }
    Ok(())
}
