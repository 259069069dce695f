//! Signals that end a process as a flag, SIGHUP also as another one; a file-size limit as an error instead of an end.

use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;

use super::exit::{Exit, Failure};

/// Signals that would else end the process on the spot. Those of faults in the program itself are left alone, and a
/// closed pipe (SIGPIPE) is an error of its write.
const ENDS: [c_int; 9] = [SIGHUP, SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF, SIGIO, SIGXCPU];

/// What SIGHUP means to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// The terminal is gone: it ends as by Ctrl-C. Ignored from the start, as `nohup` has it, it stays ignored.
    Ends,
    /// Files are read anew, see [`reload_flag`].
    Reloads,
}

/// A flag that the first signal to end sets; the second one ends the process at once with exit code 130.
pub fn flag(hangup: Hangup) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let ignored = ignored_signals();
    let is_ours = |&signal: &c_int| !is_ignored(ignored, signal) && (signal != SIGHUP || hangup == Hangup::Ends);
    // Shells start commands in the background with SIGINT ignored, and scripts send it all the same.
    for signal in [SIGINT, SIGTERM].into_iter().chain(ENDS.into_iter().filter(is_ours)) {
        // In this order: the first signal finds the flag unset, sets it, and only the next one finds it set. The kernel
        // sends SIGXCPU every second.
        let at_once = if signal == SIGXCPU {
            Ok(())
        } else {
            flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, Arc::clone(&interrupted)).map(drop)
        };
        at_once
            .and_then(|()| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|error| Failure::io("can't watch for signals", "sigaction", &error))?;
    }
    // Handled at all, the write that went too far fails with EFBIG.
    flag::register(SIGXFSZ, Arc::default())
        .map_err(|error| Failure::io("can't watch for signals", "sigaction", &error))?;
    Ok(interrupted)
}

/// A flag that each SIGHUP sets: what was read from files is to be read anew.
pub fn reload_flag() -> Result<Arc<AtomicBool>, Failure> {
    let reload = Arc::new(AtomicBool::new(false));
    flag::register(SIGHUP, Arc::clone(&reload))
        .map_err(|error| Failure::io("can't watch for signals", "sigaction", &error))?;
    Ok(reload)
}

/// The signals that were ignored when the process started, as a mask of the kernel's; where that is not told, none.
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
    fn ignored_signals_are_read_from_the_kernels_mask() {
        let mask = parse_ignored("Name:\tbt-fast\nSigIgn:\t0000000000001001\nSigCgt:\t00000001800004e0\n").unwrap();
        assert!(is_ignored(mask, SIGHUP) && !is_ignored(mask, SIGINT) && is_ignored(mask, 13));
        assert_eq!(parse_ignored("SigCgt:\t1\n"), None);
        assert_eq!(parse_ignored("SigIgn:\tx\n"), None);
    }
}
