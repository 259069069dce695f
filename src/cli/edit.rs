//! `bt-fast edit`.

use super::exit::{Exit, Failure};
use super::identity::{Identity, Stream, private_caveat};
use super::metainfo_file::{decode_torrent, read_torrent};
use super::options::{Destination, EditOptions, InfoHashPolicy, usage};
use super::output::Output;
use super::records::{Edited, Record};
use crate::base::escape::printable;
use crate::base::limits::METAINFO_LEN_MAX;
use crate::base::units::{Bytes, utc};
use crate::codec::metainfo::{Metainfo, MetainfoError};
use crate::create::open::shown;
use crate::create::write;

pub(super) fn run(options: &EditOptions, output: &Output) -> Result<(), Failure> {
    let place = shown(&options.torrent);
    let bad = |error: MetainfoError| Failure::new(Exit::Failed, format_args!("bad torrent: {place}: {error}"));
    let bytes = read_torrent(&options.torrent)?;
    let old = decode_torrent(&options.torrent, &bytes, &options.metainfo, output)?;
    if options.info_hash == InfoHashPolicy::Keep && options.edit.changes_info(&old.info) {
        return Err(usage(format_args!(
            "private and source are part of the info-hash: {place}: give --new-hash to make a new torrent, which peers \
             of this one do not find"
        )));
    }
    let edited = options.edit.apply(&bytes, &old, &options.metainfo).map_err(bad)?;
    let new = Metainfo::decode(&edited, &options.metainfo).map_err(bad)?;
    if edited.len() as u64 > METAINFO_LEN_MAX {
        let (len, max) = (Bytes(edited.len() as u64), Bytes(METAINFO_LEN_MAX));
        let remedy = "give fewer trackers or a shorter comment";
        let line = format_args!("the torrent would be {len}: {place}: at most {max}: {remedy}");
        return Err(Failure::new(Exit::Failed, line));
    }
    if !options.dry_run {
        write_to(options, &bytes, &edited, output)?;
    }
    report(options, &old, &new, output);
    Ok(())
}

fn write_to(options: &EditOptions, old: &[u8], edited: &[u8], output: &Output) -> Result<(), Failure> {
    match &options.destination {
        Destination::Default if old == edited => Ok(()),
        Destination::Default => Ok(write::replace(&options.torrent, edited)?),
        Destination::File(path) => Ok(write::write_atomically(path, edited, options.overwrite)?),
        Destination::Stdout => output.bytes(edited),
    }
}

fn report(options: &EditOptions, old: &Metainfo, new: &Metainfo, output: &Output) {
    let caveat = private_caveat(new.info.private, &new.tiers);
    if let Some(caveat) = &caveat {
        output.warning(caveat);
    }
    let (place, stream) = match &options.destination {
        Destination::Default => (shown(&options.torrent), Stream::Stdout),
        Destination::File(path) => (shown(path), Stream::Stdout),
        Destination::Stdout if options.dry_run => ("-".to_owned(), Stream::Stdout),
        Destination::Stdout => ("-".to_owned(), Stream::Stderr),
    };
    let (before, after) = (values(old), values(new));
    let changes: Vec<Edited> = before
        .into_iter()
        .zip(after)
        .filter(|(before, after)| before.text != after.text)
        .map(|(before, after)| Edited { field: before.name, old: before.text, new: after.text })
        .collect();
    let done = if options.dry_run { "would change" } else { "changed" };
    match changes.len() {
        0 => output.message(format_args!("{place}: the torrent has these values already")),
        _ => output.message(format_args!("{done} {place}:")),
    }
    if !output.is_quiet() {
        for Edited { field, old, new } in &changes {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            stream.line(output, field, &format!("{} -> {}", text(old), text(new)));
        }
        if old.info_hash != new.info_hash {
            stream.line(output, "old hash", &old.info_hash.to_string());
        }
    }
    let identity = Identity::of(new.info_hash, &new.info, &new.tiers, &new.web_seeds);
    identity.print(stream, output);
    output.record(&Record::Edited {
        info_hash: identity.info_hash.to_string(),
        old_info_hash: (old.info_hash != new.info_hash).then(|| old.info_hash.to_string()),
        output: &place,
        magnet: identity.magnet.as_deref(),
        changes: &changes,
        dry_run: options.dry_run,
        warnings: caveat.as_slice(),
    });
}

/// A value that `edit` can change, as text; `None` if the torrent does not have it.
struct Value {
    name: &'static str,
    text: Option<String>,
}

fn values(metainfo: &Metainfo) -> [Value; 6] {
    let present = |text: String| (!text.is_empty()).then_some(text);
    let tiers: Vec<String> = metainfo.tiers.iter().map(|tier| tier.join(",")).collect();
    let text = |text: &[u8]| printable(text);
    [
        Value { name: "trackers", text: present(tiers.join(" ")) },
        Value { name: "web seeds", text: present(metainfo.web_seeds.join(" ")) },
        Value { name: "comment", text: metainfo.comment.as_ref().map(|comment| text(comment.as_bytes())) },
        Value { name: "date", text: metainfo.creation_date.map(utc) },
        Value { name: "private", text: metainfo.info.private.then(|| "yes".to_owned()) },
        Value { name: "source", text: metainfo.info.source.as_deref().map(text) },
    ]
}
