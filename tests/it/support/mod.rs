//! Shared test support: processes, content, networks, trackers, scripted peers and other clients.

pub(crate) mod bencode;
pub(crate) mod capture;
pub(crate) mod client;
pub(crate) mod container;
pub(crate) mod content;
pub(crate) mod control_group;
pub(crate) mod creator;
pub(crate) mod crowd;
pub(crate) mod http_client;
pub(crate) mod http_server;
pub(crate) mod lan;
pub(crate) mod name_server;
pub(crate) mod net;
pub(crate) mod opentracker;
pub(crate) mod process;
pub(crate) mod sandbox;
pub(crate) mod scratch;
pub(crate) mod seccomp;
pub(crate) mod tracker;
pub(crate) mod unreliable_link;
pub(crate) mod wire_peer;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the path of the binary under test: `$BT_FAST`, or the binary that Cargo built with the tests.
pub(crate) fn bt_fast_path() -> PathBuf {
    std::env::var_os("BT_FAST").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bt-fast")), PathBuf::from)
}

/// Returns a command for the binary under test, with a separate cache folder and without `BT_FAST_*` variables, which
/// configure the tests.
pub(crate) fn bt_fast() -> Command {
    let mut command = Command::new(bt_fast_path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BT_FAST_")) {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Returns the path of a script in this folder.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support").join(name)
}

/// Returns the path of a Python with libtorrent: `$LT_PYTHON`, or the environment that `tools/test` creates.
pub(crate) fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let python = std::env::var_os("LT_PYTHON").map_or(made, PathBuf::from);
    assert!(python.exists(), "{} is missing: run tools/test once, it installs what the tests need", python.display());
    python
}
