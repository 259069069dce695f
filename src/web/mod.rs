pub mod listener;
pub mod tracker;
