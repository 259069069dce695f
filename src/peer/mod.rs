//! One peer connection, without I/O or clock.
//!
//! Owns the rules of the protocol: the handshakes, choke and interest of both sides, the two request queues, the Fast
//! extension (BEP 6), the extension handshake (BEP 10), metadata (BEP 9), keep-alives and silence. Payload never
//! enters: a block is three numbers here. `swarm` decides which blocks are requested, which peers are unchoked and
//! which pieces we have.

mod allowed_fast;
mod connection;
mod control_queue;
mod event;
mod fault;
mod flood;
mod handshake_exchange;
mod low_water;
mod metadata;
mod metadata_connection;
mod receive_plan;
mod request_queue;
mod requests;
mod setup;
mod transmit;
mod window;

pub use allowed_fast::allowed_fast_set;
pub use connection::Connection;
pub use event::{BlockArrival, Event, TimeoutEvent};
pub use fault::PeerFault;
pub use handshake_exchange::{Agreement, HandshakeExchange, HandshakeFault, HandshakeStep};
pub use low_water::LowWater;
pub use metadata_connection::{MetadataConnection, MetadataEvent};
pub use receive_plan::{ReceivePlan, Received};
pub use requests::Outstanding;
pub use setup::{InitialHave, Setup};
pub use transmit::Transmit;
