//! Tests from outside the crate: the real binary on real files and sockets, and rules for the source code.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests panic on failure and wait by the real clock")]

mod advice;
mod bench;
mod circles;
mod cli;
mod containers;
mod create;
mod create_faults;
mod fuzz;
mod interop;
mod loopback;
mod manual;
mod publish;
mod rollout;
mod sim;
mod support;
mod tidy;
mod torture;
