//! Errors of the benchmarks.

use std::io;

/// Why a benchmark has no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("can't find this program: mount /proc, or start bt-fast by its path")]
    NoProgram,
    #[error("create: {0}")]
    Create(#[from] crate::create::CreateError),
    #[error("verify: {0}")]
    Verify(#[from] crate::create::ContentError),
    #[error("{side} ended early: {line}")]
    Ended { side: &'static str, line: String },
    #[error("the received files differ from the content")]
    Differs,
}

pub(super) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> BenchError {
    move |error| BenchError::Io { what, error }
}
