//! `--on-complete`: the user's command, which gets the download in environment variables.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::base::{FLAG_VARIABLES, InfoHash};

/// Prefix of the hook's variables, which is no prefix of a flag's variable.
pub(super) const HOOK_PREFIX: &str = "BT_FAST_HOOK_";
/// Shorter names of the variables. They are not exported: a bt-fast that the hook runs would take them for flags.
const SHELL_NAMES: &str = "BT_FAST_NAME=$BT_FAST_HOOK_NAME BT_FAST_OUTPUT=$BT_FAST_HOOK_OUTPUT \
                           BT_FAST_INFO_HASH=$BT_FAST_HOOK_INFO_HASH\n";

/// The command, which runs once.
#[derive(Debug)]
pub(super) struct Hook {
    command: Command,
    running: Option<Child>,
    /// Why the command failed.
    failure: Option<String>,
}

impl Hook {
    /// `line` is a shell command; `name` is the name of the torrent and of its content in `folder`.
    pub(super) fn new(line: &OsStr, name: &[u8], folder: &Path, info_hash: InfoHash) -> Self {
        let mut script = SHELL_NAMES.to_owned().into_bytes();
        script.extend_from_slice(line.as_bytes());
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(OsStr::from_bytes(&script)).stdin(Stdio::null());
        // Standard output is reserved for records.
        command.stdout(io::stderr());
        // The flags of this download are not for a bt-fast that the hook runs.
        for (flag, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(FLAG_VARIABLES.as_bytes())) {
            command.env_remove(flag);
        }
        let info_hash = info_hash.to_string();
        let variables =
            [("NAME", OsStr::from_bytes(name)), ("OUTPUT", folder.as_os_str()), ("INFO_HASH", OsStr::new(&info_hash))];
        command.envs(variables.map(|(name, value)| (format!("{HOOK_PREFIX}{name}"), value)));
        Self { command, running: None, failure: None }
    }

    /// Starts the command. [`Self::poll`] reaps it.
    pub(super) fn start(&mut self, output: &Output) {
        match self.command.spawn() {
            Ok(child) => self.running = Some(child),
            Err(error) => self.warn_of(Err(error), output),
        }
    }

    /// Reaps the command if it has ended, and warns if it has failed.
    pub(super) fn poll(&mut self, output: &Output) {
        if let Some(ended) = self.running.as_mut().and_then(|child| child.try_wait().transpose()) {
            self.running = None;
            self.warn_of(ended, output);
        }
    }

    fn warn_of(&mut self, ended: io::Result<ExitStatus>, output: &Output) {
        self.failure = failure(ended);
        self.failure.iter().for_each(|line| output.warning(line));
    }

    /// Runs the command and waits for its end.
    pub(super) fn run(&mut self) {
        self.failure = failure(self.command.status());
    }

    /// Returns the failure of the command. One that still runs has not failed.
    pub(super) fn result(&self) -> Result<(), Failure> {
        self.failure.as_ref().map_or(Ok(()), |line| Err(Failure::new(Exit::Failed, line)))
    }
}

/// Returns why the command failed; `None` if it has not.
fn failure(ended: io::Result<ExitStatus>) -> Option<String> {
    let reason = match ended {
        Ok(status) if status.success() => return None,
        Ok(status) => match status.signal() {
            Some(signal) => format!("the command was ended by signal {signal}"),
            None => format!("the command ended with exit status {}", status.code().unwrap_or_default()),
        },
        Err(error) => format!("can't run /bin/sh: {error}"),
    };
    Some(format!("--on-complete: {reason}"))
}
