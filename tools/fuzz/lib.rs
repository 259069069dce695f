//! The fuzz targets, as `tests/it/fuzz` has them.

#[path = "../../tests/it/fuzz/targets.rs"]
mod targets;

pub use targets::*;
