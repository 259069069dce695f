//! The file of `--log`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::exit::{Failure, exit_of};
use crate::base::escape::printable;
use crate::base::limits::LOG_CHECK_INTERVAL;
use crate::base::lock::lock;
use crate::create::open::shown;

/// A file that takes one line with each write, at its end, so that several processes may share it and another program
/// may truncate it. A file that was moved away or removed is created anew.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: Mutex<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    /// When the path was last compared with the file.
    checked_at: Instant,
    /// A failed write has been reported.
    has_failed: bool,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = append_to(path).map_err(|error| {
            let place = shown(path);
            let line = format_args!("can't open the log: {place}: {error}: give another file with --log");
            Failure::new(exit_of(&error), line)
        })?;
        Ok(Self {
            path: path.to_owned(),
            open: Mutex::new(OpenFile { file, checked_at: Instant::now(), has_failed: false }),
        })
    }

    /// Appends a message in the form of the log's own lines.
    pub(super) fn message(&self, level: Level, line: &str) {
        let mut time = String::new();
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        self.append(&format!("{time} {level:>5} {line}"));
    }

    /// Appends a line. A failure is reported once: a full disk does not end the work.
    fn append(&self, line: &str) {
        let mut open = lock(&self.open);
        if open.checked_at.elapsed() >= LOG_CHECK_INTERVAL {
            open.checked_at = Instant::now();
            if is_gone(&self.path, &open.file) {
                match append_to(&self.path) {
                    Ok(file) => open.file = file,
                    Err(error) => self.report(&mut open, &error),
                }
            }
        }
        if let Err(error) = open.file.write_all(format!("{line}\n").as_bytes()) {
            self.report(&mut open, &error);
        }
    }

    fn report(&self, open: &mut OpenFile, error: &io::Error) {
        if !std::mem::replace(&mut open.has_failed, true) {
            // There is no other stream on which a failure of this one could be reported.
            let place = shown(&self.path);
            let _ = writeln!(io::stderr(), "bt-fast: can't write the log: {place}: {error}: lines will be missing");
        }
    }
}

/// Whether the path refers to another file, or to none.
fn is_gone(path: &Path, file: &File) -> bool {
    let Ok(ours) = file.metadata() else { return false };
    path.metadata().map_or(true, |named| (named.dev(), named.ino()) != (ours.dev(), ours.ino()))
}

fn append_to(path: &Path) -> io::Result<File> {
    // A FIFO without a reader is refused instead of waited for.
    OpenOptions::new().append(true).create(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Takes the lines of the log. Each call of `write` must have whole lines.
impl io::Write for &LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(&printable(bytes.trim_ascii_end()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
