//! This host on its network: listening, names, egress, our own address and how near another address is. Peer
//! connections are `ring`'s, the protocols of trackers are `trackers`'.

pub(in crate::engine) mod dns;
pub mod egress;
pub(in crate::engine) mod external_address;
pub(in crate::engine) mod listen;
pub(in crate::engine) mod nearness;
pub mod shortage;
pub(in crate::engine) mod utp;
