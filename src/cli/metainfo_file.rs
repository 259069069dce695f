//! Reads a `.torrent` from disk or standard input. On disk anything but a regular file is refused, and in any case
//! anything that is too long.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::exit::{Exit, Failure, exit_of};
use super::options::usage;
use super::output::Output;
use crate::base::escape::printable;
use crate::base::limits::{METAINFO_LEN_MAX, PATH_ELEMENT_LEN_MAX};
use crate::base::units::Bytes;
use crate::codec::metainfo::{Metainfo, MetainfoLimits, Mistaken};
use crate::create::open::{open_regular, shown};

/// Bytes per read of standard input.
const STDIN_READ_LEN: usize = 64 << 10;
/// Interval at which the stop flag is checked while standard input has nothing to read.
const STDIN_POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why a file could not be read as a `.torrent`.
#[derive(Debug, thiserror::Error)]
pub enum MetainfoFileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is a broken symbolic link: give a .torrent file")]
    DeadLink,
    #[error("it is a folder: give a .torrent file; 'bt-fast create' makes one from a folder")]
    Folder,
    #[error(transparent)]
    Mistaken(#[from] Mistaken),
    #[error("longer than {}, the limit for a .torrent", Bytes(METAINFO_LEN_MAX))]
    TooLong,
}

/// Reads the bytes of a `.torrent`: a regular file, not empty, of at most [`METAINFO_LEN_MAX`]. Never blocks on a FIFO,
/// never reads a device, and stops at the limit even if the file grows meanwhile.
pub fn read_metainfo_file(path: &Path) -> Result<Vec<u8>, MetainfoFileError> {
    let (file, metadata) = match open_regular(path) {
        Err(_) if path.is_dir() => return Err(MetainfoFileError::Folder),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            return Err(MetainfoFileError::DeadLink);
        }
        opened => opened?,
    };
    if metadata.len() > METAINFO_LEN_MAX {
        return Err(MetainfoFileError::TooLong);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(METAINFO_LEN_MAX + 1).read_to_end(&mut bytes)?;
    check_len(bytes)
}

fn check_len(bytes: Vec<u8>) -> Result<Vec<u8>, MetainfoFileError> {
    match bytes.len() as u64 {
        0 => Err(Mistaken::Empty.into()),
        len if len > METAINFO_LEN_MAX => Err(MetainfoFileError::TooLong),
        _ => Ok(bytes),
    }
}

/// Reads a `.torrent` from standard input to its end, or until `stop` is set.
pub(super) fn read_metainfo_stdin(stop: &AtomicBool) -> Result<Vec<u8>, Failure> {
    let unread = |error| Failure::new(Exit::Failed, format_args!("can't read torrent: standard input: {error}"));
    let mut stdin = io::stdin().lock();
    let mut bytes = Vec::new();
    let mut chunk = vec![0; STDIN_READ_LEN];
    while bytes.len() as u64 <= METAINFO_LEN_MAX {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::new(Exit::Interrupted, "interrupted before the torrent was read"));
        }
        let mut readable = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut readable, Some(&STDIN_POLL)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(unread(MetainfoFileError::Io(error.into()))),
        }
        match stdin.read(&mut chunk).map_err(|error| unread(error.into()))? {
            0 => break,
            len => bytes.extend_from_slice(chunk.get(..len).unwrap_or_default()),
        }
    }
    check_len(bytes).map_err(unread)
}

/// Returns the default of `-o`: `NAME.torrent` in the current folder.
pub(super) fn default_output(name: &[u8]) -> Result<PathBuf, Failure> {
    let file = [name, b".torrent"].concat();
    if file.len() > PATH_ELEMENT_LEN_MAX {
        let name = printable(name);
        return Err(usage(format_args!(
            "the name is too long for a file NAME.torrent: {name}: give a file name with -o"
        )));
    }
    Ok(OsString::from_vec(file).into())
}

/// Reads and decodes a `.torrent`, and shows its warnings.
pub fn load_metainfo(path: &Path, limits: &MetainfoLimits, output: &Output) -> Result<Metainfo, Failure> {
    decode_torrent(path, &read_torrent(path)?, limits, output)
}

/// [`read_metainfo_file`] for a path of the command line.
pub(super) fn read_torrent(path: &Path) -> Result<Vec<u8>, Failure> {
    read_metainfo_file(path).map_err(|error| {
        let exit = match &error {
            MetainfoFileError::Io(error) => exit_of(error),
            _ => Exit::Failed,
        };
        Failure::new(exit, format_args!("can't read torrent: {}: {error}", shown(path)))
    })
}

/// Decodes the bytes of the `.torrent` at `path`, and shows its warnings.
pub(super) fn decode_torrent(
    path: &Path,
    bytes: &[u8],
    limits: &MetainfoLimits,
    output: &Output,
) -> Result<Metainfo, Failure> {
    let metainfo = Metainfo::decode(bytes, limits)
        .map_err(|error| Failure::new(Exit::Failed, format_args!("bad torrent: {}: {error}", shown(path))))?;
    for warning in &metainfo.warnings {
        output.warning(format_args!("{}: {warning}", shown(path)));
    }
    Ok(metainfo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    fn refusal(path: &Path) -> String {
        read_metainfo_file(path).unwrap_err().to_string()
    }

    #[test]
    fn only_a_regular_file_within_the_limit_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        fs::write(&path, b"de").unwrap();
        assert_eq!(read_metainfo_file(&path).unwrap(), b"de");
        fs::write(&path, b"").unwrap();
        assert!(refusal(&path).contains("empty"));
        File::create(&path).unwrap().set_len(METAINFO_LEN_MAX + 1).unwrap();
        assert!(refusal(&path).contains("64 MiB"));
        assert!(refusal(dir.path()).contains("folder"));
        let dead = dir.path().join("dead");
        std::os::unix::fs::symlink("nowhere", &dead).unwrap();
        assert!(refusal(&dead).contains("broken symbolic link"));
        assert!(refusal(Path::new("/dev/zero")).contains("device"));
        assert!(default_output(&[b'x'; 247]).is_ok());
        let too_long = default_output(&[b'x'; 248]).unwrap_err();
        assert!(too_long.line.contains("-o") && too_long.exit == Exit::Usage);
        assert!(refusal(&dir.path().join("none")).contains("No such file"));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(refusal(&fifo).contains("FIFO"));
    }
}
