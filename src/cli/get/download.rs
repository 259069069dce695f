//! One download of `get`: its preparation, its end, and its result.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::command::Command;
use super::tally::Outcome;
use crate::base::InfoHash;
use crate::base::escape::printable;
use crate::base::units::{Bytes, Rate};
use crate::cli::existing::{ContentLocation, Existing, check_again};
use crate::cli::exit::{Exit, Failure};
use crate::cli::hook::Hook;
use crate::cli::load::Loaded;
use crate::cli::options::{Incoming, MetainfoSource, PeerSources, SeedUntil};
use crate::cli::records::Record;
use crate::cli::select::choose;
use crate::cli::transfer::{tiers, transfer};
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;
use crate::engine::{DownloadEnd, LossReports, Provenance, Source};
use crate::storage::PromisedSpace;

/// A download into a folder.
#[derive(Debug)]
pub(super) struct Download<'a> {
    command: Command<'a>,
    folder: &'a Path,
    /// The argument of the command line that names the torrent.
    pub(super) argument: &'a MetainfoSource,
    /// Printable.
    pub(super) name: String,
    pub(super) info_hash: InfoHash,
    /// Bytes of the wanted files.
    pub(super) total_len: u64,
    /// The number of files that `--select` chooses; `None` without it.
    selected: Option<usize>,
    /// For [`Download::recheck`]; `None` if no piece was there at the start.
    metainfo: Option<Metainfo>,
    hook: Option<Hook>,
    /// When the session got it.
    started: Instant,
    /// With `--seed`: the time that the download took. It is complete and keeps uploading.
    took: Option<Duration>,
}

impl<'a> Download<'a> {
    /// Chooses the files, locks the target, checks the content that is there already, and takes the space for the rest
    /// from `space`.
    pub(super) fn prepare(
        command: Command<'a>,
        loaded: Loaded,
        argument: &'a MetainfoSource,
        folder: &'a Path,
        space: &Mutex<PromisedSpace>,
    ) -> Result<(Self, Source), Failure> {
        let Command { options, stop, output } = command;
        let Loaded { metainfo, link_peers, peers, .. } = loaded;
        let chosen = choose(&options.select, &metainfo)?;
        let location = ContentLocation {
            metainfo: &metainfo,
            folder,
            choices: chosen.as_ref().map(|chosen| &chosen.choices[..]),
            torrent: if let MetainfoSource::File(path) = argument { Some(path) } else { None },
            overwrite: options.overwrite,
            peer_sources: PeerSources {
                tracker_count: metainfo.tiers.len(),
                peer_count: link_peers.len() + peers.len(),
                incoming: Incoming::Accepted,
                network: &options.network,
            },
        };
        let Existing { target, have, earlier } = location.prepare(space, stop, output)?;
        let new_hook = |line: &OsString| Hook::new(line, &metainfo.info.name, folder, metainfo.info_hash);
        let download = Self {
            command,
            folder,
            argument,
            name: printable(&metainfo.info.name),
            info_hash: metainfo.info_hash,
            total_len: chosen.as_ref().map_or(metainfo.info.geometry.total_len(), |chosen| chosen.len),
            selected: chosen.as_ref().map(|chosen| chosen.file_count),
            metainfo: (!have.is_empty()).then(|| metainfo.clone()),
            hook: options.on_complete.as_ref().map(new_hook),
            started: Instant::now(),
            took: None,
        };
        let source = Source {
            tiers: tiers(&metainfo.tiers, &options.network),
            metainfo,
            folder: folder.to_owned(),
            have,
            choices: chosen.map(|chosen| chosen.choices),
            provenance: Provenance::Written,
            target,
            earlier: Some(earlier),
            peers,
            link_peers,
            loss_reports: LossReports::Engine,
        };
        Ok((download, source))
    }

    /// The download is complete and keeps uploading: starts the command of `--on-complete`.
    pub(super) fn begin_seeding(&mut self, until: SeedUntil) {
        let output = self.command.output;
        let (selected, name) = (Selected(self.selected), &self.name);
        output.message(format_args!("{selected}{name} complete; uploading {until}"));
        if let Some(hook) = &mut self.hook {
            hook.start(output);
        }
        self.took = Some(self.started.elapsed());
    }

    /// Returns whether the download is complete and keeps uploading.
    pub(super) fn is_seeding(&self) -> bool {
        self.took.is_some()
    }

    /// Reaps the command of `--on-complete` if it has ended.
    pub(super) fn poll_hook(&mut self) {
        if let Some(hook) = &mut self.hook {
            hook.poll(self.command.output);
        }
    }

    /// Reports the end of the download, runs the command of `--on-complete` unless [`Self::begin_seeding`] has started
    /// it, and waits for its end.
    ///
    /// The result is a failure if the download is incomplete, if another program has altered it, or if that command has
    /// failed.
    pub(super) fn conclude(&mut self, end: &DownloadEnd) -> Outcome {
        if let Err(failure) = self.check_complete(end).and_then(|()| self.recheck(end)) {
            return Outcome::Failed(failure);
        }
        self.print_result(end);
        let (stop, is_started) = (self.command.stop, self.is_seeding());
        let Some(hook) = &mut self.hook else { return Outcome::Complete };
        let result = if is_started { hook.wait(stop) } else { hook.run(stop) };
        result.map_or_else(Outcome::HookFailed, |()| Outcome::Complete)
    }

    /// Fails if the user ended the session before the download was complete.
    fn check_complete(&self, end: &DownloadEnd) -> Result<(), Failure> {
        if end.complete {
            return Ok(());
        }
        let line = format!(
            "interrupted: {}{}: {} of {} downloaded; run the same command to resume",
            Selected(self.selected),
            self.name,
            Bytes(end.report.totals.have_len),
            Bytes(self.total_len)
        );
        Err(Failure::new(Exit::Interrupted, line))
    }

    /// Hashes the pieces that were there at the start and whose files another program has changed meanwhile.
    fn recheck(&self, end: &DownloadEnd) -> Result<(), Failure> {
        let doubtful = end.doubtful.as_ref().filter(|doubtful| !doubtful.is_empty());
        let Some((metainfo, doubtful)) = self.metainfo.as_ref().zip(doubtful) else { return Ok(()) };
        check_again(metainfo, self.folder, doubtful, self.command.stop, self.command.output)
    }

    fn print_result(&self, end: &DownloadEnd) {
        let Self { name, total_len, selected, .. } = self;
        let report = &end.report;
        let output = self.command.output;
        // The session may have begun before this download.
        let elapsed = report.elapsed.min(self.took.unwrap_or_else(|| self.started.elapsed()));
        let (seconds, downloaded) = (elapsed.as_secs_f64(), report.totals.downloaded);
        let (of, place) = (Selected(*selected), shown(self.folder));
        if downloaded == 0 {
            output.message(format_args!("{of}{name} is already complete: {}, verified, in {place}", Bytes(*total_len)));
        } else {
            let rate = Rate { bytes: downloaded, over: elapsed };
            output.message(format_args!(
                "got {of}{name}: {} in {seconds:.1} s, {rate}, verified, in {place}",
                Bytes(downloaded)
            ));
        }
        output.record(&Record::Complete {
            info_hash: self.info_hash.to_string(),
            name,
            output: &place,
            bytes: *total_len,
            selected_files: *selected,
            seconds,
            transfer: transfer(report),
        });
    }
}

/// `3 files of `; empty without `--select`.
struct Selected(Option<usize>);

impl std::fmt::Display for Selected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(1) => f.write_str("1 file of "),
            Some(count) => write!(f, "{count} files of "),
        }
    }
}
