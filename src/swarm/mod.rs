pub mod choker;
pub mod peer_list;
pub mod rate;
