//! Every bound of the program: its unit, its value, its reason. One file for each subject; all are used as `limits::NAME`.

mod connections;
mod metainfo;
mod peer;
mod session;
mod storage;
mod swarm;
mod tracker;
mod web;

pub use connections::*;
pub use metainfo::*;
pub use peer::*;
pub use session::*;
pub use storage::*;
pub use swarm::*;
pub use tracker::*;
pub use web::*;

const _: () = {
    assert!(REQUESTS_OUT_START <= REQUESTS_OUT_UNTOLD && REQUESTS_OUT_STEADY <= REQUESTS_OUT_MAX);
    assert!(SEND_BLOCKS_MAX * super::geometry::BLOCK_LEN as usize <= SEND_LEN_MAX);
    assert!(RECV_BUFFER_LEN_MAX > REQUEST_LEN_MAX as usize + 13);
    assert!(PIECE_LEN_CREATE_MAX <= PIECE_LEN_READ_MAX);
    assert!(STREAM_READ_LEN.is_power_of_two() && STREAM_PIECE_LEN_DEFAULT.is_power_of_two());
    assert!(TRACKER_PEER_EXPIRY.as_secs() > 2 * TRACKER_SERVED_INTERVAL.as_secs());
    assert!(TRACKER_STOP_TIMEOUT.as_millis() < SHUTDOWN_TIMEOUT.as_millis());
};
