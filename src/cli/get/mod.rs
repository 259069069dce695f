//! `bt-fast get`.

mod command;
mod download;
mod intake;
mod metadata_only;
mod seeding;
mod session;
mod tally;

use std::path::Path;
use std::sync::atomic::Ordering;

use command::Command;
use intake::Intake;
use session::Session;

use super::exit::Failure;
use super::interrupt::{self, Hangup};
use super::load::Purpose;
use super::options::{GetOptions, GetOutput, MetainfoSource};
use super::output::Output;
use super::transfer::{config, note_driver};
use crate::base::limits;
use crate::engine::Config;
use crate::engine::magnet::Listening;

pub(super) fn run(options: &GetOptions, output: &Output) -> Result<(), Failure> {
    let stop = interrupt::flag(Hangup::Ends)?;
    let config = session_config(options);
    if matches!(options.output, GetOutput::Content(_)) {
        note_driver(&options.engine, output);
    }
    let command = Command { options, stop: &stop, output };
    match (&options.output, &options.sources[..]) {
        (GetOutput::Content(folder), [source]) => download_one(command, source, folder, &config),
        (GetOutput::Content(folder), sources) => download_several(command, sources, folder, &config),
        (GetOutput::Metainfo(destination), [source]) => {
            metadata_only::save_metainfo(command, source, destination, &config)
        }
        // Refused by the options.
        (GetOutput::Metainfo(_), _) => Ok(()),
    }
}

/// Downloads the content of the only source.
fn download_one(command: Command<'_>, source: &MetainfoSource, folder: &Path, config: &Config) -> Result<(), Failure> {
    let session = Session::new(command, folder, config, 1);
    // Until the session starts, the fetch of the metadata listens for peers.
    let loaded = command.loader(config, Listening::Here, Purpose::Download).load(source)?;
    let source = session.prepare(loaded, source)?;
    session.is_loaded.store(true, Ordering::Relaxed);
    session.run(vec![source], None)?;
    session.take_tally().single()
}

/// Downloads the content of several sources in one session.
fn download_several(
    command: Command<'_>,
    sources: &[MetainfoSource],
    folder: &Path,
    config: &Config,
) -> Result<(), Failure> {
    let session = Session::new(command, folder, config, sources.len());
    let intake = Intake::new(&session, sources)?;
    if !intake.is_empty() {
        session.run(Vec::new(), Some(Box::new(|changes| intake.run(changes))))?;
    }
    session.take_tally().sum(session.torrent_count()).map(|line| command.output.message(line))
}

fn session_config(options: &GetOptions) -> Config {
    let config = config(&options.network, &options.engine, options.serving, limits::CONNECTIONS_GET_MAX);
    Config {
        // Each torrent has memory of its own for pieces.
        arena_len: config.arena_len / options.sources.len().max(1) as u64,
        write_mode: options.write_mode,
        preallocate: options.preallocate,
        keep_seeding: options.seed.is_some(),
        timeout: options.timeout,
        sequential: options.sequential,
        rates: options.rates,
        leeching_max: options.network.connections_max.unwrap_or(limits::CONNECTIONS_LEECHING_MAX),
        ..config
    }
}
