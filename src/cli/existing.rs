//! Content that exists when a download starts: finds its valid pieces, and keeps foreign files from being overwritten.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::exit::{Exit, Failure};
use super::options::PeerSources;
use super::output::Output;
use super::progress::ContentProgress;
use crate::base::escape::printable;
use crate::base::lock::lock;
use crate::base::{Bitfield, FileIdentity, Rng};
use crate::codec::metainfo::Metainfo;
use crate::create::foreign::foreign_files;
use crate::create::open::shown;
use crate::create::verify::file_path;
use crate::create::{ContentError, Control, verify};
use crate::engine::files::resume::{Claims, Earlier, Recalled, recall};
use crate::io::raise_descriptor_limit;
use crate::storage::{Layout, PromisedSpace, Sidecar, StorageError, Target, WantedFile, make_folder};
use crate::swarm::{Choice, Selection};

/// The folder and files of a download.
pub(super) struct ContentLocation<'a> {
    pub(super) metainfo: &'a Metainfo,
    /// Folder that holds the torrent's name.
    pub(super) folder: &'a Path,
    /// The choice for each file; `None` if all files are wanted.
    pub(super) choices: Option<&'a [Choice]>,
    /// The `.torrent`, if it is a file.
    pub(super) torrent: Option<&'a Path>,
    /// Files with foreign content may be overwritten.
    pub(super) overwrite: bool,
    /// The ways to find peers, if something is missing.
    pub(super) peer_sources: PeerSources<'a>,
}

/// The state from which a download continues.
pub(super) struct Existing {
    /// `None` if the folder is read-only and all content is valid.
    pub(super) target: Option<Target>,
    pub(super) have: Bitfield,
    pub(super) earlier: Earlier,
}

impl ContentLocation<'_> {
    /// Locks the target, and finds the pieces that need not be downloaded. Fails, with no file created or changed, if
    /// something is missing and nothing can find peers, or if it needs more disk space than `space` has.
    pub(super) fn prepare(
        &self,
        space: &Mutex<PromisedSpace>,
        stop: &AtomicBool,
        output: &Output,
    ) -> Result<Existing, Failure> {
        let Self { metainfo, folder, .. } = *self;
        let info = &metainfo.info;
        if !self.has_files() {
            self.check_peer_sources(&Bitfield::new(info.geometry.piece_count()))?;
        }
        make_folder(folder).map_err(|error| Failure::io("can't create folder", &shown(folder), &error))?;
        raise_descriptor_limit();
        let layout = Layout::open(folder, info.files.iter().map(|file| file.path.clone()))?;
        let target = match Target::lock(folder, &info.name, metainfo.info_hash) {
            Ok(target) => target,
            Err(error) => return self.check_read_only(&layout, error, stop, output),
        };
        target.claim_existing(&layout, (0..info.files.len()).filter(|&file_index| !info.files[file_index].pad))?;
        let mut earlier = Earlier::observe(&layout, info);
        let mut known_files = Vec::new();
        let mut have = None;
        match recall(&target, metainfo, folder, &mut Rng::new()) {
            Recalled::Claimed(claims) => {
                let Claims { have: claimed, samples, unknown, known_files: known, warning } = claims;
                // After a run that was killed, files are expected to be newer than the record.
                if let Some(line) = warning
                    && !target.was_interrupted()
                {
                    output.warning(line);
                }
                let found = hash(metainfo, folder, Some(&samples.union(&unknown)), stop, output)?;
                if samples.is_subset(&found) {
                    earlier.unhashed = claimed.difference(&samples);
                    have = Some(claimed.union(&found));
                } else {
                    let record = shown(&target.path(Sidecar::Record));
                    output.warning(format_args!(
                        "ignoring {record}: a piece does not match it: checking all existing content"
                    ));
                }
                known_files = known;
            }
            Recalled::Refused(line) => output.warning(line),
            Recalled::Nothing => {}
        }
        let have = match have {
            Some(have) => have,
            None if self.has_files() => hash(self.metainfo, self.folder, None, stop, output)?,
            None => Bitfield::new(info.geometry.piece_count()),
        };
        self.check_peer_sources(&have)?;
        let is_known = |file_index: usize| known_files.get(file_index) == Some(&true);
        self.spare_torrent()?;
        let foreign = self.find_foreign(&layout, &have, is_known, stop)?;
        lock(space).promise(&layout, self.wanted().map(|file_index| self.wanted_file(file_index, &have)))?;
        self.clear_way(&layout, foreign)?;
        earlier.pieces = have.clone();
        Ok(Existing { target: Some(target), have, earlier })
    }

    /// Accepts a target that cannot be written if all content is valid; returns `error` otherwise.
    fn check_read_only(
        &self,
        layout: &Layout,
        error: StorageError,
        stop: &AtomicBool,
        output: &Output,
    ) -> Result<Existing, Failure> {
        let info = &self.metainfo.info;
        let is_refused = matches!(error.source.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS));
        let earlier = Earlier::observe(layout, info);
        let is_whole = || {
            let mut files = info.files.iter().zip(&earlier.files).filter(|(file, _)| !file.pad);
            files.all(|(_, found)| *found != FileIdentity::default())
        };
        if is_refused && is_whole() {
            let have = hash(self.metainfo, self.folder, None, stop, output)?;
            if have.is_full() {
                return Ok(Existing { target: None, have, earlier });
            }
        }
        Err(error.into())
    }

    /// Fails if a wanted piece is not in `have` and nothing can find peers.
    fn check_peer_sources(&self, have: &Bitfield) -> Result<(), Failure> {
        let geometry = &self.metainfo.info.geometry;
        let selection = self.choices.map(|choices| Selection::new(geometry, choices));
        let is_wanted = |piece| selection.as_ref().is_none_or(|selection| selection.is_wanted(piece));
        if geometry.pieces().all(|piece| have.contains(piece) || !is_wanted(piece)) {
            return Ok(());
        }
        self.peer_sources.check(&printable(&self.metainfo.info.name))
    }

    /// Whether any file of the torrent exists.
    fn has_files(&self) -> bool {
        let files = &self.metainfo.info.files;
        files.iter().any(|file| !file.pad && file.len > 0 && file_path(self.folder, file).exists())
    }

    /// Indices of the files that will be written.
    fn wanted(&self) -> impl Iterator<Item = usize> + '_ {
        let is_wanted = |&file_index: &usize| {
            let choice = self.choices.and_then(|choices| choices.get(file_index));
            choice != Some(&Choice::Deselected) && !self.metainfo.info.files[file_index].pad
        };
        (0..self.metainfo.info.files.len()).filter(is_wanted)
    }

    /// Returns the files with foreign content. Fails if there are any and the user does not allow to overwrite them.
    fn find_foreign(
        &self,
        layout: &Layout,
        have: &Bitfield,
        is_known: impl Fn(usize) -> bool,
        stop: &AtomicBool,
    ) -> Result<Vec<usize>, Failure> {
        let info = &self.metainfo.info;
        let control = Control { cancel: stop, progress: &|_| () };
        // Creating the file will fail if there is a link or a folder in its place.
        let is_file = |file_index: usize| layout.identity(file_index).is_ok();
        let unknown = self.wanted().filter(|&file_index| !is_known(file_index) && is_file(file_index));
        let foreign = foreign_files(info, self.folder, have, unknown, control)?;
        let longest = foreign.iter().max_by_key(|&&file_index| info.geometry.file_len(file_index));
        if let Some(&longest) = longest
            && !self.overwrite
        {
            let line = format!(
                "file exists: {}: it has no content of this torrent: choose another folder with -o, or give --overwrite to \
                 replace it",
                shown(&layout.path(longest))
            );
            return Err(Failure::new(Exit::Failed, line));
        }
        Ok(foreign)
    }

    /// Returns a file with the bytes of its pieces that are missing.
    fn wanted_file(&self, file_index: usize, have: &Bitfield) -> WantedFile {
        let geometry = &self.metainfo.info.geometry;
        let file = geometry.range_of_file(file_index);
        let pieces = geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index));
        let missing = pieces.filter(|&piece| !have.contains(piece)).map(|piece| {
            let start = geometry.offset_of(piece);
            let end = start + u64::from(geometry.len_of(piece));
            end.min(file.end).saturating_sub(start.max(file.start))
        });
        WantedFile {
            file_index,
            len: geometry.file_len(file_index),
            missing: missing.sum(),
            is_replaced: self.overwrite,
        }
    }

    /// Truncates the files with foreign content, and files that are too long if the user allows to overwrite them.
    fn clear_way(&self, layout: &Layout, foreign: Vec<usize>) -> Result<(), Failure> {
        for file_index in foreign {
            layout.truncate(file_index, 0)?;
        }
        if self.overwrite {
            self.cut_excess(layout)?;
        }
        Ok(())
    }

    /// Truncates the files that are longer than in the torrent.
    fn cut_excess(&self, layout: &Layout) -> Result<(), Failure> {
        for file_index in self.wanted() {
            let len = self.metainfo.info.geometry.file_len(file_index);
            if layout.identity(file_index).is_ok_and(|found| found.len > len) {
                layout.truncate(file_index, len)?;
            }
        }
        Ok(())
    }

    /// Fails if a file of the content would overwrite the `.torrent` itself.
    fn spare_torrent(&self) -> Result<(), Failure> {
        let inode = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let Some(torrent) = self.torrent.and_then(inode) else { return Ok(()) };
        let files = &self.metainfo.info.files;
        let is_torrent = |path: &PathBuf| inode(path) == Some(torrent);
        let mut paths = self.wanted().map(|file_index| file_path(self.folder, &files[file_index]));
        paths.find(is_torrent).map_or(Ok(()), |path| {
            let line =
                format!("file exists: {}: it is the .torrent itself: choose another folder with -o", shown(&path));
            Err(Failure::new(Exit::Failed, line))
        })
    }
}

/// Returns the valid ones of `pieces`, or of all pieces if it is `None`.
fn hash(
    metainfo: &Metainfo,
    folder: &Path,
    pieces: Option<&Bitfield>,
    stop: &AtomicBool,
    output: &Output,
) -> Result<Bitfield, ContentError> {
    let progress = ContentProgress::new(output, "checking", metainfo.info.geometry.total_len());
    let control = Control { cancel: stop, progress: &|done| progress.update(done) };
    verify(&metainfo.info, folder, pieces, control).map(|report| report.have)
}

/// Hashes `doubtful` pieces: those of the start whose files another program has changed meanwhile. Fails if one is
/// invalid.
pub(super) fn check_again(
    metainfo: &Metainfo,
    folder: &Path,
    doubtful: &Bitfield,
    stop: &AtomicBool,
    output: &Output,
) -> Result<(), Failure> {
    if doubtful.is_subset(&hash(metainfo, folder, Some(doubtful), stop, output)?) {
        return Ok(());
    }
    let name = shown(&folder.join(OsStr::from_bytes(&metainfo.info.name)));
    let line = "another program changed it while it was downloaded: run the same command again";
    Err(Failure::new(Exit::Mismatch, format_args!("data does not match: {name}: {line}")))
}
