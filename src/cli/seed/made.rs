//! Torrents of content that has none: made once, and found again as long as the content is the same.

use std::path::{Path, PathBuf};

use super::Trust;
use super::intake::Surroundings;
use crate::base::escape::printable;
use crate::base::units::Bytes;
use crate::cli::checks::{self, Check};
use crate::cli::exit::{Exit, Failure};
use crate::cli::metainfo_file::read_metainfo_file;
use crate::cli::options::folder_of;
use crate::cli::progress::ContentProgress;
use crate::codec::metainfo::{Metainfo, MetainfoLimits};
use crate::create::open::shown;
use crate::create::write::write_atomically;
use crate::create::{Control, Plan, Settings};
use crate::hash::sha1;

/// A torrent of content that is here.
pub(super) struct Made {
    pub(super) metainfo: Metainfo,
    /// Holds the torrent's name.
    pub(super) folder: PathBuf,
    pub(super) trust: Trust,
}

/// Content as it lies at a path.
pub(super) enum Content {
    /// It was hashed before, and no file has changed since.
    Known(Box<Made>),
    Unhashed(Box<Unhashed>),
}

/// Content whose torrent is still to be made.
pub(super) struct Unhashed {
    path: PathBuf,
    plan: Plan,
    folder: PathBuf,
    check: Check,
}

/// Looks at names and time stamps of the content at `path`; nothing is read.
pub(super) fn find(path: &Path, limits: &MetainfoLimits) -> Result<Content, Failure> {
    let plan = Plan::new(path, &Settings::default(), None)?;
    let folder = folder_of_content(path, &plan)?;
    let check = Check::begin();
    let content = plan.observation();
    if let Some(metainfo) = place(path).and_then(|place| read_metainfo_file(&place).ok())
        && let Ok(metainfo) = Metainfo::decode(&metainfo, limits)
        && is_of(&metainfo, &plan)
        && let Some(date) = check.recall(metainfo.info_hash, &content)
    {
        let files = content.by_file(&metainfo.info);
        return Ok(Content::Known(Box::new(Made { metainfo, folder, trust: Trust::Remembered { date, files } })));
    }
    Ok(Content::Unhashed(Box::new(Unhashed { path: path.to_owned(), plan, folder, check })))
}

impl Content {
    /// The torrent; hashes the content unless it is known.
    pub(super) fn hash(self, limits: &MetainfoLimits, around: &Surroundings<'_>) -> Result<Made, Failure> {
        match self {
            Self::Known(made) => Ok(*made),
            Self::Unhashed(content) => content.hash(limits, around),
        }
    }
}

impl Unhashed {
    /// The torrent is remembered, so that a start that is interrupted later begins with what follows.
    fn hash(self, limits: &MetainfoLimits, around: &Surroundings<'_>) -> Result<Made, Failure> {
        let Self { path, plan, folder, check } = self;
        let (settings, total_len) = (Settings::default(), plan.scan.total_len);
        let name = printable(&plan.name);
        around.output.message(format_args!("hashing {name} ({}) before it is served", Bytes(total_len)));
        let progress = ContentProgress::new(around.output, "hashing", total_len);
        let pending = around.pending.begin(name, total_len);
        let control = Control {
            cancel: around.stop,
            progress: &|done| {
                pending.advance(done);
                progress.update(done);
            },
        };
        let content = plan.observation();
        let mut journal = check.journal(&content, &plan.geometry);
        let created = plan.build_with(&settings, &mut journal, control)?;
        drop((progress, pending));
        check.remember(created.info_hash, &content);
        if let Some(Err(error)) = place(&path).map(|place| keep(&place, &created.bytes)) {
            tracing::info!("the torrent is not remembered: {error}");
        }
        journal.remove();
        let metainfo = Metainfo::decode(&created.bytes, limits)
            .map_err(|error| Failure::new(Exit::Failed, format_args!("bad torrent: {error}")))?;
        let files = check.settled(content.by_file(&metainfo.info));
        Ok(Made { metainfo, folder, trust: Trust::Checked { files } })
    }
}

/// The folder in which the content has the torrent's name.
fn folder_of_content(path: &Path, plan: &Plan) -> Result<PathBuf, Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    if path.file_name().is_some_and(|name| name.as_bytes() == plan.name) {
        return Ok(folder_of(path));
    }
    // The path ends in `.` or `..`.
    let real = std::fs::canonicalize(path).map_err(|error| Failure::io("can't find", &shown(path), &error))?;
    Ok(folder_of(&real))
}

/// Whether a torrent of these files, cut in the same way, is what would be made now. Names and lengths only.
fn is_of(metainfo: &Metainfo, plan: &Plan) -> bool {
    let info = &metainfo.info;
    let found = info.files.iter().map(|file| (file.path.get(1..).unwrap_or_default(), file.len));
    let planned = plan.scan.files.iter().map(|file| (&file.elements[..], file.identity.len));
    let same_files = if info.single_file { plan.scan.single_file } else { found.eq(planned) };
    let (old, new) = (&info.geometry, &plan.geometry);
    same_files && info.name == plan.name && (old.piece_len(), old.total_len()) == (new.piece_len(), new.total_len())
}

/// Where the torrent of this path is kept; `None` where nothing is.
fn place(path: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let real = std::fs::canonicalize(path).ok()?;
    let name = sha1(&[real.as_os_str().as_bytes()]);
    Some(checks::folder()?.join("made").join(format!("{name}.torrent")))
}

fn keep(place: &Path, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder_of(place))?;
    Ok(write_atomically(place, bytes, true)?)
}
