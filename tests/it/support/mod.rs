//! What all tests share: processes that cannot outlive their test, content, networks, trackers, the clients of others.

pub(crate) mod bad_line;
pub(crate) mod bencode;
pub(crate) mod capture;
pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod creator;
pub(crate) mod crowd;
pub(crate) mod http_client;
pub(crate) mod http_server;
pub(crate) mod name_server;
pub(crate) mod net;
pub(crate) mod opentracker;
pub(crate) mod process;
pub(crate) mod sandbox;
pub(crate) mod scratch;
pub(crate) mod tracker;
pub(crate) mod wire_peer;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The binary under test: the one Cargo built with the tests, or `$BT_FAST`.
pub(crate) fn bt_fast_path() -> PathBuf {
    std::env::var_os("BT_FAST").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_bt-fast")), PathBuf::from)
}

/// A call of the binary under test, which remembers its checks apart from the user's, without the variables that are for
/// the tests themselves.
pub(crate) fn bt_fast() -> Command {
    let mut command = Command::new(bt_fast_path());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BT_FAST_")) {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// A file of this folder, for the scripts that lie beside the sources.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support").join(name)
}

/// The python that has libtorrent: `$LT_PYTHON`, or the one `tools/test` makes.
pub(crate) fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let python = std::env::var_os("LT_PYTHON").map_or(made, PathBuf::from);
    assert!(python.exists(), "{} is missing: run tools/test once, it installs what the tests need", python.display());
    python
}
