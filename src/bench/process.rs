//! A `bt-fast` that runs as a child process, and the records it prints.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use serde_json::Value;

use super::system_calls::SystemCalls;
use super::{BenchError, io_error};
use crate::base::FLAG_VARIABLES;

/// Maximum number of bytes to read from the stderr of a failed process.
const STDERR_LEN_MAX: u64 = 4096;

/// A child process, which is killed on drop.
pub(super) struct Running {
    what: &'static str,
    child: Child,
    records: io::Lines<BufReader<ChildStdout>>,
    system_calls: Option<SystemCalls>,
}

impl Running {
    /// Starts a process. `what` names it in errors; `input` is its standard input.
    pub(super) fn start(
        what: &'static str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        input: &[u8],
    ) -> Result<Self, BenchError> {
        let mut command = Command::new(own_program()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The process must have the flags of the measurement only.
        for (flag, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(FLAG_VARIABLES.as_bytes()))
        {
            command.env_remove(flag);
        }
        command.env("BT_FAST_CONFIG", "/dev/null");
        // The counter counts all later children of the thread, so the thread must not start others.
        let started = thread::scope(|scope| scope.spawn(move || (SystemCalls::of_children(), command.spawn())).join());
        let Ok((system_calls, child)) = started else {
            return Err(BenchError::Ended { side: what, line: "could not be started".into() });
        };
        let mut child = child.map_err(io_error("start this program"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A process that has ended reports the reason on stderr.
            let _ = stdin.write_all(input);
        }
        let Some(stdout) = child.stdout.take() else {
            return Err(BenchError::Ended { side: what, line: "no output".into() });
        };
        Ok(Self { what, child, records: BufReader::new(stdout).lines(), system_calls })
    }

    /// Waits for the next record of `event`, and passes the records before it to `other`.
    pub(super) fn wait_for(&mut self, event: &str, other: &mut dyn FnMut(&Value)) -> Result<Value, BenchError> {
        for line in &mut self.records {
            let record = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()).unwrap_or_default();
            if record.get("event").and_then(Value::as_str) == Some(event) {
                return Ok(record);
            }
            other(&record);
        }
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.as_mut() {
            let _ = stderr.take(STDERR_LEN_MAX).read_to_string(&mut text);
        }
        Err(BenchError::Ended { side: self.what, line: text.lines().last().unwrap_or_default().to_owned() })
    }

    pub(super) fn wait(&mut self) -> Result<(), BenchError> {
        self.child.wait().map(|_| ()).map_err(io_error("wait for a process"))
    }

    /// Returns the number of system calls so far, if they can be counted.
    pub(super) fn system_calls(&mut self) -> Option<u64> {
        self.system_calls.as_mut()?.count()
    }

    /// Ends the process with SIGTERM, and returns its last record, which must be of `event`.
    pub(super) fn stop(&mut self, event: &str) -> Result<Value, BenchError> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| BenchError::Io { what: "stop a process", error: error.into() })?;
        let last = self.wait_for(event, &mut |_| ());
        self.wait()?;
        last
    }
}

/// Returns the path of this program. Without `/proc` it is the path that the kernel was given to start it.
fn own_program() -> Result<PathBuf, BenchError> {
    if let Ok(path) = std::env::current_exe() {
        return Ok(path);
    }
    let path = PathBuf::from(OsStr::from_bytes(rustix::param::linux_execfn().to_bytes()));
    if path.is_file() { Ok(path) } else { Err(BenchError::NoProgram) }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Fails if the process has ended meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
