//! Torrents that `seed` makes of content without one. They are kept in the cache folder and used again while no file of
//! the content changes.

use std::path::{Path, PathBuf};

use super::handle::SessionHandle;
use super::trust::Trust;
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
use crate::create::{Control, CreateError, Fingerprint, Plan, Settings};
use crate::hash::sha1;

/// A torrent made of local content.
pub(super) struct Made {
    pub(super) metainfo: Metainfo,
    /// Folder that holds the torrent's name.
    pub(super) folder: PathBuf,
    pub(super) trust: Trust,
    /// The files before they were hashed.
    pub(super) fingerprint: Fingerprint,
}

/// The content at a path.
pub(super) enum Content {
    /// An earlier run hashed it, and no file has changed since.
    Known(Box<Made>),
    Unhashed(Box<Unhashed>),
}

/// Content whose torrent has yet to be made.
pub(super) struct Unhashed {
    path: PathBuf,
    plan: Plan,
    folder: PathBuf,
    check: Check,
}

/// Finds the kept torrent of the content at `path` by names, lengths and time stamps. No content is read.
pub(super) fn find(path: &Path, limits: &MetainfoLimits) -> Result<Content, Failure> {
    let plan = Plan::new(path, &Settings::default(), None).map_err(refusal)?;
    let folder = folder_of_content(path, &plan)?;
    let check = Check::begin();
    let content = plan.observation();
    if let Some(metainfo) = kept_path(path).and_then(|kept| read_metainfo_file(&kept).ok())
        && let Ok(metainfo) = Metainfo::decode(&metainfo, limits)
        && is_of(&metainfo, &plan)
        && let Some(date) = check.recall(metainfo.info_hash, &content)
    {
        let files = content.by_file(&metainfo.info);
        let (trust, fingerprint) = (Trust::Remembered { date, files }, Fingerprint::of(&plan.scan));
        return Ok(Content::Known(Box::new(Made { metainfo, folder, trust, fingerprint })));
    }
    Ok(Content::Unhashed(Box::new(Unhashed { path: path.to_owned(), plan, folder, check })))
}

/// Content that is empty may be filled later.
fn refusal(error: CreateError) -> Failure {
    let (path, reason) = match &error {
        CreateError::NoFiles { path } => (path, "the folder is empty"),
        CreateError::NoBytes { path } => (path, "it has no bytes"),
        _ => return error.into(),
    };
    Failure::new(Exit::Failed, format_args!("no content: {}: {reason}", shown(path)))
}

impl Content {
    /// Returns the torrent; hashes the content unless it is known.
    pub(super) fn hash(self, limits: &MetainfoLimits, session: &SessionHandle<'_>) -> Result<Made, Failure> {
        match self {
            Self::Known(made) => Ok(*made),
            Self::Unhashed(content) => content.hash(limits, session),
        }
    }
}

impl Unhashed {
    /// Hashes the content and keeps its torrent, so that a restart continues with the next path.
    fn hash(self, limits: &MetainfoLimits, session: &SessionHandle<'_>) -> Result<Made, Failure> {
        let Self { path, plan, folder, check } = self;
        let (settings, total_len) = (Settings::default(), plan.scan.total_len);
        let name = printable(&plan.name);
        session.output.message(format_args!("hashing {name} ({}) before it is served", Bytes(total_len)));
        let progress = ContentProgress::new(session.output, "hashing", total_len);
        let pending = session.state.pending.begin(name, total_len);
        let control = Control {
            cancel: &session.state.stop,
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
        if let Some(Err(error)) = kept_path(&path).map(|kept| keep(&kept, &created.bytes)) {
            tracing::info!("can't keep the torrent for the next start: {error}");
        }
        journal.remove();
        let metainfo = Metainfo::decode(&created.bytes, limits)
            .map_err(|error| Failure::new(Exit::Failed, format_args!("bad torrent: {error}")))?;
        let files = check.settled(content.by_file(&metainfo.info));
        let fingerprint = Fingerprint::of(&plan.scan);
        Ok(Made { metainfo, folder, trust: Trust::Checked { files }, fingerprint })
    }
}

/// Returns the folder in which the content has the torrent's name.
fn folder_of_content(path: &Path, plan: &Plan) -> Result<PathBuf, Failure> {
    use std::os::unix::ffi::OsStrExt as _;
    if path.file_name().is_some_and(|name| name.as_bytes() == plan.name) {
        return Ok(folder_of(path));
    }
    // The path ends in `.` or `..`.
    let real = std::fs::canonicalize(path).map_err(|error| Failure::io("can't find", &shown(path), &error))?;
    Ok(folder_of(&real))
}

/// Whether `plan` has the names, file lengths and piece length of this torrent.
fn is_of(metainfo: &Metainfo, plan: &Plan) -> bool {
    let info = &metainfo.info;
    let found = info.files.iter().map(|file| (file.path.get(1..).unwrap_or_default(), file.len));
    let planned = plan.scan.files.iter().map(|file| (&file.elements[..], file.identity.len));
    let same_files = if info.single_file { plan.scan.single_file } else { found.eq(planned) };
    let (old, new) = (&info.geometry, &plan.geometry);
    same_files && info.name == plan.name && (old.piece_len(), old.total_len()) == (new.piece_len(), new.total_len())
}

/// Returns the file in which the torrent of this path is kept, or `None` if there is no cache folder.
fn kept_path(path: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let real = std::fs::canonicalize(path).ok()?;
    let name = sha1(&[real.as_os_str().as_bytes()]);
    Some(checks::folder()?.join("made").join(format!("{name}.torrent")))
}

fn keep(path: &Path, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder_of(path))?;
    Ok(write_atomically(path, bytes, true)?)
}
