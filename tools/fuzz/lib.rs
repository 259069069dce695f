//! The fuzz targets of `tests/it/fuzz`.

#[path = "../../tests/it/fuzz/targets.rs"]
mod targets;

pub use targets::*;
