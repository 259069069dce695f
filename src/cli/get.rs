//! `bt-fast get`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::existing::{ContentLocation, Existing, check_again};
use super::exit::{Exit, Failure};
use super::hook::Hook;
use super::interrupt::{self, Hangup};
use super::metainfo_file::{default_output, load_metainfo};
use super::options::{Destination, GetOptions, GetOutput, MetainfoSource, check_hints};
use super::output::Output;
use super::progress::{TransferProgress, TransferSnapshot};
use super::records::Record;
use super::select::choose;
use super::transfer::{config, tiers, transfer};
use crate::base::escape::printable;
use crate::base::units::{Bytes, Rate};
use crate::base::{InfoHash, limits};
use crate::codec::magnet::Magnet;
use crate::codec::metainfo::Metainfo;
use crate::create::error::WriteError;
use crate::create::open::shown;
use crate::create::write::{check_output, write_atomically};
use crate::engine::magnet::{MetadataError, MetadataRequest, fetch_metadata};
use crate::engine::trackers::http::{FetchLimits, Fetcher, HttpError};
use crate::engine::{self, Config, EngineError, Provenance, Report, Source};
use crate::storage::PromisedSpace;

pub(super) fn run(options: GetOptions, output: &Output) -> Result<(), Failure> {
    let stop = interrupt::flag(Hangup::Ends)?;
    if let GetOutput::Metainfo(Destination::File(path)) = &options.output {
        check_output(path, false).map_err(unsaved)?;
    }
    let mut config = session_config(&options);
    let command = Command { options: &options, stop: &stop, output };
    let found = command.load(&mut config)?;
    match &options.output {
        GetOutput::Content(folder) => command.download(found, folder, &config),
        GetOutput::Metainfo(destination) => save(&found, destination, output),
    }
}

fn session_config(options: &GetOptions) -> Config {
    Config {
        write_mode: options.write_mode,
        preallocate: options.preallocate,
        keep_seeding: options.seed,
        timeout: options.timeout,
        sequential: options.sequential,
        rates: options.rates,
        leeching_max: options.network.connections_max.unwrap_or(limits::CONNECTIONS_LEECHING_MAX),
        ..config(&options.network, &options.engine, options.serving, limits::CONNECTIONS_GET_MAX)
    }
}

/// The options, stop flag and output of one run of `get`.
#[derive(Clone, Copy)]
struct Command<'a> {
    options: &'a GetOptions,
    stop: &'a AtomicBool,
    output: &'a Output,
}

impl Command<'_> {
    fn download(self, found: Found, folder: &Path, config: &Config) -> Result<(), Failure> {
        let (mut download, source) = Download::prepare(self, found, folder)?;
        let report = download.run(source, config)?;
        download.check_complete(&report)?;
        download.recheck(&report)?;
        download.conclude(&report)
    }
}

/// A download into a folder.
struct Download<'a> {
    command: Command<'a>,
    folder: &'a Path,
    /// Printable.
    name: String,
    info_hash: InfoHash,
    /// Bytes of the wanted files.
    total_len: u64,
    /// The number of files that `--select` chooses; `None` without it.
    selected: Option<usize>,
    /// For [`Download::recheck`]; `None` if no piece was there at the start.
    metainfo: Option<Metainfo>,
    hook: Option<Hook>,
}

impl<'a> Download<'a> {
    /// Chooses the files, locks the target and checks the content that is there already.
    fn prepare(command: Command<'a>, found: Found, folder: &'a Path) -> Result<(Self, Source), Failure> {
        let Command { options, stop, output } = command;
        let Found { metainfo, peers, .. } = found;
        let chosen = choose(&options.select, &metainfo)?;
        let location = ContentLocation {
            metainfo: &metainfo,
            folder,
            choices: chosen.as_ref().map(|chosen| &chosen.choices[..]),
            torrent: if let MetainfoSource::File(path) = &options.source { Some(path) } else { None },
            overwrite: options.overwrite,
        };
        let Existing { target, have, earlier } = location.prepare(&mut PromisedSpace::default(), stop, output)?;
        let new_hook = |line: &OsString| Hook::new(line, &metainfo.info.name, folder, metainfo.info_hash);
        let download = Self {
            command,
            folder,
            name: printable(&metainfo.info.name),
            info_hash: metainfo.info_hash,
            total_len: chosen.as_ref().map_or(metainfo.info.geometry.total_len(), |chosen| chosen.len),
            selected: chosen.as_ref().map(|chosen| chosen.file_count),
            metainfo: (!have.is_empty()).then(|| metainfo.clone()),
            hook: options.on_complete.as_ref().map(new_hook),
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
        };
        Ok((download, source))
    }

    /// Runs the engine on this thread until the download is complete, or with `--seed` until the user ends it.
    fn run(&mut self, source: Source, config: &Config) -> Result<Report, EngineError> {
        let Command { stop, output, .. } = self.command;
        let progress = TransferProgress::download(output, &self.name, self.total_len);
        let mut is_complete = false;
        engine::run(config, vec![source], stop, &mut |now| {
            let was_complete = is_complete;
            is_complete |= now.have_len == self.total_len;
            if config.keep_seeding && is_complete && !was_complete {
                let (selected, name) = (Selected(self.selected), &self.name);
                output.message(format_args!("{selected}{name} complete; uploading until Ctrl-C"));
                self.hook.iter_mut().for_each(|hook| hook.start(output));
            }
            self.hook.iter_mut().for_each(|hook| hook.poll(output));
            progress.update(TransferSnapshot {
                done: now.have_len,
                down_bytes_per_s: now.down_bytes_per_s,
                up_bytes_per_s: now.up_bytes_per_s,
                peers: now.peer_count,
                known_peers: now.known_peer_count,
                hosts: "",
            });
        })
    }

    /// Fails if the user ended the session before the download was complete.
    fn check_complete(&self, report: &Report) -> Result<(), Failure> {
        if report.complete {
            return Ok(());
        }
        let line = format!(
            "interrupted: {}{}: {} of {} downloaded; run the same command to resume",
            Selected(self.selected),
            self.name,
            Bytes(report.totals.have_len),
            Bytes(self.total_len)
        );
        Err(Failure::new(Exit::Interrupted, line))
    }

    /// Hashes the pieces that were there at the start and whose files another program has changed meanwhile.
    fn recheck(&self, report: &Report) -> Result<(), Failure> {
        let doubtful = report.doubtful.as_ref().filter(|doubtful| !doubtful.is_empty());
        let Some((metainfo, doubtful)) = self.metainfo.as_ref().zip(doubtful) else { return Ok(()) };
        check_again(metainfo, self.folder, doubtful, self.command.stop, self.command.output)
    }

    /// Reports the complete download, and runs the command of `--on-complete` unless [`Download::run`] has. Fails if that
    /// command has failed.
    fn conclude(&mut self, report: &Report) -> Result<(), Failure> {
        let Command { options, output, .. } = self.command;
        self.print_result(report);
        let Some(hook) = &mut self.hook else { return Ok(()) };
        if options.seed {
            hook.poll(output);
        } else {
            hook.run();
        }
        hook.result()
    }

    fn print_result(&self, report: &Report) {
        let Self { name, total_len, selected, .. } = self;
        let output = self.command.output;
        let (seconds, downloaded) = (report.elapsed.as_secs_f64(), report.totals.downloaded);
        let (of, place) = (Selected(*selected), shown(self.folder));
        if downloaded == 0 {
            output.message(format_args!("{of}{name} is already complete: {}, verified, in {place}", Bytes(*total_len)));
        } else {
            let rate = Rate { bytes: downloaded, over: report.elapsed };
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

/// The torrent that the command line names.
struct Found {
    metainfo: Metainfo,
    /// Peers that the search for the metadata found.
    peers: Vec<SocketAddr>,
    /// When the search began.
    since: Instant,
}

impl Command<'_> {
    /// Reads or downloads the metainfo.
    fn load(self, config: &mut Config) -> Result<Found, Failure> {
        let since = Instant::now();
        let without_peers = |metainfo| Found { metainfo, peers: Vec::new(), since };
        match &self.options.source {
            MetainfoSource::File(path) => {
                load_metainfo(path, &self.options.engine.metainfo, self.output).map(without_peers)
            }
            MetainfoSource::Url(url) => {
                match Fetcher::new(config.egress()).fetch_unless(self.stop, url, FetchLimits::metainfo()) {
                    Ok(bytes) => self.decode(&bytes, url).map(without_peers),
                    // Indexers redirect to a magnet link if they have no .torrent.
                    Err(HttpError::Magnet(link)) => self.follow_link(&link, url, config),
                    Err(error) => {
                        let exit =
                            if matches!(error, HttpError::Interrupted) { Exit::Interrupted } else { Exit::Failed };
                        let place = printable(url.as_bytes());
                        Err(Failure::new(exit, format_args!("can't fetch: {place}: {error}")))
                    }
                }
            }
            MetainfoSource::Magnet(magnet) => self.load_magnet(magnet, config),
        }
    }

    /// Decodes the `.torrent` of a URL, and shows its warnings.
    fn decode(self, bytes: &[u8], url: &str) -> Result<Metainfo, Failure> {
        let place = printable(url.as_bytes());
        let metainfo = Metainfo::decode(bytes, &self.options.engine.metainfo)
            .map_err(|error| Failure::new(Exit::Failed, format_args!("not a torrent: {place}: {error}")))?;
        metainfo.warnings.iter().for_each(|warning| self.output.warning(format_args!("{place}: {warning}")));
        Ok(metainfo)
    }

    /// Loads the metadata of a magnet link to which a URL redirects.
    fn follow_link(self, link: &[u8], url: &str, config: &mut Config) -> Result<Found, Failure> {
        let magnet = Magnet::parse(link).map_err(|error| {
            let place = printable(url.as_bytes());
            Failure::new(Exit::Failed, format_args!("can't fetch: {place}: leads to a bad link: {error}"))
        })?;
        check_hints(&magnet, &self.options.network)?;
        self.load_magnet(&magnet, config)
    }

    /// Downloads the metadata from peers (BEP 9). Adds the peers of the link to those of the command line.
    fn load_magnet(self, magnet: &Magnet, config: &mut Config) -> Result<Found, Failure> {
        let Self { options, stop, output } = self;
        let since = Instant::now();
        let name = magnet.name.as_deref().map_or_else(|| magnet.info_hash.to_string(), printable);
        output.message(format_args!("asking peers for the metadata of {name}; Ctrl-C stops"));
        // Each tracker of a link is a tier of its own, as in libtorrent.
        let link_tiers: Vec<Vec<String>> = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
        let asked = tiers(&link_tiers, &options.network);
        let leaving = matches!(options.output, GetOutput::Metainfo(_));
        let found = fetch_metadata(MetadataRequest { config, magnet, tiers: asked, leaving, stop })?;
        let bad =
            |reason: &dyn std::fmt::Display| Failure::new(Exit::Failed, format_args!("bad torrent: {name}: {reason}"));
        let metainfo = Metainfo::from_info(&found.info_bytes, &link_tiers, &magnet.web_seeds, &options.engine.metainfo)
            .map_err(|error| bad(&error))?;
        if metainfo.info_hash != magnet.info_hash {
            return Err(bad(&"its metadata is no dictionary"));
        }
        metainfo.warnings.iter().for_each(|warning| output.warning(format_args!("{name}: {warning}")));
        config.peers.extend(found.link_peers);
        Ok(Found { metainfo, peers: found.peers, since })
    }
}

/// Writes the `.torrent` of `--metadata-only`.
fn save(found: &Found, destination: &Destination, output: &Output) -> Result<(), Failure> {
    let Found { metainfo, since, .. } = found;
    let bytes = metainfo.encode();
    let path = match destination {
        Destination::Default => default_output(&metainfo.info.name)?,
        Destination::File(path) => path.clone(),
        Destination::Stdout => return output.bytes(&bytes),
    };
    write_atomically(&path, &bytes, false).map_err(unsaved)?;
    let (name, place) = (printable(&metainfo.info.name), shown(&path));
    output.message(format_args!("saved {place}: {name}, {}", Bytes(metainfo.info.geometry.total_len())));
    output.record(&Record::Metadata {
        info_hash: metainfo.info_hash.to_string(),
        name: &name,
        output: &place,
        bytes: metainfo.info.geometry.total_len(),
        seconds: since.elapsed().as_secs_f64(),
    });
    Ok(())
}

fn unsaved(error: WriteError) -> Failure {
    match error {
        WriteError::Exists { path } => {
            Failure::new(Exit::Failed, format_args!("output exists: {}: give another name with -o", shown(&path)))
        }
        error => error.into(),
    }
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        let exit = match error {
            MetadataError::Engine(error) => return error.into(),
            MetadataError::Timeout(_) | MetadataError::HungUp(_) => Exit::NoPeers,
            MetadataError::Interrupted => Exit::Interrupted,
        };
        Self::new(exit, error)
    }
}
