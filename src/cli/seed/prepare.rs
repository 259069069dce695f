//! From a path of the command line, or of `--watch`, to a torrent that the engine serves.

use std::io;
use std::path::{Path, PathBuf};

use super::handle::SessionHandle;
use super::made::{self, Content, Made};
use super::path_kind::PathKind;
use super::prepared::Prepared;
use super::trust::Trust;
use crate::base::Bitfield;
use crate::base::escape::printable;
use crate::cli::checks::Check;
use crate::cli::exit::{Exit, Failure};
use crate::cli::metainfo_file::load_metainfo;
use crate::cli::options::{SeedOptions, VerifyMode, folder_of, is_torrent_name};
use crate::cli::output::Output;
use crate::cli::progress::ContentProgress;
use crate::cli::transfer::tiers;
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;
use crate::create::{Control, Fingerprint, observe, verify, verify_with};
use crate::engine::{FilePresence, LossReports, Provenance, Source, file_presence};
use crate::storage::Presence;

/// Missing or short files that are named in warnings; further ones are counted.
const MISFITS_SHOWN_MAX: usize = 10;

/// Whether a path can be served without reading its content first.
pub(super) enum Found {
    Ready(Box<Prepared>),
    /// The content has to be hashed first.
    Unhashed,
}

/// Finds the torrent of a path, or of the content at a path, without reading content.
pub(super) fn find(path: &Path, options: &SeedOptions, output: &Output) -> Result<Found, Failure> {
    check_exists(path)?;
    if PathKind::of(path) == PathKind::Content {
        return Ok(match made::find(path, &options.engine.metainfo)? {
            Content::Known(made) => Found::Ready(Box::new(prepared_of_made(*made, options))),
            Content::Unhashed(_) => Found::Unhashed,
        });
    }
    if matches!(options.verify, VerifyMode::Full) {
        return Ok(Found::Unhashed);
    }
    let fingerprint = Fingerprint::read(path).ok();
    let metainfo = load_metainfo(path, &options.engine.metainfo, output)?;
    let folder = options.data.clone().unwrap_or_else(|| folder_of(path));
    let (have, trust) = match options.verify {
        VerifyMode::Never => {
            let FilePresence { have, files, .. } = check_presence(&metainfo, &folder, output)?;
            (have, Trust::Blind { files })
        }
        VerifyMode::Full | VerifyMode::Lazy => match recall(&metainfo, &folder) {
            Some(trust) => (Bitfield::full(metainfo.info.geometry.piece_count()), trust),
            None => (check_presence(&metainfo, &folder, output)?.have, Trust::None),
        },
    };
    let source = source_with_data(metainfo, folder, have, &trust, options)?;
    Ok(Found::Ready(Box::new(Prepared { source, trust, fingerprint })))
}

/// Finds the torrent of a path, or makes that of the content at a path; hashes the content if it has to be.
pub(super) fn prepare(path: &Path, session: &SessionHandle<'_>) -> Result<Prepared, Failure> {
    let SessionHandle { options, output, .. } = session;
    if let Found::Ready(prepared) = find(path, options, output)? {
        return Ok(*prepared);
    }
    if PathKind::of(path) == PathKind::Content {
        let made = made::find(path, &options.engine.metainfo)?.hash(&options.engine.metainfo, session)?;
        return Ok(prepared_of_made(made, options));
    }
    let fingerprint = Fingerprint::read(path).ok();
    let metainfo = load_metainfo(path, &options.engine.metainfo, output)?;
    let folder = options.data.clone().unwrap_or_else(|| folder_of(path));
    let (have, trust) = hash_all(&metainfo, &folder, session)?;
    let source = source_with_data(metainfo, folder, have, &trust, options)?;
    Ok(Prepared { source, trust, fingerprint })
}

/// Refuses a path that can't be found, which may be meant as a `.torrent` or as content. A missing `.torrent` is refused
/// when it is read.
fn check_exists(path: &Path) -> Result<(), Failure> {
    let Err(error) = path.symlink_metadata() else { return Ok(()) };
    if is_torrent_name(path) {
        return Ok(());
    }
    if error.kind() == io::ErrorKind::NotFound {
        let line = format!("no such file or folder: {}: give a .torrent, or content to serve", shown(path));
        return Err(Failure::new(Exit::Failed, line));
    }
    Err(Failure::io("can't read", &shown(path), &error))
}

fn prepared_of_made(made: Made, options: &SeedOptions) -> Prepared {
    let Made { metainfo, folder, trust, fingerprint } = made;
    let have = Bitfield::full(metainfo.info.geometry.piece_count());
    let source = source(metainfo, folder, have, &trust, options);
    // The files are followed, and a change is reported when it is seen.
    let source = Source { loss_reports: LossReports::Caller, ..source };
    Prepared { source, trust, fingerprint: Some(fingerprint) }
}

/// Fails if none of the torrent's content is there.
fn source_with_data(
    metainfo: Metainfo,
    folder: PathBuf,
    have: Bitfield,
    trust: &Trust,
    options: &SeedOptions,
) -> Result<Source, Failure> {
    if have.is_empty() && have.piece_count() > 0 {
        let advice = match &options.data {
            None => "give the folder that holds it with --data",
            Some(_) => "give the folder that holds it with --data, or download it with bt-fast get",
        };
        let (folder, name) = (shown(&folder), printable(&metainfo.info.name));
        let line = format!("no data: {folder}: no valid piece of '{name}' found: {advice}");
        return Err(Failure::new(Exit::Mismatch, line));
    }
    Ok(source(metainfo, folder, have, trust, options))
}

fn source(metainfo: Metainfo, folder: PathBuf, have: Bitfield, trust: &Trust, options: &SeedOptions) -> Source {
    let tiers = tiers(&metainfo.tiers, &options.network);
    let provenance = match trust {
        Trust::Checked { files } | Trust::Remembered { files, .. } | Trust::Blind { files } => {
            Provenance::Known(files.clone())
        }
        Trust::None => Provenance::Unknown,
    };
    Source {
        metainfo,
        folder,
        have,
        choices: None,
        provenance,
        target: None,
        earlier: None,
        tiers,
        peers: Vec::new(),
        link_peers: Vec::new(),
        loss_reports: LossReports::Engine,
    }
}

/// Returns the earlier check that found all of this content right, if no file has changed since.
fn recall(metainfo: &Metainfo, folder: &Path) -> Option<Trust> {
    let content = observe(&metainfo.info, folder)?;
    let date = Check::begin().recall(metainfo.info_hash, &content)?;
    Some(Trust::Remembered { date, files: content.by_file(&metainfo.info) })
}

/// Hashes every piece; only the valid ones are served.
fn hash_all(metainfo: &Metainfo, folder: &Path, session: &SessionHandle<'_>) -> Result<(Bitfield, Trust), Failure> {
    let SessionHandle { output, state, .. } = session;
    let check = Check::begin();
    let progress = ContentProgress::new(output, "checking", metainfo.info.geometry.total_len());
    let pending = state.pending.begin(printable(&metainfo.info.name), metainfo.info.geometry.total_len());
    let control = Control {
        cancel: &state.stop,
        progress: &|done| {
            pending.advance(done);
            progress.update(done);
        },
    };
    let report = match observe(&metainfo.info, folder) {
        Some(seen) => {
            let mut journal = check.journal(&seen, &metainfo.info.geometry);
            let report = verify_with(&metainfo.info, folder, &seen, &mut journal, control)?;
            journal.remove();
            report
        }
        None => verify(&metainfo.info, folder, None, control)?,
    };
    drop((progress, pending));
    check.conclude(metainfo, &report);
    let bad_count = report.have.piece_count() - report.have.count();
    if bad_count > 0 {
        output.warning(format_args!(
            "{}: {bad_count} of {} pieces are missing or do not match in {} and are not served",
            printable(&metainfo.info.name),
            report.have.piece_count(),
            shown(folder)
        ));
    }
    Ok((report.have, Trust::Checked { files: check.settled(report.files.into()) }))
}

/// Checks the lengths of the files. The content is trusted, or hashed before it is served.
fn check_presence(metainfo: &Metainfo, folder: &Path, output: &Output) -> Result<FilePresence, Failure> {
    let found = file_presence(&metainfo.info, folder)?;
    if !found.have.is_empty() {
        for (path, presence) in found.incomplete_files.iter().take(MISFITS_SHOWN_MAX) {
            let what = match presence {
                Presence::Absent => "is missing",
                Presence::Present { .. } => "is too short",
            };
            output.warning(format_args!("{} {what}: its pieces are not served", shown(path)));
        }
        if found.incomplete_files.len() > MISFITS_SHOWN_MAX {
            output.warning(format_args!(
                "{} more files are not served",
                found.incomplete_files.len() - MISFITS_SHOWN_MAX
            ));
        }
    }
    Ok(found)
}
