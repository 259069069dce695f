//! This host on its network: sockets, names, the way out, and how near an address is.

pub(in crate::engine) mod dns;
pub mod egress;
pub(in crate::engine) mod external_address;
pub(in crate::engine) mod listen;
pub(in crate::engine) mod nearness;
pub mod shortage;
pub(in crate::engine) mod utp;
