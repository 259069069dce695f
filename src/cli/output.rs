//! Output streams: results on stdout; progress, messages and errors on stderr. With `--json`, stdout has one object per
//! line and nothing else.
//!
//! Every line passes through [`printed`], so that text from outside cannot steer the terminal or break a line.
//! A reader that closes stdout early causes neither an error nor a panic.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::exit::{Failure, exit_of};
use super::log_file::LogFile;
use super::options::OutputOptions;
use super::records::Record;
use crate::base::escape::printed;
use crate::base::limits::REDRAW_INTERVAL;
use crate::base::lock::lock;

/// The form in which long work reports its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgressForm {
    Nothing,
    /// One line of the terminal, which is redrawn.
    Redrawn,
    /// A line on stderr in each interval.
    Lines(Duration),
    /// A record on stdout in each interval.
    Records(Duration),
}

impl ProgressForm {
    fn new(options: &OutputOptions) -> Self {
        let OutputOptions { quiet, json, progress_interval, record_interval, .. } = *options;
        if json {
            Self::Records(record_interval)
        } else if quiet {
            Self::Nothing
        } else if understands_escapes() {
            Self::Redrawn
        } else if progress_interval.is_zero() {
            Self::Nothing
        } else {
            Self::Lines(progress_interval)
        }
    }

    /// Returns the time between two reports; `None` if there are none.
    pub(super) fn interval(self) -> Option<Duration> {
        match self {
            Self::Nothing => None,
            Self::Redrawn => Some(REDRAW_INTERVAL),
            Self::Lines(interval) | Self::Records(interval) => Some(interval),
        }
    }
}

/// The program's two output streams, shared by all threads.
#[derive(Debug)]
pub struct Output {
    options: OutputOptions,
    progress_form: ProgressForm,
    /// Draws nothing unless the progress line is redrawn.
    bars: MultiProgress,
    log: Option<Arc<LogFile>>,
    /// The first error of stdout. Nothing is written to stdout after it.
    stdout_error: Mutex<Option<io::Error>>,
}

impl Output {
    /// Creates an output without progress and log, for use before the options are known.
    pub fn without_log(options: OutputOptions) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self { options, progress_form: ProgressForm::Nothing, bars, log: None, stdout_error: Mutex::default() }
    }

    /// Creates the output, and starts the log on stderr and in the file of `--log`.
    pub fn new(options: OutputOptions) -> Result<Self, Failure> {
        let progress_form = ProgressForm::new(&options);
        let is_drawn = progress_form == ProgressForm::Redrawn;
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let log = options.log.as_deref().map(LogFile::open).transpose()?.map(Arc::new);
        let bars = MultiProgress::with_draw_target(target);
        let output = Self { progress_form, bars, log, ..Self::without_log(options) };
        output.start_log();
        Ok(output)
    }

    pub(super) fn progress_form(&self) -> ProgressForm {
        self.progress_form
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.options.quiet
    }

    pub fn is_json(&self) -> bool {
        self.options.json
    }

    /// Returns whether `-v` is given.
    pub(super) fn is_verbose(&self) -> bool {
        self.options.verbosity > 0
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

    /// Prints a line on stderr, unless `-q` is given, and logs it.
    pub fn message(&self, line: impl Display) {
        self.tell(Level::INFO, &printed(line));
    }

    /// Prints a warning on stderr, unless `-q` is given, and logs it.
    pub fn warning(&self, line: impl Display) {
        self.tell(Level::WARN, &printed(format_args!("bt-fast: warning: {line}")));
    }

    fn tell(&self, level: Level, line: &str) {
        self.log(level, line);
        if !self.options.quiet {
            self.write_stderr(line);
        }
    }

    /// Prints a progress line on stderr.
    pub(super) fn progress_line(&self, line: &str) {
        self.write_stderr(line);
    }

    /// Prints an error that does not end the command, and logs it.
    pub fn error(&self, line: impl Display) {
        let line = printed(format_args!("bt-fast: {line}"));
        self.log(Level::ERROR, &line);
        self.write_stderr(&line);
    }

    /// Prints the error that ends the command, as one line and as a record, and logs it.
    pub fn failure(&self, failure: &Failure) {
        self.record(&Record::Failed { exit: failure.exit as u8, message: &printed(failure) });
        self.error(failure);
    }

    fn log(&self, level: Level, line: &str) {
        if let Some(log) = &self.log {
            log.message(level, line);
        }
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

    /// Starts the log. Without `-v`, stderr has warnings in the form of [`Self::warning`]; with `-v` its lines have time
    /// and level. The file of `--log` has at least the lines of `-v`.
    fn start_log(&self) {
        let OutputOptions { quiet, verbosity, .. } = self.options;
        let to_stderr = (!quiet).then(|| {
            let prefix = if verbosity == 0 { "bt-fast: warning: " } else { "" };
            let writer = LogWriter { bars: self.bars.clone(), prefix };
            // `tracing` would report a failed write on standard error, which fails as well and panics.
            let layer = tracing_subscriber::fmt::layer().with_target(false).log_internal_errors(false);
            let layer = layer.with_writer(move || writer.clone());
            if verbosity == 0 {
                layer.without_time().with_level(false).with_ansi(false).with_filter(LevelFilter::WARN).boxed()
            } else {
                let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let layer = layer.with_ansi(understands_escapes() && !no_color);
                layer.with_filter(level_filter(verbosity)).boxed()
            }
        });
        let to_file = self.log.clone().map(|file| {
            let layer = tracing_subscriber::fmt::layer().with_target(false).log_internal_errors(false);
            layer.with_ansi(false).with_writer(file).with_filter(level_filter(verbosity))
        });
        // Fails only if a log is running already, as in tests.
        let _ = tracing_subscriber::registry().with(to_stderr).with(to_file).try_init();
    }
}

/// Whether stderr is a terminal that can redraw a line and show colours.
fn understands_escapes() -> bool {
    let term = std::env::var_os("TERM").unwrap_or_default();
    io::stderr().is_terminal() && !term.is_empty() && term != "dumb"
}

/// Returns the level of this number of `-v`, at least that of one.
fn level_filter(verbosity: u8) -> LevelFilter {
    match verbosity {
        0 | 1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
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
