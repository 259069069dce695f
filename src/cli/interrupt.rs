//! Ctrl-C and SIGTERM as a flag, SIGHUP as another one; a file-size limit as an error instead of an end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use super::exit::{Exit, Failure};

/// A flag that the first Ctrl-C or SIGTERM sets; the second one ends the process at once with exit code 130.
pub fn flag() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset, sets it, and only the next one finds it set.
        flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, Arc::clone(&interrupted))
            .and_then(|_| flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|error| Failure::io("cannot watch for signals", "sigaction", &error))?;
    }
    // Handled at all, the write that went too far fails with EFBIG.
    flag::register(SIGXFSZ, Arc::default())
        .map_err(|error| Failure::io("cannot watch for signals", "sigaction", &error))?;
    Ok(interrupted)
}

/// A flag that each SIGHUP sets: what was read from files is to be read anew.
pub fn reload_flag() -> Result<Arc<AtomicBool>, Failure> {
    let reload = Arc::new(AtomicBool::new(false));
    flag::register(SIGHUP, Arc::clone(&reload))
        .map_err(|error| Failure::io("cannot watch for signals", "sigaction", &error))?;
    Ok(reload)
}
