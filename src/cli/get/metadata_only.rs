//! `get --metadata-only`: saves the `.torrent` of a link or URL.

use super::command::Command;
use crate::base::escape::printable;
use crate::base::units::Bytes;
use crate::cli::exit::{Exit, Failure};
use crate::cli::load::{Loaded, Purpose};
use crate::cli::metainfo_file::default_output;
use crate::cli::options::{Destination, MetainfoSource};
use crate::cli::output::Output;
use crate::cli::records::Record;
use crate::create::error::WriteError;
use crate::create::open::shown;
use crate::create::write::{check_output, write_atomically};
use crate::engine::Config;
use crate::engine::magnet::Listening;

/// Loads the torrent and writes its `.torrent`.
pub(super) fn save_metainfo(
    command: Command<'_>,
    source: &MetainfoSource,
    destination: &Destination,
    config: &Config,
) -> Result<(), Failure> {
    if let Destination::File(path) = destination {
        check_output(path, false).map_err(unsaved)?;
    }
    let loaded = command.loader(config, Listening::Here, Purpose::MetadataOnly).load(source)?;
    save(&loaded, destination, command.output)
}

fn save(loaded: &Loaded, destination: &Destination, output: &Output) -> Result<(), Failure> {
    let Loaded { metainfo, since, .. } = loaded;
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
