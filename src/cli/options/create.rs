//! Resolves the arguments of `create`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::{Destination, announce_tiers, check_stdout, create_piece_len, date, destination, usage, web_seed_urls};
use crate::base::escape::{printable, printed};
use crate::base::limits;
use crate::cli::args::CreateArgs;
use crate::cli::exit::Failure;
use crate::codec::metainfo::Attributes;
use crate::create::{Filters, Settings};

#[derive(Debug)]
pub struct CreateOptions {
    pub source: ContentSource,
    pub destination: Destination,
    /// Settings without a creation date.
    pub settings: Settings,
    pub date: CreationDate,
    /// A torrent whose settings complete these.
    pub like: Option<PathBuf>,
    pub dry_run: bool,
    pub overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreationDate {
    /// The start of the work.
    Clock,
    /// Seconds since 1970.
    Given(i64),
    None,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ContentSource {
    /// A file or folder.
    Path(PathBuf),
    /// Standard input; the settings have a name.
    Stdin,
}

pub(super) fn resolve_create(args: CreateArgs, json: bool) -> Result<CreateOptions, Failure> {
    let source = content_source(&args)?;
    let filters = filters(&args)?;
    let destination = destination(args.output);
    if !args.dry_run {
        check_stdout(&destination, json)?;
    }
    let date = match args.date.date.as_deref().map(date).transpose()? {
        Some(date) => CreationDate::Given(date),
        None if args.date.no_date => CreationDate::None,
        None => CreationDate::Clock,
    };
    let settings = Settings {
        name: args.name.map(content_name).transpose()?,
        filters,
        piece_len: args.piece_length.as_deref().map(create_piece_len).transpose()?,
        attributes: Attributes {
            private: args.private,
            source: args.source,
            tiers: announce_tiers(&args.announce)?,
            web_seeds: web_seed_urls(&args.web_seed)?,
            comment: args.comment,
            created_by: (!args.no_creator).then(|| concat!("bt-fast ", env!("CARGO_PKG_VERSION")).to_owned()),
            creation_date: None,
        },
    };
    Ok(CreateOptions {
        source,
        destination,
        settings,
        date,
        like: args.like,
        dry_run: args.dry_run,
        overwrite: args.force,
    })
}

fn filters(args: &CreateArgs) -> Result<Filters, Failure> {
    let filters = Filters::new(&args.filters.glob).map_err(|error| usage(format_args!("-g: {}", printed(error))))?;
    Ok(filters.with_junk(args.filters.include_junk))
}

fn content_source(args: &CreateArgs) -> Result<ContentSource, Failure> {
    if args.path != Path::new("-") {
        return Ok(ContentSource::Path(args.path.clone()));
    }
    let refusal = if args.name.is_none() {
        "create -: standard input has no name: give one with -n"
    } else if !args.filters.glob.is_empty() {
        "create -: -g needs a folder: leave it out"
    } else if args.dry_run {
        "create -: --dry-run can't read standard input: leave it out"
    } else {
        return Ok(ContentSource::Stdin);
    };
    Err(usage(refusal))
}

/// Checks that a name is a single path element, as readers of the metainfo require.
fn content_name(name: OsString) -> Result<Vec<u8>, Failure> {
    let name = name.into_vec();
    let refused = matches!(&name[..], b"" | b"." | b"..")
        || name.len() > limits::PATH_ELEMENT_LEN_MAX
        || name.iter().any(|&byte| byte == b'/' || byte == 0);
    if refused {
        return Err(usage(format_args!("-n: '{}': give a file name without '/'", printable(&name))));
    }
    Ok(name)
}
