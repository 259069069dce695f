//! Resolves the arguments of `edit`.

use std::path::PathBuf;

use super::{Destination, announce_tiers, check_stdout, date, destination, metainfo_limits, usage, web_seed_urls};
use crate::cli::args::EditArgs;
use crate::cli::exit::Failure;
use crate::codec::metainfo::{Change, Edit, MetainfoLimits, TrackerEdit};

#[derive(Debug)]
pub struct EditOptions {
    pub torrent: PathBuf,
    pub destination: Destination,
    pub edit: Edit,
    pub info_hash: InfoHashPolicy,
    pub dry_run: bool,
    /// Replace an existing file of `destination`.
    pub overwrite: bool,
    pub metainfo: MetainfoLimits,
}

/// Whether an edit may change the info-hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InfoHashPolicy {
    Keep,
    MayChange,
}

pub(super) fn resolve_edit(args: EditArgs, json: bool) -> Result<EditOptions, Failure> {
    let destination = destination(args.output);
    if !args.dry_run {
        check_stdout(&destination, json)?;
    }
    let trackers = if args.no_announce {
        TrackerEdit::Replace(Vec::new())
    } else if !args.add_announce.is_empty() {
        TrackerEdit::Add(announce_tiers(&args.add_announce)?)
    } else if !args.announce.is_empty() {
        TrackerEdit::Replace(announce_tiers(&args.announce)?)
    } else {
        TrackerEdit::Keep
    };
    let web_seeds = Some(web_seed_urls(&args.web_seed)?).filter(|urls| !urls.is_empty());
    let edit = Edit {
        trackers,
        web_seeds: change(web_seeds, args.no_web_seed),
        comment: change(args.comment, args.no_comment),
        creation_date: change(args.date.date.as_deref().map(date).transpose()?, args.date.no_date),
        private: change(args.info.private.then_some(()), args.info.public),
        source: change(args.info.source, args.info.no_source),
    };
    if edit == Edit::default() {
        return Err(usage("edit: no change is given: give one, such as -a URL: see bt-fast edit --help"));
    }
    Ok(EditOptions {
        torrent: args.torrent,
        destination,
        edit,
        info_hash: if args.info.new_hash { InfoHashPolicy::MayChange } else { InfoHashPolicy::Keep },
        dry_run: args.dry_run,
        overwrite: args.force,
        metainfo: metainfo_limits(&args.limits),
    })
}

fn change<T>(value: Option<T>, removed: bool) -> Change<T> {
    match value {
        Some(value) => Change::Set(value),
        None if removed => Change::Remove,
        None => Change::Keep,
    }
}
