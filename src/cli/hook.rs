//! `--on-complete`: the user's command, which gets the download in environment variables.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process_group, test_kill_process_group};

use super::children::Child;
use super::exit::{Exit, Failure};
use super::output::Output;
use crate::base::escape::printable;
use crate::base::{FLAG_VARIABLES, InfoHash};
use crate::io::initial_descriptor_limit;

/// Prefix of the hook's variables, which is no prefix of a flag's variable.
pub(super) const HOOK_PREFIX: &str = "BT_FAST_HOOK_";
/// Shorter names of the variables. They are not exported: a bt-fast that the hook runs would take them for flags.
const SHELL_NAMES: &str = "BT_FAST_NAME=$BT_FAST_HOOK_NAME BT_FAST_OUTPUT=$BT_FAST_HOOK_OUTPUT \
                           BT_FAST_INFO_HASH=$BT_FAST_HOOK_INFO_HASH\n";

/// Interval at which the end of the command is checked.
const END_POLL: Duration = Duration::from_millis(20);
/// A command that is ended gets this time before it is killed.
const END_WAIT: Duration = Duration::from_secs(2);

/// The command, which runs once, in a process group of its own.
#[derive(Debug)]
pub(super) struct Hook {
    command: Command,
    /// The name of the torrent, printable.
    name: String,
    running: Option<Child>,
    /// Why the command failed.
    failure: Option<Failure>,
}

impl Hook {
    /// `line` is a shell command; `name` is the name of the torrent and of its content in `folder`.
    pub(super) fn new(line: &OsStr, name: &[u8], folder: &Path, info_hash: InfoHash) -> Self {
        let mut script = SHELL_NAMES.to_owned().into_bytes();
        if let Some(limit) = initial_descriptor_limit() {
            script.extend_from_slice(format!("ulimit -Sn {limit}\n").as_bytes());
        }
        script.extend_from_slice(line.as_bytes());
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(OsStr::from_bytes(&script)).stdin(Stdio::null());
        // A signal that ends the command must reach the programs that it has started.
        command.process_group(0);
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
        Self { command, name: printable(name), running: None, failure: None }
    }

    /// Starts the command. [`Self::poll`] or [`Self::wait`] reaps it.
    pub(super) fn start(&mut self, output: &Output) {
        match Child::start(&mut self.command) {
            Ok(child) => self.running = Some(child),
            Err(error) => self.handle_end(Err(error), output),
        }
    }

    /// Reaps the command if it has ended, and warns if it has failed.
    pub(super) fn poll(&mut self, output: &Output) {
        if let Some(ended) = self.running.as_mut().and_then(|child| child.try_wait().transpose()) {
            self.running = None;
            self.handle_end(ended, output);
        }
    }

    fn handle_end(&mut self, ended: io::Result<ExitStatus>, output: &Output) {
        self.failure = self.failure_of(ended);
        if let Some(failure) = &self.failure {
            output.warning(failure);
        }
    }

    /// Runs the command and waits for its end, like [`Self::wait`]. It is not started if `stop` is set.
    pub(super) fn run(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        if stop.load(Ordering::Relaxed) {
            return Err(self.interrupted("did not run"));
        }
        match Child::start(&mut self.command) {
            Ok(child) => self.running = Some(child),
            Err(error) => self.failure = self.failure_of(Err(error)),
        }
        self.wait(stop)
    }

    /// Waits for the end of the command if it runs, and returns its result. When `stop` is set, the command and the
    /// programs that it has started are ended.
    pub(super) fn wait(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        if let Some(mut child) = self.running.take() {
            self.failure = match wait_unless(stop, &mut child) {
                Some(ended) => self.failure_of(ended),
                None => {
                    end(&mut child);
                    Some(self.interrupted("was ended"))
                }
            };
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Returns why the command failed; `None` if it has not.
    fn failure_of(&self, ended: io::Result<ExitStatus>) -> Option<Failure> {
        let reason = match ended {
            Ok(status) if status.success() => return None,
            Ok(status) => match status.signal() {
                Some(signal) => format!("the command was ended by signal {signal}"),
                None => format!("the command ended with exit status {}", status.code().unwrap_or_default()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "there is no /bin/sh: run get in an image with a shell".to_owned()
            }
            Err(error) => format!("can't run /bin/sh: {error}"),
        };
        Some(Failure::new(Exit::Failed, format_args!("--on-complete: {}: {reason}", self.name)))
    }

    fn interrupted(&self, fate: &str) -> Failure {
        let line = format_args!("interrupted: {} is complete, but the command of --on-complete {fate}", self.name);
        Failure::new(Exit::Interrupted, line)
    }
}

/// Waits for the end of the command; returns `None` if `stop` is set before.
fn wait_unless(stop: &AtomicBool, child: &mut Child) -> Option<io::Result<ExitStatus>> {
    loop {
        if let Some(ended) = child.try_wait().transpose() {
            return Some(ended);
        }
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        thread::sleep(END_POLL);
    }
}

/// Ends the command and the programs of its process group: with SIGTERM, and with SIGKILL those that are still there
/// after [`END_WAIT`].
fn end(child: &mut Child) {
    // Signals fail only if there is no process left.
    let group = child.pid();
    let _ = kill_process_group(group, Signal::TERM);
    let deadline = Instant::now() + END_WAIT;
    while matches!(child.try_wait(), Ok(None)) || test_kill_process_group(group).is_ok() {
        if Instant::now() >= deadline {
            let _ = kill_process_group(group, Signal::KILL);
            while matches!(child.try_wait(), Ok(None)) {
                thread::sleep(END_POLL);
            }
            return;
        }
        thread::sleep(END_POLL);
    }
}
