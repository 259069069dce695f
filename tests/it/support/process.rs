//! Child processes: their output is written to files, waits have a deadline, and processes are killed with their test.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Signal, kill_process};

use super::scratch::Scratch;

const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The number of log lines in the message of a failed test.
const LOG_LINES_SHOWN: usize = 60;

/// Deadline of a command in a container.
pub(crate) const CONTAINER_DEADLINE: Duration = Duration::from_secs(60);

/// Calls `done` until it returns true or the time is over. Returns its last result.
pub(crate) fn wait_until(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A child process. Dropping it kills it, and so does the end of the thread that started it.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with both output streams in `log`.
    pub(crate) fn start(name: &str, command: &Command, log: &Path) -> Self {
        Self::start_with(name, command, log, Vec::new())
    }

    /// Starts `command` like [`Self::start`] and passes it these descriptors as 3, 4 and so on.
    pub(crate) fn start_with(name: &str, command: &Command, log: &Path, handed: Vec<OwnedFd>) -> Self {
        let out = File::create(log).unwrap();
        let err = out.try_clone().unwrap();
        let child = spawn(command, out, err, handed);
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Waits for the process; returns its exit status if it ends in time.
    pub(crate) fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(within, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status
    }

    /// Returns the process id. `setpriv` executes the command in place, so it is the command's own id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Returns the output of the process so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the last lines of output with a heading, for the message of a failed test.
    pub(crate) fn log_tail(&mut self) -> String {
        let state = match self.child.try_wait().unwrap() {
            None => "still running".to_owned(),
            Some(status) => status.to_string(),
        };
        let output = self.output().replace('\r', "\n");
        let mut lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
        lines.dedup();
        let tail = lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
        format!("--- {} ({state})\n{}\n", self.name, tail.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both calls fail if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The result of a process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; `None` if a signal ended the process, such as the kill at the deadline.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Finished {
    /// Asserts that the run succeeded and returns its standard output.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }
}

/// Runs `command` until it ends, or kills it at the deadline.
pub(crate) fn run(command: &Command, within: Duration) -> Finished {
    run_with(command, within, Vec::new())
}

/// Runs `command` like [`run`] and passes it these descriptors as 3, 4 and so on.
pub(crate) fn run_with(command: &Command, within: Duration, handed: Vec<OwnedFd>) -> Finished {
    let scratch = Scratch::new();
    let (out, err) = (scratch.join("stdout"), scratch.join("stderr"));
    let start = Instant::now();
    let mut child = spawn(command, File::create(&out).unwrap(), File::create(&err).unwrap(), handed);
    let mut status = None;
    wait_until(within, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let took = start.elapsed();
    let status = status.unwrap_or_else(|| {
        child.kill().unwrap();
        child.wait().unwrap()
    });
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Finished { code: status.code(), stdout: read(&out), stderr: read(&err), took }
}

/// Starts `command` under `setpriv --pdeathsig`, so that a killed test run leaves no process behind.
fn spawn(command: &Command, out: File, err: File, handed: Vec<OwnedFd>) -> Child {
    let mut guarded = Command::new("setpriv");
    guarded.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        guarded.env(key, value.unwrap_or(OsStr::new("")));
    }
    if let Some(folder) = command.get_current_dir() {
        guarded.current_dir(folder);
    }
    let mappings = handed.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    guarded.fd_mappings(mappings.collect()).unwrap();
    guarded
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start setpriv for {command:?}: {error}"))
}
