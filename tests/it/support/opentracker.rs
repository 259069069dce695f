//! Debian's opentracker, which tracks listed torrents alone.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

/// Answers over HTTP and UDP on this address. It goes into this folder for good and gives its rights away.
pub(crate) fn opentracker(ip: &str, port: u16, folder: &Path, info_hash: &str) -> Command {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("listed"), format!("{info_hash}\n")).unwrap();
    let port = port.to_string();
    let mut command = Command::new("opentracker");
    command.args(["-i", ip, "-p", &port, "-P", &port, "-w", "listed", "-d"]).arg(folder);
    command
}
