//! `bt-fast get`.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::exit::{Exit, Failure};
use super::interrupt;
use super::metainfo_file::load_metainfo;
use super::options::{GetOptions, MetainfoSource};
use super::output::Output;
use super::progress::TransferSnapshot;
use super::records::Record;
use super::transfer::{config, tiers, transfer};
use crate::base::escape::printable;
use crate::base::units::{Bytes, Rate};
use crate::base::{Bitfield, limits};
use crate::codec::metainfo::Metainfo;
use crate::create::open::shown;
use crate::create::verify::file_path;
use crate::create::{Control, verify};
use crate::engine::http::{FetchLimits, fetch};
use crate::engine::{self, Config, Report, Source};

pub(super) fn run(options: GetOptions, output: &Output) -> Result<(), Failure> {
    let stop = interrupt::flag()?;
    let metainfo = load(&options, output)?;
    let folder = &options.output;
    fs::create_dir_all(folder).map_err(|error| Failure::io("can't create folder", &shown(folder), &error))?;
    let have = check(&metainfo, folder, &stop, output)?;
    let config = Config {
        write_mode: options.write_mode,
        preallocate: options.preallocate,
        keep_seeding: options.seed,
        timeout: options.timeout,
        ..config(&options.network, &options.engine, options.serving, limits::CONNECTIONS_GET_MAX)
    };
    let name = printable(&metainfo.info.name);
    let info_hash = metainfo.info_hash.to_string();
    let total_len = metainfo.info.geometry.total_len();
    let tiers = tiers(&metainfo, &options.network);
    let source = Source { metainfo, folder: folder.clone(), have, trusted: true, writable: true, tiers };

    let progress = output.transfer_progress("downloading", Some(total_len));
    let mut complete = false;
    let report = engine::run(&config, vec![source], &stop, &mut |now| {
        if config.keep_seeding && now.have_len == total_len && !std::mem::replace(&mut complete, true) {
            output.message(format_args!("{name} is complete; uploading until Ctrl-C"));
        }
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
            "interrupted: {name}: {} of {} are here: run the same command to go on",
            Bytes(report.totals.have_len),
            Bytes(total_len)
        );
        return Err(Failure::new(Exit::Interrupted, line));
    }
    conclude(&report, &name, info_hash, total_len, folder, output);
    Ok(())
}

fn conclude(report: &Report, name: &str, info_hash: String, total_len: u64, folder: &Path, output: &Output) {
    let seconds = report.elapsed.as_secs_f64();
    let rate = Rate { bytes: report.totals.downloaded, over: report.elapsed };
    output.message(format_args!(
        "got {name}: {} in {seconds:.1} s, {rate}, verified, in {}",
        Bytes(report.totals.downloaded),
        shown(folder)
    ));
    output.record(&Record::Complete {
        info_hash,
        name,
        output: &shown(folder),
        bytes: total_len,
        seconds,
        transfer: transfer(report),
    });
}

fn load(options: &GetOptions, output: &Output) -> Result<Metainfo, Failure> {
    match &options.source {
        MetainfoSource::File(path) => load_metainfo(path, &options.engine.metainfo, output),
        MetainfoSource::Url(url) => {
            let place = printable(url.as_bytes());
            let bytes = fetch(url, FetchLimits::metainfo())
                .map_err(|error| Failure::new(Exit::Failed, format_args!("can't fetch: {place}: {error}")))?;
            let metainfo = Metainfo::decode(&bytes, &options.engine.metainfo)
                .map_err(|error| Failure::new(Exit::Failed, format_args!("not a torrent: {place}: {error}")))?;
            metainfo.warnings.iter().for_each(|warning| output.warning(format_args!("{place}: {warning}")));
            Ok(metainfo)
        }
    }
}

/// What an earlier run, or anybody else, has left there: each piece that is right is not fetched again.
fn check(metainfo: &Metainfo, folder: &Path, stop: &AtomicBool, output: &Output) -> Result<Bitfield, Failure> {
    let info = &metainfo.info;
    let anything = info.files.iter().any(|file| !file.pad && file.len > 0 && file_path(folder, file).exists());
    if !anything {
        return Ok(Bitfield::new(info.geometry.piece_count()));
    }
    let progress = output.content_progress("checking", info.geometry.total_len());
    let control = Control { cancel: stop, progress: &|done| progress.update(done) };
    Ok(verify(info, folder, control)?.have)
}
