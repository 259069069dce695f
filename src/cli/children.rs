//! The child processes of this program, and as PID 1 of a container the orphans that the kernel gives to it.
//!
//! Owns every wait for a child: a wait for any child would otherwise take the exit status of the `--on-complete` command.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, wait, waitpid};
use signal_hook::consts::SIGCHLD;

use crate::base::lock::lock;
use crate::io::{StartError, start_thread};

/// Interval at which PID 1 reaps orphans.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// The children that are waited for, each with its exit status once it has ended.
static CHILDREN: Mutex<Children> = Mutex::new(BTreeMap::new());

/// By process id.
type Children = BTreeMap<i32, Option<ExitStatus>>;

/// A process that this program has started. It must be waited for with [`Self::try_wait`].
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    ended: Option<ExitStatus>,
}

impl Child {
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        keep_exit_statuses();
        // Under the lock, as the standard library waits for a child that could not run the command.
        let mut children = lock(&CHILDREN);
        let pid = Pid::from_child(&command.spawn()?);
        children.insert(pid.as_raw_nonzero().get(), None);
        Ok(Self { pid, ended: None })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the exit status of the process if it has ended.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut children = lock(&CHILDREN);
        if is_init() {
            reap(&mut children);
        } else if self.ended.is_none()
            && let Some((pid, status)) = waitpid(Some(self.pid), WaitOptions::NOHANG)?
        {
            children.insert(pid.as_raw_nonzero().get(), Some(exit_status(status)));
        }
        if let Some(&Some(ended)) = children.get(&self.pid.as_raw_nonzero().get()) {
            children.remove(&self.pid.as_raw_nonzero().get());
            self.ended = Some(ended);
        }
        Ok(self.ended)
    }
}

/// Makes the kernel keep exit statuses even where the parent of this process ignores SIGCHLD. An error leaves the signal
/// as it was.
fn keep_exit_statuses() {
    static DONE: Once = Once::new();
    // The flag that the handler sets is not read.
    DONE.call_once(|| _ = signal_hook::flag::register(SIGCHLD, Arc::default()));
}

/// Starts to reap orphans if this process is the first one of its container: no other process does.
pub(super) fn reap_orphans() -> Result<(), StartError> {
    if !is_init() {
        return Ok(());
    }
    let reap_forever = || {
        loop {
            reap(&mut lock(&CHILDREN));
            thread::sleep(REAP_INTERVAL);
        }
    };
    start_thread("reaper", reap_forever).map(drop)
}

/// Returns whether this process is PID 1 of its namespace, which inherits orphans.
fn is_init() -> bool {
    getpid() == Pid::INIT
}

/// Waits for all children that have ended, and keeps the status of those that this program has started.
fn reap(children: &mut Children) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if let Some(ended) = children.get_mut(&pid.as_raw_nonzero().get()) {
            *ended = Some(exit_status(status));
        }
    }
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    ExitStatus::from_raw(status.as_raw())
}
