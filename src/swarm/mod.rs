//! What the connections of one torrent share: the life of each piece, availability, what to ask next, whom to serve.
//!
//! Without I/O or clock. [`Swarm`] is shared by all threads; a [`Link`] joins it to one peer connection. Piece memory is a
//! type parameter ([`Slot`]) that is only carried here.

mod availability;
mod awaited;
pub mod blame;
pub mod choker;
mod have_log;
pub mod limiter;
mod link;
mod metadata;
mod open_piece;
mod order;
pub mod peer_list;
mod peer_shared;
mod picking;
mod pieces;
pub mod rate;
mod reveal;
mod selection;
mod shared;
pub mod sharing;
mod spread;
pub mod steering;
mod working;

pub use availability::Availability;
pub use link::Link;
pub use metadata::{MetadataFetch, MetadataProgress};
pub use order::Order;
pub use peer_shared::PeerShared;
pub use pieces::{OpenPiece, Pieces, Slot, Verdict};
pub use selection::{Choice, Selection};
pub use shared::{Swarm, Totals};
pub use working::Arrival;
