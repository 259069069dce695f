//! Counts the results of several downloads, and chooses the exit code of all.

use crate::cli::exit::{Exit, Failure};

/// Exit codes of failed downloads; the first that applies is the exit code of all.
const SEVERITY: [Exit; 6] =
    [Exit::Interrupted, Exit::Storage, Exit::Mismatch, Exit::Failed, Exit::Usage, Exit::NoPeers];

/// The results of the downloads so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    complete_count: usize,
    failures: Vec<Failure>,
}

impl Tally {
    pub(super) fn add(&mut self, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.complete_count += 1,
            Err(failure) => self.failures.push(failure),
        }
    }

    /// Returns the result of the only download. Without a result it was interrupted.
    pub(super) fn single(mut self) -> Result<(), Failure> {
        match self.failures.pop() {
            Some(failure) => Err(failure),
            None if self.complete_count > 0 => Ok(()),
            None => Err(Failure::new(Exit::Interrupted, "interrupted before the download was complete")),
        }
    }

    /// Returns the line that sums up `count` downloads. Those without a result were interrupted.
    pub(super) fn sum(&self, count: usize) -> Result<String, Failure> {
        let line = format!("{} of {count} complete", self.complete_count);
        if self.complete_count == count {
            return Ok(line);
        }
        let is_interrupted = self.complete_count + self.failures.len() < count;
        let exits = || self.failures.iter().map(|failure| failure.exit);
        let applies = |exit: &Exit| is_interrupted && *exit == Exit::Interrupted || exits().any(|found| found == *exit);
        let exit = SEVERITY.into_iter().find(applies).unwrap_or(Exit::Failed);
        let line = match exit {
            Exit::Interrupted => format!("interrupted: {line}; run the same command to resume"),
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
            tally.add(if exit == Exit::Done { Ok(()) } else { Err(Failure::new(exit, "x")) });
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
}
