//! Output streams: results on stdout; progress, messages and errors on stderr. With `--json`, stdout has one object per
//! line and nothing else.
//!
//! Every line passes through [`printable`], so that text from outside cannot steer the terminal or break a line.
//! A reader that closes stdout early causes neither an error nor a panic.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::exit::{Failure, exit_of};
use super::options::OutputOptions;
use super::records::Record;
use crate::base::escape::printable;
use crate::base::lock::lock;

/// The program's two output streams, shared by all threads.
#[derive(Debug)]
pub struct Output {
    options: OutputOptions,
    /// Draws nothing unless stderr is a terminal and neither `-q` nor `--json` is given.
    bars: MultiProgress,
    /// The first error of stdout. Nothing is written to stdout after it.
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
    /// Creates an output without progress bars and log, for use before the options are known.
    pub fn without_log(options: OutputOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Creates the output and starts the log on stderr.
    pub fn new(options: OutputOptions) -> Self {
        let draws_bars = io::stderr().is_terminal() && !options.quiet && !options.json;
        let target = if draws_bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let output = Self { options, bars: MultiProgress::with_draw_target(target), ..Self::default() };
        output.start_log();
        output
    }

    /// Minimum time between two progress records.
    pub(super) fn record_interval(&self) -> Duration {
        self.options.record_interval
    }

    pub fn is_json(&self) -> bool {
        self.options.json
    }

    /// Prints a line of the result, unless `--json` is given.
    pub fn result(&self, line: impl Display) {
        if !self.options.json {
            self.write_stdout(format!("{}\n", printed(line)).as_bytes());
        }
    }

    /// Prints one JSON object of the result if `--json` is given.
    pub fn record(&self, record: &impl Serialize) {
        if self.options.json {
            let mut line = serde_json::to_string(record).unwrap_or_default();
            line.push('\n');
            self.write_stdout(line.as_bytes());
        }
    }

    /// Writes the bytes of a result that is a file. A reader that closes stdout early is an error in this case.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written.map_err(|error| Failure::io("can't write", "standard output", &error))
    }

    /// Prints a line on stderr, unless `-q` is given.
    pub fn message(&self, line: impl Display) {
        if !self.options.quiet {
            self.write_stderr(&printed(line));
        }
    }

    /// Prints a warning on stderr, unless `-q` is given.
    pub fn warning(&self, line: impl Display) {
        self.message(format_args!("bt-fast: warning: {line}"));
    }

    /// Prints an error that does not end the command.
    pub fn error(&self, line: impl Display) {
        self.write_stderr(&printed(format_args!("bt-fast: {line}")));
    }

    /// Prints the error that ends the command, as one line and as a record.
    pub fn failure(&self, failure: &Failure) {
        self.record(&Record::Failed { exit: failure.exit as u8, message: &printed(failure) });
        self.write_stderr(&printed(format_args!("bt-fast: {failure}")));
    }

    /// The progress bars, which are drawn on stderr.
    pub(super) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Fails if the result could not be written, unless the reader closed stdout.
    pub fn finish(&self) -> Result<(), Failure> {
        match lock(&self.stdout_error).take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(exit_of(&error), format_args!("can't write: standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn write_stdout(&self, bytes: &[u8]) {
        let mut stdout_error = lock(&self.stdout_error);
        if stdout_error.is_none() {
            let write = || {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            };
            *stdout_error = self.bars.suspend(write).err();
        }
    }

    /// Ignores errors: there is no other stream to report them on.
    fn write_stderr(&self, line: &str) {
        let _ = self.bars.suspend(|| writeln!(io::stderr(), "{line}"));
    }

    /// Starts the log. Without `-v` it has warnings in the form of [`Self::warning`]; with `-v` its lines have time and
    /// level.
    fn start_log(&self) {
        let OutputOptions { quiet, verbosity, .. } = self.options;
        if quiet {
            return;
        }
        let writer =
            LogWriter { bars: self.bars.clone(), prefix: if verbosity == 0 { "bt-fast: warning: " } else { "" } };
        // `tracing` would report a failed write on standard error, which fails as well and panics.
        let log =
            tracing_subscriber::fmt().with_target(false).log_internal_errors(false).with_writer(move || writer.clone());
        // Fails only if a log is running already, as in tests.
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

/// Writes log lines between redraws of the progress bars. Each call of `write` must have whole lines.
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
