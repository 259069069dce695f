//! `bt-fast verify`.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::bound::{Meter, Speed, phrase};
use super::checks::Check;
use super::exit::{Exit, Failure};
use super::interrupt::{self, Hangup};
use super::metainfo_file::load_metainfo;
use super::options::VerifyOptions;
use super::output::Output;
use super::progress::ContentProgress;
use super::records::Record;
use crate::base::escape::{printable, shell_word};
use crate::base::units::{Bytes, Count, Rate, utc};
use crate::codec::metainfo::{FileEntry, Info, Metainfo};
use crate::create::foreign::foreign_files;
use crate::create::open::shown;
use crate::create::{Control, ExtraFiles, FileProblem, Problem, Report, extra_files, observe, verify};

/// Maximum number of ranges of bad pieces in text output; `--json` has all of them.
const RANGES_SHOWN_MAX: usize = 100;

pub(super) fn run(options: &VerifyOptions, output: &Output) -> Result<(), Failure> {
    let interrupted = interrupt::flag(Hangup::Ends)?;
    let started = Instant::now();
    let metainfo = load_metainfo(&options.torrent, &options.metainfo, output)?;
    let meter = Meter::start();
    let Outcome { report, remembered } = check(options, &metainfo, &interrupted, output)?;
    let extra = extra_files(&metainfo.info, &options.data, &options.torrent, &interrupted)?;
    let bound = if report.hashed_len == 0 { None } else { meter.bound(report.hashed_len) };
    show(&metainfo, &report, &extra, remembered, Speed { took: started.elapsed(), bound }, output);
    if report.is_match() {
        return Ok(());
    }
    let line = format!(
        "data does not match: {}: {}: {}",
        shown(&options.data),
        mismatch(&metainfo, &report),
        repair(options, &metainfo, &report, &interrupted)?
    );
    Err(Failure::new(Exit::Mismatch, line))
}

/// Counts the bad pieces and wrong files. If all pieces are right, the files alone are counted.
fn mismatch(metainfo: &Metainfo, report: &Report) -> String {
    let files = &metainfo.info.files;
    let piece_count = report.have.piece_count();
    let bad_count = piece_count - report.have.count();
    let wrong_count = report.problems.chunk_by(|a, b| a.file_index == b.file_index).count();
    let wrong = format!("{wrong_count} of {} wrong", Count(files.len() as u64, "file"));
    if bad_count > 0 {
        return format!("{bad_count} of {} bad, {wrong}", Count(piece_count as u64, "piece"));
    }
    let excess = |found: &FileProblem| match found.problem {
        Problem::Long { found_len } => Some(found_len.saturating_sub(files.get(found.file_index)?.len)),
        _ => None,
    };
    let excess = report.problems.iter().map(excess).try_fold(0u64, |sum, len| Some(sum.saturating_add(len?)));
    match excess {
        Some(len) => {
            let verb = if wrong_count == 1 { "has" } else { "have" };
            format!("{} {verb} {}", Count(wrong_count as u64, "file"), Count(len, "extra byte"))
        }
        None => format!("all pieces are right, but {wrong}"),
    }
}

/// Returns advice: the `get` command that repairs the content, or the obstacle to remove first.
fn repair(
    options: &VerifyOptions,
    metainfo: &Metainfo,
    report: &Report,
    interrupted: &AtomicBool,
) -> Result<String, Failure> {
    let info = &metainfo.info;
    if options.data.exists() && !options.data.is_dir() {
        return Ok(format!("it is not a folder: give the folder that holds '{}'", printable(&info.name)));
    }
    if report.have.is_empty() && is_content_itself(&options.data, info) {
        return Ok("it is the content itself: give the folder that holds it".to_owned());
    }
    let files = report.problems.iter().filter_map(|problem| info.files.get(problem.file_index));
    if let Some(path) = files.filter_map(|file| obstacle(&options.data, file)).next() {
        return Ok(format!("move {} away: a file or folder of the torrent belongs there", shown(&path)));
    }
    let is_long = report.problems.iter().any(|problem| matches!(problem.problem, Problem::Long { .. }));
    let control = Control { cancel: interrupted, progress: &|_| () };
    let is_foreign =
        || foreign_files(info, &options.data, &report.have, 0..info.files.len(), control).map(|some| !some.is_empty());
    let overwrite = if is_long || is_foreign()? { " --overwrite" } else { "" };
    let word = |path: &Path, placeholder: &str| {
        let bytes = path.as_os_str().as_bytes();
        // The shell would take a path that begins with a dash for a flag.
        let bytes = if bytes.starts_with(b"-") { [b"./", bytes].concat() } else { bytes.to_vec() };
        shell_word(&bytes).unwrap_or_else(|| placeholder.to_owned())
    };
    let (torrent, data) = (word(&options.torrent, "TORRENT"), word(&options.data, "DIR"));
    Ok(format!("repair it with bt-fast get {torrent} -o {data}{overwrite}"))
}

/// Whether `data` has the name of the torrent and holds one of its files.
fn is_content_itself(data: &Path, info: &Info) -> bool {
    let has_name = data.canonicalize().is_ok_and(|path| path.file_name() == Some(OsStr::from_bytes(&info.name)));
    let is_there = |file: &FileEntry| {
        let inner = file.path.get(1..).filter(|inner| !inner.is_empty());
        inner.is_some_and(|inner| {
            data.join(inner.iter().map(|name| OsStr::from_bytes(name)).collect::<PathBuf>()).is_file()
        })
    };
    has_name && info.files.iter().any(is_there)
}

/// Returns the first path below the data folder that keeps `get` from writing a file: a link, a device, a folder in
/// place of a file, or a file in place of a folder.
fn obstacle(data: &Path, file: &FileEntry) -> Option<PathBuf> {
    let mut path = data.to_owned();
    for (at, element) in (1..).zip(&file.path) {
        path.push(OsStr::from_bytes(element));
        let kind = fs::symlink_metadata(&path).ok()?.file_type();
        let fits = if at < file.path.len() { kind.is_dir() } else { kind.is_file() };
        if !fits {
            return Some(path);
        }
    }
    None
}

struct Outcome {
    report: Report,
    /// Start of the earlier check that is trusted, in seconds since 1970; `None` if the content was read.
    remembered: Option<i64>,
}

fn check(
    options: &VerifyOptions,
    metainfo: &Metainfo,
    interrupted: &AtomicBool,
    output: &Output,
) -> Result<Outcome, Failure> {
    let (info, info_hash) = (&metainfo.info, metainfo.info_hash);
    let check = Check::begin();
    if options.fast {
        let content = observe(info, &options.data);
        if let Some(date) = content.and_then(|content| check.recall(info_hash, &content)) {
            return Ok(Outcome { report: Report::all_right(info), remembered: Some(date) });
        }
        output.message("no earlier check, or the content has changed since: reading all of it");
    }
    let progress = ContentProgress::new(output, "checking", info.geometry.total_len());
    let control = Control { cancel: interrupted, progress: &|done| progress.update(done) };
    let report = verify(info, &options.data, None, control)?;
    drop(progress);
    check.conclude(metainfo, &report);
    Ok(Outcome { report, remembered: None })
}

fn show(
    metainfo: &Metainfo,
    report: &Report,
    extra: &ExtraFiles,
    remembered: Option<i64>,
    Speed { took, bound }: Speed,
    output: &Output,
) {
    let info = &metainfo.info;
    for problem in &report.problems {
        show_problem(metainfo, problem, output);
    }
    show_extra(extra, output);
    let bad_ranges = report.bad_ranges(&info.geometry);
    if !bad_ranges.is_empty() {
        output.result(format_args!("bad pieces: {}", shown_ranges(&bad_ranges)));
    }
    match remembered {
        Some(date) => output.message(format_args!(
            "remembered check of {}: {} is right, {}: no file has changed since",
            utc(date),
            printable(&info.name),
            Bytes(info.geometry.total_len())
        )),
        None => output.message(format_args!(
            "checked {}: {} of {} right, {}",
            printable(&info.name),
            report.have.count(),
            Count(report.have.piece_count() as u64, "piece"),
            match report.hashed_len {
                0 => "no file was found".to_owned(),
                bytes => format!(
                    "{}, {:.1} s, {}{}",
                    Bytes(bytes),
                    took.as_secs_f64(),
                    Rate { bytes, over: took },
                    phrase(bound)
                ),
            }
        )),
    }
    output.record(&Record::Verified {
        info_hash: metainfo.info_hash.to_string(),
        is_match: report.is_match(),
        pieces: info.geometry.piece_count(),
        good_pieces: report.have.count(),
        bad_pieces: bad_ranges.iter().map(|range| [*range.start(), *range.end()]).collect(),
        extra_files: extra.count,
        remembered,
        bytes: if remembered.is_some() { info.geometry.total_len() } else { report.hashed_len },
        seconds: took.as_secs_f64(),
        bound,
    });
}

fn show_problem(metainfo: &Metainfo, problem: &FileProblem, output: &Output) {
    let Some(file) = metainfo.info.files.get(problem.file_index) else { return };
    let path = printable(&file.path.join(&b'/'));
    let (word, detail, found_length, pieces) = match problem.problem {
        Problem::Missing => ("missing", String::new(), None, None),
        Problem::NotAFile(kind) => ("not_a_file", format!(" (a {kind})"), None, None),
        Problem::Short { found_len } => {
            ("short", format!(" ({found_len} of {} bytes)", file.len), Some(found_len), None)
        }
        Problem::Long { found_len } => {
            let extra = found_len.saturating_sub(file.len);
            ("long", format!(" ({extra} extra bytes after {})", file.len), Some(found_len), None)
        }
        Problem::Altered { piece_count } => ("altered", format!(" (pieces: {piece_count})"), None, Some(piece_count)),
    };
    output.result(format_args!("{:<10} {path}{detail}", word.replace('_', " ")));
    output.record(&Record::Problem { path: &path, problem: word, length: file.len, found_length, pieces });
}

fn show_extra(extra: &ExtraFiles, output: &Output) {
    for path in &extra.listed {
        let path = shown(path);
        output.result(format_args!("{:<10} {path}", "extra"));
        output.record(&Record::Extra { path: &path });
    }
    let more = extra.count - extra.listed.len();
    if more > 0 {
        output.result(format_args!("{:<10} {more} more", "extra"));
    }
    if let Some(gap) = &extra.gap {
        output.warning(gap);
    }
}

/// `3-5, 9`
fn shown_ranges(ranges: &[RangeInclusive<u32>]) -> String {
    let mut text = String::new();
    for (at, range) in ranges.iter().take(RANGES_SHOWN_MAX).enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        let _ = match (range.start(), range.end()) {
            (first, last) if first == last => write!(text, "{comma}{first}"),
            (first, last) => write!(text, "{comma}{first}-{last}"),
        };
    }
    if ranges.len() > RANGES_SHOWN_MAX {
        let _ = write!(text, " and {} more ranges", ranges.len() - RANGES_SHOWN_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_short_and_capped() {
        assert_eq!(shown_ranges(&[3..=5, 9..=9]), "3-5, 9");
        let many: Vec<_> = (0..150).map(|at| at * 2..=at * 2).collect();
        assert!(shown_ranges(&many).ends_with("196, 198 and 50 more ranges"));
    }
}
