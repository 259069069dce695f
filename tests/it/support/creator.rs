//! Other programs that create torrents, and the output of libtorrent and Transmission for a torrent.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::{process::run, python, script};

const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creator {
    Mktorrent,
    Libtorrent,
    Transmission,
}

impl Creator {
    pub(crate) const ALL: [Self; 3] = [Self::Mktorrent, Self::Libtorrent, Self::Transmission];

    /// Creates `torrent` from the file or folder `source`.
    pub(crate) fn create(self, source: &Path, torrent: &Path, piece_len: u64, private: bool, tracker: &str) -> PathBuf {
        let mut command;
        match self {
            Self::Mktorrent => {
                command = Command::new("mktorrent");
                command.args(["-l", &piece_len.ilog2().to_string(), "-a", tracker, "-o"]).arg(torrent);
                command.args(private.then_some("-p")).arg(source);
            }
            Self::Libtorrent => {
                command = Command::new(python());
                command.arg(script("lt_torrent.py")).arg("create").arg(source).arg(torrent);
                command.args([piece_len.to_string(), u8::from(private).to_string(), tracker.to_owned()]);
            }
            Self::Transmission => {
                command = Command::new("transmission-create");
                command.args(["-s", &(piece_len >> 10).to_string(), "-t", tracker, "-o"]).arg(torrent);
                command.args(private.then_some("-p")).arg(source);
            }
        }
        run(command.env("LC_ALL", "C.UTF-8"), TIMEOUT).success();
        torrent.to_owned()
    }
}

/// Returns libtorrent's view of a torrent, with the keys of `bt-fast show --json`.
pub(crate) fn libtorrent_show(torrent: &Path) -> Value {
    let mut command = Command::new(python());
    command.arg(script("lt_torrent.py")).arg("show").arg(torrent);
    serde_json::from_str(&run(&command, TIMEOUT).success()).unwrap()
}

/// Returns the info-hash that `transmission-show` prints.
pub(crate) fn transmission_info_hash(torrent: &Path) -> String {
    let output = run(Command::new("transmission-show").arg(torrent).env("LC_ALL", "C.UTF-8"), TIMEOUT).success();
    let hash = output.lines().find_map(|line| line.trim().strip_prefix("Hash: "));
    hash.unwrap_or_else(|| panic!("no hash in {output}")).to_owned()
}
