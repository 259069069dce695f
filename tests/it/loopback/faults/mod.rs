//! Faults of the machine and the network: lost links, kills, missing resources.

pub(crate) mod environment;
mod few_descriptors;
pub(crate) mod killed;
mod link_outage;
mod memory_limit;
mod process_limits;
mod scarce_resources;
mod unreliable_link;
