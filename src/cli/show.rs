//! `bt-fast show`.

use super::exit::Failure;
use super::interrupt::{self, Hangup};
use super::load::{Loader, Purpose};
use super::magnet::link;
use super::options::{ServingOptions, ShowOptions};
use super::output::Output;
use super::records::{Shown, ShownFile, ShownSwarm};
use super::transfer::config;
use crate::base::escape::printable;
use crate::base::limits;
use crate::base::units::{Bytes, Count, utc};
use crate::codec::metainfo::{FileEntry, Metainfo};
use crate::codec::tracker_http::ScrapedSwarm;
use crate::engine::Config;
use crate::engine::magnet::Listening;
use crate::engine::network::egress::Egress;
use crate::engine::trackers::scrape::scrape;
use crate::io::{Device, StartError};

pub(super) fn run(options: &ShowOptions, output: &Output) -> Result<(), Failure> {
    let ShowOptions { source, scrape, network, timeout, engine } = options;
    let stop = interrupt::flag(Hangup::Ends)?;
    let config = config(network, engine, ServingOptions::default(), limits::CONNECTIONS_GET_MAX);
    let loader = Loader {
        network,
        limits: &engine.metainfo,
        config: &Config { timeout: *timeout, ..config },
        listening: Listening::Here,
        purpose: Purpose::MetadataOnly,
        stop: &stop,
        output,
    };
    let metainfo = loader.load(source)?.metainfo;
    let swarms = if *scrape { scraped(&metainfo, network.device)? } else { Vec::new() };
    if output.is_json() {
        output.record(&record(&metainfo, swarms));
        return Ok(());
    }
    print(&metainfo, output);
    for ShownSwarm { tracker, seeders, leechers, completed, error } in swarms {
        let answer = error.unwrap_or_else(|| {
            let count = |number: Option<u64>, one| Count(number.unwrap_or_default(), one);
            let (seeders, leechers) = (count(seeders, "seeder"), count(leechers, "leecher"));
            format!("{seeders}, {leechers}, {} downloaded", completed.unwrap_or_default())
        });
        output.result(format_args!("{:<12} {tracker}: {answer}", "swarm"));
    }
    Ok(())
}

/// Asks each tracker for the swarm.
fn scraped(metainfo: &Metainfo, device: Option<Device>) -> Result<Vec<ShownSwarm>, Failure> {
    let urls = metainfo.tiers.concat();
    let egress = Egress { device, local: None };
    let answers = scrape(&urls, metainfo.info_hash, egress).map_err(StartError::from)?;
    let shown = |(tracker, answer): (String, Result<ScrapedSwarm, String>)| {
        let swarm = answer.as_ref().ok().copied();
        ShownSwarm {
            tracker,
            seeders: swarm.map(|swarm| swarm.seeders),
            leechers: swarm.map(|swarm| swarm.leechers),
            completed: swarm.map(|swarm| swarm.completed),
            error: answer.err().map(|error| printable(error.as_bytes())),
        }
    };
    Ok(urls.into_iter().zip(answers).map(shown).collect())
}

fn record(metainfo: &Metainfo, swarms: Vec<ShownSwarm>) -> Shown<'_> {
    let info = &metainfo.info;
    let text = |text: &Option<String>| text.as_ref().map(|text| printable(text.as_bytes()));
    let mut number = 0;
    Shown {
        name: printable(&info.name),
        info_hash: metainfo.info_hash.to_string(),
        piece_length: info.geometry.piece_len(),
        piece_count: info.geometry.piece_count(),
        total_length: info.geometry.total_len(),
        files: info
            .files
            .iter()
            .map(|file| {
                number += usize::from(!file.pad);
                ShownFile {
                    number: (!file.pad).then_some(number),
                    path: path_of(file),
                    length: file.len,
                    pad: file.is_padding(),
                    symlink: file.symlink.as_deref().map(printable),
                }
            })
            .collect(),
        private: info.private,
        trackers: &metainfo.tiers,
        web_seeds: &metainfo.web_seeds,
        comment: text(&metainfo.comment),
        created_by: text(&metainfo.created_by),
        creation_date: metainfo.creation_date,
        source: info.source.as_deref().map(printable),
        magnet: link(metainfo, &[]),
        warnings: &metainfo.warnings,
        swarms,
    }
}

fn print(metainfo: &Metainfo, output: &Output) {
    let info = &metainfo.info;
    let geometry = &info.geometry;
    let row = |label: &str, value: &str| output.result(format_args!("{label:<12} {value}"));
    row("name", &printable(&info.name));
    row("info-hash", &metainfo.info_hash.to_string());
    row("length", &format!("{} ({} bytes)", Bytes(geometry.total_len()), geometry.total_len()));
    row("pieces", &format!("{} of {}", geometry.piece_count(), Bytes(u64::from(geometry.piece_len()))));
    row("private", if info.private { "yes" } else { "no" });
    for (at, tier) in metainfo.tiers.iter().enumerate() {
        row("trackers", &format!("tier {}: {}", at + 1, tier.join(" ")));
    }
    metainfo.web_seeds.iter().for_each(|url| row("web seed", url));
    let rows = [("comment", &metainfo.comment), ("created by", &metainfo.created_by)];
    for (label, text) in rows {
        if let Some(text) = text {
            row(label, text);
        }
    }
    if let Some(date) = metainfo.creation_date {
        row("created", &utc(date));
    }
    if let Some(source) = &info.source {
        row("source", &printable(source));
    }
    row("magnet", &link(metainfo, &[]));
    row("files", &info.files.iter().filter(|file| !file.pad).count().to_string());
    let mut number = 0;
    for file in &info.files {
        let (len, path) = (Bytes(file.len).to_string(), path_of(file));
        if let Some(target) = &file.symlink {
            output.result(format_args!("{:>5} {:>12} {path} -> {}", "link", "", printable(target)));
        } else if file.pad {
            output.result(format_args!("{:>5} {len:>12} {path}", "pad"));
        } else {
            number += 1;
            output.result(format_args!("{number:>5} {len:>12} {path}"));
        }
    }
}

fn path_of(file: &FileEntry) -> String {
    printable(&file.path.join(&b'/'))
}
