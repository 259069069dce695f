//! `bt-fast create`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bound::{Bound, Meter, phrase};
use super::exit::Failure;
use super::interrupt;
use super::options::{CreateOptions, Destination};
use super::output::Output;
use super::records::Record;
use crate::base::escape::printable;
use crate::base::units::{Bytes, Rate};
use crate::create::open::shown;
use crate::create::{Control, Created, Plan, piece_len, write};

pub(super) fn run(options: CreateOptions, output: &Output) -> Result<(), Failure> {
    let interrupted = interrupt::flag()?;
    let started = Instant::now();
    let mut settings = options.settings;
    settings.creation_date = options.with_date.then(unix_time);
    let name = settings.name_for(&options.path)?;
    let target = match options.destination {
        Destination::Default => Some(PathBuf::from(OsString::from_vec([&name, &b".torrent"[..]].concat()))),
        Destination::File(path) => Some(path),
        Destination::Stdout => None,
    };
    if let Some(target) = &target {
        write::check_output(target, options.overwrite)?;
    }
    let plan = Plan::new(&options.path, &settings, target.as_deref())?;
    warn_of_names(&plan, output);
    let place = target.as_deref().map_or_else(|| "-".to_owned(), shown);
    if options.dry_run {
        report_plan(&plan, &place, output);
        return Ok(());
    }
    let meter = Meter::start();
    let progress = output.content_progress("hashing", plan.scan.total_len);
    let created = plan.build(&settings, Control { cancel: &interrupted, progress: &|done| progress.update(done) })?;
    drop(progress);
    let bound = meter.bound(plan.scan.total_len);
    match &target {
        Some(target) => write::write_atomically(target, &created.bytes, options.overwrite)?,
        None => output.bytes(&created.bytes)?,
    }
    report(&plan, &created, &place, (started.elapsed(), bound), output);
    Ok(())
}

fn report_plan(plan: &Plan, place: &str, output: &Output) {
    let (name, geometry) = (printable(&plan.name), &plan.geometry);
    output.result(format_args!("{place}  {}", shape(plan)));
    output.record(&Record::Planned {
        name: &name,
        output: place,
        files: plan.scan.files.len(),
        piece_length: geometry.piece_len(),
        pieces: geometry.piece_count(),
        bytes: geometry.total_len(),
    });
}

fn report(plan: &Plan, created: &Created, place: &str, (took, bound): (Duration, Option<Bound>), output: &Output) {
    let (name, geometry) = (printable(&plan.name), &plan.geometry);
    for caveat in piece_len::caveats(geometry.piece_count(), created.bytes.len()) {
        output.warning(caveat);
    }
    let rate = Rate { bytes: geometry.total_len(), over: took };
    output.message(format_args!(
        "created {place}: {}, {:.1} s, {rate}{}",
        shape(plan),
        took.as_secs_f64(),
        phrase(bound)
    ));
    if place != "-" {
        output.result(format_args!("{}  {place}", created.info_hash));
    }
    output.record(&Record::Created {
        info_hash: created.info_hash.to_string(),
        output: place,
        name: &name,
        files: plan.scan.files.len(),
        piece_length: geometry.piece_len(),
        pieces: geometry.piece_count(),
        bytes: geometry.total_len(),
        seconds: took.as_secs_f64(),
        bound,
    });
}

/// `3 files, 1.50 GiB, 1536 pieces of 1 MiB`
fn shape(plan: &Plan) -> String {
    let geometry = &plan.geometry;
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}, {}, {} of {}",
        counted(plan.scan.files.len() as u64, "file"),
        Bytes(geometry.total_len()),
        counted(u64::from(geometry.piece_count()), "piece"),
        Bytes(u64::from(geometry.piece_len()))
    )
}

/// BEP 3: strings are UTF-8. Other names are kept as they are, so that the files are found again.
fn warn_of_names(plan: &Plan, output: &Output) {
    let names = plan.scan.files.iter().flat_map(|file| &file.elements).chain([&plan.name]);
    let mut broken = names.filter(|name| std::str::from_utf8(name).is_err());
    if let Some(first) = broken.next() {
        let more = broken.count();
        let and_more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let first = printable(first);
        output.warning(format_args!("name is not UTF-8: {first}{and_more}: other clients may write it differently"));
    }
}

/// Seconds since 1970; a clock before that counts as 1970.
fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
