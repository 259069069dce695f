//! `bt-fast show`.

use super::exit::Failure;
use super::magnet::link;
use super::metainfo_file::load_metainfo;
use super::options::ShowOptions;
use super::output::Output;
use super::records::{Shown, ShownFile};
use crate::base::escape::printable;
use crate::base::units::Bytes;
use crate::codec::metainfo::{FileEntry, Metainfo};

pub(super) fn run(options: &ShowOptions, output: &Output) -> Result<(), Failure> {
    let metainfo = load_metainfo(&options.torrent, &options.metainfo, output)?;
    if output.is_json() {
        output.record(&record(&metainfo));
    } else {
        print(&metainfo, output);
    }
    Ok(())
}

fn record(metainfo: &Metainfo) -> Shown<'_> {
    let info = &metainfo.info;
    let text = |text: &Option<String>| text.as_ref().map(|text| printable(text.as_bytes()));
    Shown {
        name: printable(&info.name),
        info_hash: metainfo.info_hash.to_string(),
        piece_length: info.geometry.piece_len(),
        piece_count: info.geometry.piece_count(),
        total_length: info.geometry.total_len(),
        files: info
            .files
            .iter()
            .map(|file| ShownFile { path: path_of(file), length: file.len, pad: file.pad })
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
        text.iter().for_each(|text| row(label, text));
    }
    metainfo.creation_date.iter().for_each(|&date| row("created", &utc(date)));
    info.source.iter().for_each(|source| row("source", &printable(source)));
    row("magnet", &link(metainfo, &[]));
    row("files", &info.files.iter().filter(|file| !file.pad).count().to_string());
    for file in info.files.iter().filter(|file| !file.pad) {
        output.result(format_args!("{:>12} {}", Bytes(file.len).to_string(), path_of(file)));
    }
}

fn path_of(file: &FileEntry) -> String {
    printable(&file.path.join(&b'/'))
}

/// Seconds since 1970 as `2026-01-31 12:00:00 UTC`; the bare number where there is no such year.
pub(super) fn utc(unix_time: i64) -> String {
    const DAY_S: i64 = 86_400;
    // Years from -9999 to 9999, so that the arithmetic below cannot overflow.
    if !(-377_705_116_800..=253_402_300_799).contains(&unix_time) {
        return unix_time.to_string();
    }
    let (days, second) = (unix_time.div_euclid(DAY_S), unix_time.rem_euclid(DAY_S));
    // Gregorian calendar in eras of 400 years that begin on 1 March: leap days fall at the end of a year.
    let day = days + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_follow_the_calendar() {
        for (unix_time, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_735_689_600, "2025-01-01 00:00:00 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (i64::MAX, "9223372036854775807"),
        ] {
            assert_eq!(utc(unix_time), text);
        }
    }
}
