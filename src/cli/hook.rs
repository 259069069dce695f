//! `--on-complete`: a command of the user's that is told of the download by variables of its own.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::output::Output;
use crate::base::{FLAG_VARIABLES, InfoHash};

/// What the variables begin with; no flag does.
pub(super) const HOOK_PREFIX: &str = "BT_FAST_HOOK_";
/// The shorter names are variables of the shell alone: in the environment they would be flags of a bt-fast in the hook.
const SHELL_NAMES: &str = "BT_FAST_NAME=$BT_FAST_HOOK_NAME BT_FAST_OUTPUT=$BT_FAST_HOOK_OUTPUT \
                           BT_FAST_INFO_HASH=$BT_FAST_HOOK_INFO_HASH\n";

/// The command, ready to run once.
#[derive(Debug)]
pub(super) struct Hook {
    command: Command,
    running: Option<Child>,
}

impl Hook {
    /// `line` is for the shell; `name` is the torrent's, and the content's in `folder`.
    pub(super) fn new(line: &OsStr, name: &[u8], folder: &Path, info_hash: InfoHash) -> Self {
        let mut script = SHELL_NAMES.to_owned().into_bytes();
        script.extend_from_slice(line.as_bytes());
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(OsStr::from_bytes(&script)).stdin(Stdio::null());
        // Standard output is for our records.
        command.stdout(io::stderr());
        // The download's flags are not those of a bt-fast in the hook.
        for (flag, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(FLAG_VARIABLES.as_bytes())) {
            command.env_remove(flag);
        }
        let info_hash = info_hash.to_string();
        let variables =
            [("NAME", OsStr::from_bytes(name)), ("OUTPUT", folder.as_os_str()), ("INFO_HASH", OsStr::new(&info_hash))];
        command.envs(variables.map(|(name, value)| (format!("{HOOK_PREFIX}{name}"), value)));
        Self { command, running: None }
    }

    /// Starts the command, which [`Self::poll`] waits for.
    pub(super) fn start(&mut self, output: &Output) {
        match self.command.spawn() {
            Ok(child) => self.running = Some(child),
            Err(error) => report(Err(error), output),
        }
    }

    /// Reaps the command if it has ended.
    pub(super) fn poll(&mut self, output: &Output) {
        if let Some(ended) = self.running.as_mut().and_then(|child| child.try_wait().transpose()) {
            self.running = None;
            report(ended, output);
        }
    }

    /// Runs the command to its end.
    pub(super) fn run(&mut self, output: &Output) {
        report(self.command.status(), output);
    }
}

/// Tells of a failure. The content is complete in any case.
fn report(ended: io::Result<ExitStatus>, output: &Output) {
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => output.warning(format_args!("--on-complete: its command failed: {status}")),
        Err(error) => output.warning(format_args!("--on-complete: can't run /bin/sh: {error}")),
    }
}
