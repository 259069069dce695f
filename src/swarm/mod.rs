//! The state that the connections of one torrent share: the life of each piece, availability, the choice of requests,
//! choking; and the hosts that have all pieces.
//!
//! Without I/O or clock. [`Swarm`] is shared by all threads; a [`Link`] joins it to one peer connection. Piece memory
//! is a type parameter ([`PieceMemory`]) that is only carried here.

mod availability;
mod awaited;
pub mod choke_driver;
pub mod choker;
pub mod fair_queue;
mod gauge;
mod have_log;
mod host_table;
mod hosts;
mod initial_seeding;
mod interest;
pub mod limiter;
mod link;
mod metadata;
mod offers;
mod open_piece;
mod order;
pub mod peer_list;
mod peer_shared;
mod pick;
mod picker;
mod piece_state;
mod pieces;
pub mod rate;
mod selection;
mod shared;
pub mod smart_ban;
mod super_seeding;
pub mod testing;
pub mod torrent_control;
mod wait_notice;
mod working;

pub use availability::Availability;
pub use host_table::{Counted, HostCompletion, HostTable};
pub use hosts::{Holding, HostCounts, Sighting};
pub use link::{Link, Reading, Receipt};
pub use metadata::{MetadataFetch, MetadataProgress};
pub use order::Order;
pub use peer_shared::{PeerShared, Traffic};
pub use pieces::{HashOutcome, OpenPiece, PieceMemory, Pieces, Verdict};
pub use selection::{Choice, Selection};
pub use shared::{Swarm, Totals};
pub use wait_notice::{Prospects, WaitNotice};
