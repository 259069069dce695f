//! Counts the results of several downloads, and chooses the exit code of all.

use crate::cli::exit::{Exit, Failure};

/// Exit codes of failed downloads; the first that applies is the exit code of all.
const SEVERITY: [Exit; 6] =
    [Exit::Interrupted, Exit::Storage, Exit::Mismatch, Exit::Failed, Exit::Usage, Exit::NoPeers];

/// The result of one download.
#[derive(Debug)]
pub(super) enum Outcome {
    Complete,
    /// The content is complete, but the command of `--on-complete` failed.
    HookFailed(Failure),
    Failed(Failure),
}

impl Outcome {
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Complete => None,
            Self::HookFailed(failure) | Self::Failed(failure) => Some(failure),
        }
    }
}

/// The results of the downloads so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    complete_count: usize,
    /// Failures of commands of `--on-complete`. Their downloads are complete.
    hook_failures: Vec<Failure>,
    failures: Vec<Failure>,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Complete => self.complete_count += 1,
            Outcome::HookFailed(failure) => {
                self.complete_count += 1;
                self.hook_failures.push(failure);
            }
            Outcome::Failed(failure) => self.failures.push(failure),
        }
    }

    /// Returns the result of the only download. Without a result it was interrupted.
    pub(super) fn single(mut self) -> Result<(), Failure> {
        match self.failures.pop().or_else(|| self.hook_failures.pop()) {
            Some(failure) => Err(failure),
            None if self.complete_count > 0 => Ok(()),
            None => Err(Failure::new(Exit::Interrupted, "interrupted before the download was complete")),
        }
    }

    /// Returns the line that sums up `count` downloads. Those without a result were interrupted.
    pub(super) fn sum(&self, count: usize) -> Result<String, Failure> {
        let line = format!("{} of {count} complete", self.complete_count);
        let is_complete = self.complete_count == count;
        if is_complete && self.hook_failures.is_empty() {
            return Ok(line);
        }
        let is_interrupted = self.complete_count + self.failures.len() < count;
        let exits = || self.failures.iter().chain(&self.hook_failures).map(|failure| failure.exit);
        let applies = |exit: &Exit| is_interrupted && *exit == Exit::Interrupted || exits().any(|found| found == *exit);
        let exit = SEVERITY.into_iter().find(applies).unwrap_or(Exit::Failed);
        let line = match exit {
            Exit::Interrupted if is_complete => format!("interrupted: {line}, but not each command of --on-complete"),
            Exit::Interrupted => format!("interrupted: {line}; run the same command to resume"),
            _ if is_complete => format!("{line}, but --on-complete failed for {}", self.hook_failures.len()),
            _ => line,
        };
        Err(Failure::new(exit, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(exits: &[Exit], count: usize) -> Result<String, (Exit, String)> {
        let mut tally = Tally::default();
        for &exit in exits {
            tally.add(match exit {
                Exit::Done => Outcome::Complete,
                exit => Outcome::Failed(Failure::new(exit, "x")),
            });
        }
        tally.sum(count).map_err(|failure| (failure.exit, failure.line))
    }

    #[test]
    fn the_gravest_failure_decides_the_exit_code() {
        use Exit::{Done, Failed, Interrupted, Mismatch, NoPeers, Storage, Usage};
        assert_eq!(sum(&[Done, Done], 2).unwrap(), "2 of 2 complete");
        for (exits, expected) in [
            (&[Done, NoPeers][..], NoPeers),
            (&[NoPeers, Usage], Usage),
            (&[Usage, Failed], Failed),
            (&[Failed, Mismatch], Mismatch),
            (&[Mismatch, Storage, Failed], Storage),
        ] {
            let (exit, line) = sum(exits, exits.len()).unwrap_err();
            assert_eq!(exit, expected, "{exits:?}");
            assert!(line.ends_with("complete"), "{line}");
        }
        let (exit, line) = sum(&[Done, Storage], 3).unwrap_err();
        assert_eq!((exit, &*line), (Interrupted, "interrupted: 1 of 3 complete; run the same command to resume"));
    }
    #[test]
    fn a_failed_hook_leaves_its_download_complete() {
        let sum = |exit, count| {
            let mut tally = Tally::default();
            tally.add(Outcome::Complete);
            tally.add(Outcome::HookFailed(Failure::new(exit, "x")));
            let failure = tally.sum(count).unwrap_err();
            (failure.exit, failure.line)
        };
        let failed = "2 of 2 complete, but --on-complete failed for 1";
        assert_eq!(sum(Exit::Failed, 2), (Exit::Failed, failed.to_owned()));
        let ended = "interrupted: 2 of 2 complete, but not each command of --on-complete";
        assert_eq!(sum(Exit::Interrupted, 2), (Exit::Interrupted, ended.to_owned()));
        let partial = "interrupted: 2 of 3 complete; run the same command to resume";
        assert_eq!(sum(Exit::Failed, 3), (Exit::Interrupted, partial.to_owned()));
        let mut tally = Tally::default();
        tally.add(Outcome::HookFailed(Failure::new(Exit::Failed, "x")));
        assert_eq!(tally.single().unwrap_err().exit, Exit::Failed);
    }
}
