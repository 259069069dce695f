//! Turns signals that end a process into a flag, SIGHUP on request into another one, and SIGXFSZ into a write error.

use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;

use super::exit::{Exit, Failure};

/// Signals that end the process by default. Signals of faults in the program keep their default action, and a closed
/// pipe (SIGPIPE) is an error of the write.
const ENDS: [c_int; 9] = [SIGHUP, SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF, SIGIO, SIGXCPU];

/// The meaning of SIGHUP for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// The terminal was closed: the command ends as with Ctrl-C. If the signal is ignored at the start, as with
    /// `nohup`, it stays ignored.
    Ends,
    /// Files are to be read again, see [`reload_flag`].
    Reloads,
}

/// Returns a flag that the first signal sets. A second signal ends the process at once with exit code 130.
pub fn flag(hangup: Hangup) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals();
    let is_ours = |&signal: &c_int| !is_ignored(ignored, signal) && (signal != SIGHUP || hangup == Hangup::Ends);
    // Shells start background commands with SIGINT ignored, but scripts still send it: SIGINT and SIGTERM are always
    // watched.
    for signal in [SIGINT, SIGTERM].into_iter().chain(ENDS.into_iter().filter(is_ours)) {
        // The order matters: the first signal must find the flag unset before it is set. SIGXCPU never ends the process
        // at once, because the kernel repeats it every second.
        let at_once = if signal == SIGXCPU {
            Ok(())
        } else {
            flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, Arc::clone(&interrupted)).map(drop)
        };
        at_once
            .and_then(|()| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|error| Failure::io("can't watch for signals", "sigaction", &error))?;
    }
    // With any handler for SIGXFSZ, the write beyond the limit fails with EFBIG.
    flag::register(SIGXFSZ, Arc::default())
        .map_err(|error| Failure::io("can't watch for signals", "sigaction", &error))?;
    Ok(interrupted)
}

/// Returns a flag that each SIGHUP sets: files are to be read again.
pub fn reload_flag() -> Result<Arc<AtomicBool>, Failure> {
    let reload = Arc::new(AtomicBool::new(false));
    flag::register(SIGHUP, Arc::clone(&reload))
        .map_err(|error| Failure::io("can't watch for signals", "sigaction", &error))?;
    Ok(reload)
}

/// Returns the kernel's mask of the signals that this process ignores, or 0 if it cannot be read.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status).unwrap_or(0)
}

fn parse_ignored(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn is_ignored(mask: u64, signal: c_int) -> bool {
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernel() {
        let mask = parse_ignored("Name:\tbt-fast\nSigIgn:\t0000000000001001\nSigCgt:\t00000001800004e0\n").unwrap();
        assert!(is_ignored(mask, SIGHUP) && !is_ignored(mask, SIGINT) && is_ignored(mask, 13));
        assert_eq!(parse_ignored("SigCgt:\t1\n"), None);
        assert_eq!(parse_ignored("SigIgn:\tx\n"), None);
    }
}
