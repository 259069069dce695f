//! `bt-fast create`.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::bound::{Meter, Speed, phrase};
use super::checks::{Check, unix_time};
use super::exit::Failure;
use super::identity::{Identity, Stream, private_caveat};
use super::interrupt::{self, Hangup};
use super::metainfo_file::{default_output, load_metainfo};
use super::options::{ContentSource, CreateOptions, CreationDate, Destination, usage};
use super::output::Output;
use super::progress::ContentProgress;
use super::records::Record;
use crate::base::escape::printable;
use crate::base::units::{Bytes, Count, Rate};
use crate::base::{Geometry, PieceHash};
use crate::codec::metainfo::{Attributes, Metainfo, MetainfoLimits};
use crate::create::open::shown;
use crate::create::{Control, Created, Plan, Settings, create_from_stream, piece_len, write};

pub(super) fn run(options: CreateOptions, output: &Output) -> Result<(), Failure> {
    let interrupted = interrupt::flag(Hangup::Ends)?;
    let started = Instant::now();
    let mut settings = options.settings;
    settings.attributes.creation_date = match options.date {
        CreationDate::Clock => Some(unix_time()),
        CreationDate::Given(date) => Some(date),
        CreationDate::None => None,
    };
    if let Some(like) = &options.like {
        complete(&mut settings, like, output)?;
    }
    let path = match &options.source {
        ContentSource::Path(path) => Some(path),
        ContentSource::Stdin => None,
    };
    let name = settings.name_for(path.map_or(Path::new("-"), |path| path))?;
    let target = match options.destination {
        Destination::Default => Some(default_output(&name)?),
        Destination::File(path) => Some(path),
        Destination::Stdout => None,
    };
    if let Some(target) = &target
        && !options.dry_run
    {
        write::check_output(target, options.overwrite)?;
    }
    let place = target.as_deref().map_or_else(|| "-".to_owned(), shown);
    let mut junk_count = 0;
    let meter = Meter::start();
    let created = if let Some(path) = path {
        let plan = Plan::new(path, &settings, target.as_deref())?;
        junk_count = plan.scan.junk_count;
        report_junk(junk_count, output);
        if options.dry_run {
            let existing = target.as_deref().filter(|target| target.exists());
            let overwrite = if options.overwrite { Overwrite::Given } else { Overwrite::NotGiven };
            report_existing(existing, overwrite, output);
            report_plan(&plan, &settings.attributes, &place, existing, output);
            return Ok(());
        }
        let progress = ContentProgress::new(output, "hashing", plan.scan.total_len);
        let check = Check::begin();
        let created =
            plan.build(&settings, Control { cancel: &interrupted, progress: &|done| progress.update(done) })?;
        check.remember(created.info_hash, &plan.observation());
        created
    } else {
        let progress = ContentProgress::new(output, "hashing", None);
        let control = Control { cancel: &interrupted, progress: &|done| progress.update(done) };
        create_from_stream(io::stdin(), "standard input", &settings, control)?
    };
    let bound = meter.bound(created.info.geometry.total_len());
    match &target {
        Some(target) => write::write_atomically(target, &created.bytes, options.overwrite)?,
        None => output.bytes(&created.bytes)?,
    }
    let speed = Speed { took: started.elapsed(), bound };
    report(&created, &settings.attributes, junk_count, &place, speed, output);
    Ok(())
}

/// Takes the settings that are not given from another torrent.
fn complete(settings: &mut Settings, like: &Path, output: &Output) -> Result<(), Failure> {
    let Metainfo { info, tiers, web_seeds, .. } = load_metainfo(like, &MetainfoLimits::default(), output)?;
    settings.piece_len.get_or_insert(info.geometry.piece_len());
    let attributes = &mut settings.attributes;
    attributes.private |= info.private;
    if attributes.tiers.is_empty() {
        attributes.tiers = tiers;
    }
    if attributes.web_seeds.is_empty() {
        attributes.web_seeds = web_seeds;
    }
    if attributes.source.is_none()
        && let Some(source) = info.source
    {
        let not_text = |_| {
            let place = shown(like);
            usage(format_args!("--like: {place}: its source is not UTF-8 text: give another source with -s"))
        };
        attributes.source = Some(String::from_utf8(source).map_err(not_text)?);
    }
    Ok(())
}

/// Whether `-f` is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overwrite {
    Given,
    NotGiven,
}

/// Reports the effect on an existing output.
fn report_existing(existing: Option<&Path>, overwrite: Overwrite, output: &Output) {
    let Some(existing) = existing.map(shown) else { return };
    match overwrite {
        Overwrite::Given => output.message(format_args!("output exists: {existing}: it would be replaced")),
        Overwrite::NotGiven => output.message(format_args!("output exists: {existing}: -f would replace it")),
    }
}

fn report_plan(plan: &Plan, attributes: &Attributes, place: &str, existing: Option<&Path>, output: &Output) {
    let (name, geometry) = (printable(&plan.name), &plan.geometry);
    let names = plan.scan.files.iter().flat_map(|file| &file.elements).chain([&plan.name]);
    let hashes_len = geometry.piece_count() as usize * size_of::<PieceHash>();
    let caveats = name_caveat(names).into_iter().chain(private_caveat(attributes.private, &attributes.tiers));
    let warnings = warnings(caveats, geometry, hashes_len, output);
    output.result(format_args!("{place}  {}", shape(plan.scan.files.len(), geometry)));
    output.record(&Record::Planned {
        name: &name,
        output: place,
        files: plan.scan.files.len(),
        junk_left_out: plan.scan.junk_count,
        piece_length: geometry.piece_len(),
        pieces: geometry.piece_count(),
        bytes: geometry.total_len(),
        output_exists: existing.is_some(),
        warnings: &warnings,
    });
}

fn report(
    created: &Created,
    attributes: &Attributes,
    junk_count: usize,
    place: &str,
    Speed { took, bound }: Speed,
    output: &Output,
) {
    let info = &created.info;
    let (name, geometry) = (printable(&info.name), &info.geometry);
    let names = info.files.iter().flat_map(|file| file.path.iter().skip(1)).chain([&info.name]);
    let caveats = name_caveat(names).into_iter().chain(private_caveat(attributes.private, &attributes.tiers));
    let warnings = warnings(caveats, geometry, created.bytes.len(), output);
    let rate = Rate { bytes: geometry.total_len(), over: took };
    let shape = shape(info.files.len(), geometry);
    output.message(format_args!("created {place}: {shape}, {:.1} s, {rate}{}", took.as_secs_f64(), phrase(bound)));
    let identity = Identity::of(created.info_hash, info, &attributes.tiers, &attributes.web_seeds);
    identity.print(if place == "-" { Stream::Stderr } else { Stream::Stdout }, output);
    output.record(&Record::Created {
        info_hash: identity.info_hash.to_string(),
        magnet: identity.magnet.as_deref(),
        output: place,
        name: &name,
        files: info.files.len(),
        junk_left_out: junk_count,
        piece_length: geometry.piece_len(),
        pieces: geometry.piece_count(),
        bytes: geometry.total_len(),
        seconds: took.as_secs_f64(),
        warnings: &warnings,
        bound,
    });
}

/// `3 files, 1.50 GiB, 1536 pieces of 1 MiB`
fn shape(file_count: usize, geometry: &Geometry) -> String {
    format!(
        "{}, {}, {} of {}",
        Count(file_count as u64, "file"),
        Bytes(geometry.total_len()),
        Count(u64::from(geometry.piece_count()), "piece"),
        Bytes(u64::from(geometry.piece_len()))
    )
}

fn report_junk(count: usize, output: &Output) {
    if count > 0 {
        let files = Count(count as u64, "junk file");
        output.message(format_args!("left out {files}: give --include-junk to include them"));
    }
}

/// Warns of names that are not UTF-8, as BEP 3 demands. They are kept as they are, so that the files are found again.
fn name_caveat<'a>(names: impl IntoIterator<Item = &'a Vec<u8>>) -> Option<String> {
    let mut broken = names.into_iter().filter(|name| std::str::from_utf8(name).is_err());
    let first = printable(broken.next()?);
    let more = broken.count();
    let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!("name is not UTF-8: {first}{and_more}: other clients may write it differently"))
}

/// Prints and returns the warnings about a torrent with this geometry and a `.torrent` of at least `metainfo_len`
/// bytes.
fn warnings(
    caveats: impl IntoIterator<Item = String>,
    geometry: &Geometry,
    metainfo_len: usize,
    output: &Output,
) -> Vec<String> {
    let mut warnings = Vec::from_iter(caveats);
    warnings.extend(piece_len::caveats(geometry, metainfo_len));
    warnings.iter().for_each(|warning| output.warning(warning));
    warnings
}
