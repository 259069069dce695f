//! One interface to the clients of the interoperability tests: seed a folder, download into a folder.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    bt_fast_path,
    net::Host,
    process::{Running, wait_until},
    python, script,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    BtFast,
    Libtorrent,
    Aria2,
    Transmission,
    /// With its default settings: it tries uTP first and does not fall back to TCP.
    TransmissionUtp,
}

/// The host and port of a client, and its folder for logs and settings.
pub(crate) struct Site<'a> {
    pub(crate) host: &'a Host,
    pub(crate) port: u16,
    pub(crate) state: &'a Path,
}

/// How a client reports that its download is complete.
enum Completion {
    Exit,
    File(PathBuf),
}

/// A download in progress.
pub(crate) struct Download {
    pub(crate) process: Running,
    completion: Completion,
}

impl Download {
    /// Waits until the client reports completion.
    pub(crate) fn wait(&mut self, within: Duration) -> Result<(), String> {
        let start = Instant::now();
        let process = &mut self.process;
        let done = match &self.completion {
            Completion::Exit => process.wait(within).is_some_and(|status| status.success()),
            Completion::File(path) => wait_until(within, || path.exists() || !process.is_running()) && path.exists(),
        };
        if done { Ok(()) } else { Err(format!("not complete after {:.1?}", start.elapsed())) }
    }
}

impl Client {
    /// Returns whether the client creates empty files. Transmission 3 does not.
    pub(crate) fn makes_empty_files(self) -> bool {
        !matches!(self, Self::Transmission | Self::TransmissionUtp)
    }

    /// Starts to seed the content of `torrent` from `folder`, which contains the file or folder of the torrent's name.
    pub(crate) fn seed(self, torrent: &Path, folder: &Path, site: &Site<'_>) -> Running {
        let mut command = self.command("seed", torrent, folder, site);
        if self == Self::Aria2 {
            command.args(["--seed-ratio=0", "--check-integrity=true"]);
        }
        self.start("seeds", &command, site)
    }

    /// Starts to download `torrent` into `folder`.
    pub(crate) fn get(self, torrent: &Path, folder: &Path, site: &Site<'_>) -> Download {
        let mut command = self.command("get", torrent, folder, site);
        let mut completion = Completion::Exit;
        match self {
            Self::BtFast | Self::Libtorrent => {}
            Self::Aria2 => {
                command.args(["--seed-time=0", "--file-allocation=none"]);
            }
            Self::Transmission | Self::TransmissionUtp => {
                let marker = site.state.join("complete");
                command.arg("-f").arg(marker_script(site.state, &marker));
                completion = Completion::File(marker);
            }
        }
        Download { process: self.start("gets", &command, site), completion }
    }

    /// Returns the part of the command that both roles, `seed` and `get`, share.
    fn command(self, role: &str, torrent: &Path, folder: &Path, site: &Site<'_>) -> Command {
        match self {
            Self::BtFast => {
                let mut command = Command::new(bt_fast_path());
                command.arg(role).arg(torrent).arg(if role == "seed" { "--data" } else { "-o" }).arg(folder);
                command.arg("--listen").arg(site.address());
                command
            }
            Self::Libtorrent => libtorrent(role, torrent, folder, site),
            Self::Aria2 => aria2(torrent, folder, site),
            Self::Transmission | Self::TransmissionUtp => transmission(self, torrent, folder, site),
        }
    }

    fn start(self, role: &str, command: &Command, site: &Site<'_>) -> Running {
        let mut command = site.host.command(command);
        command.env("HOME", site.state).env("LC_ALL", "C.UTF-8").env("PYTHONUNBUFFERED", "1");
        Running::start(&format!("{self:?} {role}"), &command, &site.state.join(format!("{role}.log")))
    }
}

impl Site<'_> {
    fn address(&self) -> String {
        format!("{}:{}", self.host.ip, self.port)
    }
}

fn libtorrent(role: &str, torrent: &Path, folder: &Path, site: &Site<'_>) -> Command {
    let mut command = Command::new(python());
    command.arg(script("lt_client.py")).arg(role).arg(torrent).arg(folder);
    command.arg(site.host.ip.to_string()).arg(site.port.to_string());
    command
}

fn aria2(torrent: &Path, folder: &Path, site: &Site<'_>) -> Command {
    let mut command = Command::new("aria2c");
    command.args([
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--bt-min-crypto-level=plain",
        "--bt-require-crypto=false",
        "--bt-max-peers=200",
        "--console-log-level=notice",
        "--summary-interval=0",
        "--show-console-readout=false",
    ]);
    command.arg(format!("--listen-port={}", site.port)).arg("-d").arg(folder).arg(torrent);
    command
}

/// Returns a Transmission that checks existing content in `folder` at the start and never exits by itself.
fn transmission(client: Client, torrent: &Path, folder: &Path, site: &Site<'_>) -> Command {
    let settings = json!({
        "bind-address-ipv4": site.host.ip.to_string(),
        "dht-enabled": false,
        "lpd-enabled": false,
        "pex-enabled": false,
        "utp-enabled": client == Client::TransmissionUtp,
        "encryption": 0,
        "port-forwarding-enabled": false,
        "ratio-limit-enabled": false,
    });
    let settings_folder = site.state.join("transmission");
    fs::create_dir_all(&settings_folder).unwrap();
    fs::write(settings_folder.join("settings.json"), settings.to_string()).unwrap();
    let mut command = Command::new("transmission-cli");
    // `-et` prefers plaintext.
    command.arg("-g").arg(settings_folder).args(["-M", "-et", "-p"]).arg(site.port.to_string());
    command.arg("-w").arg(folder).arg(torrent);
    command
}

/// Writes a script to `folder` that creates the file `marker`, and returns its path.
fn marker_script(folder: &Path, marker: &Path) -> PathBuf {
    let path = folder.join("finish.sh");
    fs::write(&path, format!("#!/bin/sh\ntouch '{}'\n", marker.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
