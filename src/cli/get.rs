//! `bt-fast get`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::existing::{Existing, Place, check_again};
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
use crate::base::limits;
use crate::base::units::{Bytes, Rate};
use crate::codec::magnet::Magnet;
use crate::codec::metainfo::Metainfo;
use crate::create::error::WriteError;
use crate::create::open::shown;
use crate::create::write::{check_output, write_atomically};
use crate::engine::magnet::{MetadataError, fetch_metadata};
use crate::engine::trackers::http::{FetchLimits, Fetcher, HttpError};
use crate::engine::{self, Config, Provenance, Report, Source};

pub(super) fn run(options: GetOptions, output: &Output) -> Result<(), Failure> {
    let stop = interrupt::flag(Hangup::Ends)?;
    if let GetOutput::Metainfo(Destination::File(path)) = &options.output {
        check_output(path, false).map_err(unsaved)?;
    }
    let mut config = Config {
        write_mode: options.write_mode,
        preallocate: options.preallocate,
        keep_seeding: options.seed,
        timeout: options.timeout,
        sequential: options.sequential,
        rates: options.rates,
        leeching_max: options.network.connections_max.unwrap_or(limits::CONNECTIONS_LEECHING_MAX),
        ..config(&options.network, &options.engine, options.serving, limits::CONNECTIONS_GET_MAX)
    };
    let found = load(&options, &mut config, &stop, output)?;
    match &options.output {
        GetOutput::Content(folder) => download(found, folder, &config, &options, &stop, output),
        GetOutput::Metainfo(destination) => save(&found, destination, output),
    }
}

fn download(
    found: Found,
    folder: &Path,
    config: &Config,
    options: &GetOptions,
    stop: &AtomicBool,
    output: &Output,
) -> Result<(), Failure> {
    let Found { metainfo, peers, .. } = found;
    let chosen = choose(&options.select, &metainfo)?;
    let place = Place {
        metainfo: &metainfo,
        folder,
        choices: chosen.as_ref().map(|chosen| &chosen.choices[..]),
        torrent: if let MetainfoSource::File(path) = &options.source { Some(path) } else { None },
        overwrite: options.overwrite,
    };
    let Existing { target, have, earlier } = place.prepare(stop, output)?;
    let for_doubts = (!have.is_empty()).then(|| metainfo.clone());
    let name = printable(&metainfo.info.name);
    let new_hook = |line: &OsString| Hook::new(line, &metainfo.info.name, folder, metainfo.info_hash);
    let mut hook = options.on_complete.as_ref().map(new_hook);
    let info_hash = metainfo.info_hash.to_string();
    let total_len = chosen.as_ref().map_or(metainfo.info.geometry.total_len(), |chosen| chosen.len);
    let selected = chosen.as_ref().map(|chosen| chosen.file_count);
    let choices = chosen.map(|chosen| chosen.choices);
    let tiers = tiers(&metainfo.tiers, &options.network);
    let source = Source {
        metainfo,
        folder: folder.to_owned(),
        have,
        choices,
        provenance: Provenance::Written,
        target,
        earlier: Some(earlier),
        tiers,
        peers,
    };

    let progress = TransferProgress::new(output, "downloading", Some(total_len));
    let mut complete = false;
    let report = engine::run(config, vec![source], stop, &mut |now| {
        if config.keep_seeding && now.have_len == total_len && !std::mem::replace(&mut complete, true) {
            output.message(format_args!("{}{name} complete; uploading until Ctrl-C", Selected(selected)));
            hook.iter_mut().for_each(|hook| hook.start(output));
        }
        hook.iter_mut().for_each(|hook| hook.poll(output));
        progress.update(TransferSnapshot {
            done: now.have_len,
            down_bytes_per_s: now.down_bytes_per_s,
            up_bytes_per_s: now.up_bytes_per_s,
            peers: now.peer_count,
        });
    })?;
    drop(progress);
    if !report.complete {
        let line = format!(
            "interrupted: {}{name}: {} of {} are here: run the same command to go on",
            Selected(selected),
            Bytes(report.totals.have_len),
            Bytes(total_len)
        );
        return Err(Failure::new(Exit::Interrupted, line));
    }
    if let (Some(metainfo), Some(doubtful)) = (&for_doubts, report.doubtful.as_ref().filter(|some| !some.is_empty())) {
        check_again(metainfo, folder, doubtful, stop, output)?;
    }
    let what = What { name: &name, info_hash, total_len, selected };
    conclude(&report, what, folder, output);
    // With --seed it has run already.
    if let Some(hook) = hook.as_mut().filter(|_| !config.keep_seeding) {
        hook.run(output);
    }
    Ok(())
}

/// A download that is complete.
struct What<'a> {
    name: &'a str,
    info_hash: String,
    /// Of the wanted files.
    total_len: u64,
    selected: Option<usize>,
}

fn conclude(report: &Report, what: What<'_>, folder: &Path, output: &Output) {
    let What { name, info_hash, total_len, selected } = what;
    let (seconds, downloaded) = (report.elapsed.as_secs_f64(), report.totals.downloaded);
    let (of, place) = (Selected(selected), shown(folder));
    if downloaded == 0 {
        output.message(format_args!("{of}{name} is complete already: {}, verified, in {place}", Bytes(total_len)));
    } else {
        let rate = Rate { bytes: downloaded, over: report.elapsed };
        output.message(format_args!(
            "got {of}{name}: {} in {seconds:.1} s, {rate}, verified, in {place}",
            Bytes(downloaded)
        ));
    }
    output.record(&Record::Complete {
        info_hash,
        name,
        output: &place,
        bytes: total_len,
        selected_files: selected,
        seconds,
        transfer: transfer(report),
    });
}

/// `3 files of `, where not all of them were wanted.
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

/// A torrent to get.
struct Found {
    metainfo: Metainfo,
    /// Peers that are known already.
    peers: Vec<SocketAddr>,
    since: Instant,
}

fn load(options: &GetOptions, config: &mut Config, stop: &AtomicBool, output: &Output) -> Result<Found, Failure> {
    let since = Instant::now();
    let without_peers = |metainfo| Found { metainfo, peers: Vec::new(), since };
    match &options.source {
        MetainfoSource::File(path) => load_metainfo(path, &options.engine.metainfo, output).map(without_peers),
        MetainfoSource::Url(url) => {
            let place = printable(url.as_bytes());
            let bytes = match Fetcher::new(config.way()).fetch_unless(stop, url, FetchLimits::metainfo()) {
                Ok(bytes) => bytes,
                // Indexers answer so where they have a link alone.
                Err(HttpError::Magnet(link)) => {
                    let magnet = Magnet::parse(&link).map_err(|error| {
                        Failure::new(Exit::Failed, format_args!("can't fetch: {place}: leads to a bad link: {error}"))
                    })?;
                    check_hints(&magnet, &options.network)?;
                    return load_magnet(options, &magnet, config, stop, output);
                }
                Err(error) => {
                    let exit = if matches!(error, HttpError::Interrupted) { Exit::Interrupted } else { Exit::Failed };
                    return Err(Failure::new(exit, format_args!("can't fetch: {place}: {error}")));
                }
            };
            let metainfo = Metainfo::decode(&bytes, &options.engine.metainfo)
                .map_err(|error| Failure::new(Exit::Failed, format_args!("not a torrent: {place}: {error}")))?;
            metainfo.warnings.iter().for_each(|warning| output.warning(format_args!("{place}: {warning}")));
            Ok(without_peers(metainfo))
        }
        MetainfoSource::Magnet(magnet) => load_magnet(options, magnet, config, stop, output),
    }
}

/// The metadata from peers (BEP 9). Peers of the link are like those of the command line from then on.
fn load_magnet(
    options: &GetOptions,
    magnet: &Magnet,
    config: &mut Config,
    stop: &AtomicBool,
    output: &Output,
) -> Result<Found, Failure> {
    let since = Instant::now();
    let name = magnet.name.as_deref().map_or_else(|| magnet.info_hash.to_string(), printable);
    output.message(format_args!("asking peers for the metadata of {name}; Ctrl-C stops"));
    // Each tracker of a link is a tier, as libtorrent has it.
    let link_tiers: Vec<Vec<String>> = magnet.trackers.iter().map(|url| vec![url.clone()]).collect();
    let asked = tiers(&link_tiers, &options.network);
    let leaving = matches!(options.output, GetOutput::Metainfo(_));
    let found = fetch_metadata(config, magnet, asked, leaving, stop)?;
    let metainfo = Metainfo::from_info(&found.info_bytes, &link_tiers, &magnet.web_seeds, &options.engine.metainfo)
        .map_err(|error| Failure::new(Exit::Failed, format_args!("bad torrent: {name}: {error}")))?;
    if metainfo.info_hash != magnet.info_hash {
        return Err(Failure::new(Exit::Failed, format_args!("bad torrent: {name}: its metadata is no dictionary")));
    }
    metainfo.warnings.iter().for_each(|warning| output.warning(format_args!("{name}: {warning}")));
    config.peers.extend(found.link_peers);
    Ok(Found { metainfo, peers: found.peers, since })
}

/// `--metadata-only`.
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
