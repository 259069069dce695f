//! What goes where: results on stdout; progress, messages and errors on stderr; with `--json` one object per line on
//! stdout and nothing else there.
//!
//! Every line passes through [`printable`], so that nothing from outside steers the terminal and a line stays one line.
//! A reader that closes stdout early is no error and never a panic.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::exit::{Failure, exit_of};
use super::options::OutputOptions;
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
    /// For lines from before the options are known: no bars, no log.
    pub fn without_log(options: OutputOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Also starts the log on stderr.
    pub fn new(options: OutputOptions) -> Self {
        let draws_bars = io::stderr().is_terminal() && !options.quiet && !options.json;
        let target = if draws_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let output = Self { options, bars: MultiProgress::with_draw_target(target), ..Self::default() };
        output.start_log();
        output
    }

    /// Least time between two progress records.
    pub(super) fn record_interval(&self) -> Duration {
        self.options.record_interval
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
        written.map_err(|error| Failure::io("can't write", "standard output", &error))
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

    /// A line on stderr of an error that does not end the command.
    pub fn error(&self, line: impl Display) {
        self.write_stderr(&printed(format_args!("bt-fast: {line}")));
    }

    /// The one line of a command that did not succeed, and its record.
    pub fn failure(&self, failure: &Failure) {
        self.record(&Record::Failed { exit: failure.exit as u8, message: &printed(failure) });
        self.write_stderr(&printed(format_args!("bt-fast: {failure}")));
    }

    /// Where progress bars are drawn.
    pub(super) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Whether all of the result could be written.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.stdout_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(exit_of(&error), format_args!("can't write: standard output: {error}")))
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

    /// Warnings look like those of [`Self::warning`]; with `-v` there is more, with time and level.
    fn start_log(&self) {
        let OutputOptions { quiet, verbosity, .. } = self.options;
        if quiet {
            return;
        }
        let writer =
            LogWriter { bars: self.bars.clone(), prefix: if verbosity == 0 { "bt-fast: warning: " } else { "" } };
        // A line that can't be written is lost: to report that on standard error would fail, too, and panic.
        let log =
            tracing_subscriber::fmt().with_target(false).log_internal_errors(false).with_writer(move || writer.clone());
        // Fails only where a log runs already, as in tests.
        let _ = if verbosity == 0 {
            log.with_max_level(LevelFilter::WARN).without_time().with_level(false).with_ansi(false).try_init()
        } else {
            let levels = [LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE];
            let level = levels.get(usize::from(verbosity) - 1).copied().unwrap_or(LevelFilter::TRACE);
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            log.with_max_level(level).with_ansi(io::stderr().is_terminal() && !no_color).try_init()
        };
    }
}

/// Log lines that leave the bars whole. A line comes in one piece.
#[derive(Clone)]
struct LogWriter {
    bars: MultiProgress,
    prefix: &'static str,
}

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = [self.prefix.as_bytes(), bytes].concat();
        self.bars.suspend(|| io::stderr().write_all(&line))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn printed(line: impl Display) -> String {
    printable(line.to_string().as_bytes())
}
