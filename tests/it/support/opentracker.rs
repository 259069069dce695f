//! Debian's opentracker, which tracks only listed torrents.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

/// Returns a tracker for HTTP and UDP on this address. It changes its root to `folder` and drops its privileges.
pub(crate) fn opentracker(ip: &str, port: u16, folder: &Path, info_hash: &str) -> Command {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("listed"), format!("{info_hash}\n")).unwrap();
    let port = port.to_string();
    let mut command = Command::new("opentracker");
    command.args(["-i", ip, "-p", &port, "-P", &port, "-w", "listed", "-d"]).arg(folder);
    command
}
