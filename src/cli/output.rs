//! What goes where: results on stdout; progress, messages and errors on stderr; with `--json` one object per line on
//! stdout and nothing else there.
//!
//! Every line passes through [`printable`], so that nothing from outside steers the terminal and a line stays one line.
//! A reader that closes stdout early is no error and never a panic.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::exit::{Failure, exit_of};
use super::options::OutputOptions;
use super::progress::{ContentProgress, TransferProgress};
use super::records::Record;
use crate::base::escape::printable;

/// The program's two streams. Shared by all threads.
#[derive(Debug)]
pub struct Output {
    options: OutputOptions,
    /// Draws nothing unless stderr is a terminal that wants bars.
    bars: MultiProgress,
    /// The first error of stdout; nothing is written there after it.
    stdout_error: Mutex<Option<io::Error>>,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            options: OutputOptions::default(),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            stdout_error: Mutex::default(),
        }
    }
}

impl Output {
    /// Also starts the log of `-v` on stderr.
    pub fn new(options: OutputOptions) -> Self {
        let draws_bars = io::stderr().is_terminal() && !options.quiet && !options.json;
        let target = if draws_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let output = Self { options, bars: MultiProgress::with_draw_target(target), ..Self::default() };
        output.start_log();
        output
    }

    pub fn is_json(&self) -> bool {
        self.options.json
    }

    /// A line of the result; nothing with `--json`.
    pub fn result(&self, line: impl Display) {
        if !self.options.json {
            self.write_stdout(format!("{}\n", printed(line)).as_bytes());
        }
    }

    /// One JSON object of the result; nothing without `--json`.
    pub fn record(&self, record: &impl Serialize) {
        if self.options.json {
            let mut line = serde_json::to_string(record).unwrap_or_default();
            line.push('\n');
            self.write_stdout(line.as_bytes());
        }
    }

    /// Bytes that are the result as they are; here a reader that went away is an error.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::io("cannot write", "standard output", &error))
    }

    /// A line on stderr, unless `-q`.
    pub fn message(&self, line: impl Display) {
        if !self.options.quiet {
            self.write_stderr(&printed(line));
        }
    }

    /// Something the user should know and need not act on; unless `-q`.
    pub fn warning(&self, line: impl Display) {
        self.message(format_args!("bt-fast: warning: {line}"));
    }

    /// The one line of a command that did not succeed, and its record.
    pub fn failure(&self, failure: &Failure) {
        self.record(&Record::Failed { exit: failure.exit as u8, message: &printed(failure) });
        self.write_stderr(&printed(format_args!("bt-fast: {failure}")));
    }

    /// Progress over content of `total` bytes that is read: `phase` is "hashing" or "checking".
    pub fn content_progress(&self, phase: &'static str, total: u64) -> ContentProgress<'_> {
        ContentProgress::new(self, &self.bars, phase, total)
    }

    /// Progress of a transfer: `phase` is "downloading" or "seeding"; `total` is the bytes that complete it, `None` for
    /// one without an end.
    pub fn transfer_progress(&self, phase: &'static str, total: Option<u64>) -> TransferProgress<'_> {
        TransferProgress::new(self, &self.bars, phase, total)
    }

    /// Whether all of the result could be written.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.stdout_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(exit_of(&error), format_args!("cannot write: standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn write_stdout(&self, bytes: &[u8]) {
        let mut stdout_error = self.stdout_error.lock().unwrap_or_else(PoisonError::into_inner);
        if stdout_error.is_none() {
            let write = || {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            };
            *stdout_error = self.bars.suspend(write).err();
        }
    }

    /// Nobody can be told that stderr is gone.
    fn write_stderr(&self, line: &str) {
        let _ = self.bars.suspend(|| writeln!(io::stderr(), "{line}"));
    }

    fn start_log(&self) {
        let level = match self.options.verbosity {
            0 => return,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        let bars = self.bars.clone();
        let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        // Fails only where a log runs already, as in tests.
        let _ = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(colours)
            .with_target(false)
            .with_writer(move || LogWriter { bars: bars.clone() })
            .try_init();
    }
}

/// Log lines that leave the bars whole.
struct LogWriter {
    bars: MultiProgress,
}

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn printed(line: impl Display) -> String {
    printable(line.to_string().as_bytes())
}
