//! Dates as users write them.

use super::escape::printable;

const DAY_S: i64 = 86_400;
/// The last second of the year 9999.
const LATEST: i64 = 253_402_300_799;
const DATE_LEN: usize = "2026-11-30".len();
const CLOCK_LEN: usize = "12:00:00".len();

/// The text is not a date.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a date from 1970 to 9999: write 2026-11-30, 2026-11-30T12:00:00Z or @SECONDS")]
pub struct DateError(String);

/// Reads a date as seconds since 1970: `2026-11-30` (the start of the day in UTC), a time in the form of RFC 3339, or
/// `@1796040000`. Fractions of a second are dropped.
pub fn parse_date(text: &str) -> Result<i64, DateError> {
    let seconds = match text.strip_prefix('@') {
        Some(seconds) => number(seconds),
        None => calendar(text),
    };
    seconds.filter(|seconds| (0..=LATEST).contains(seconds)).ok_or_else(|| DateError(printable(text.as_bytes())))
}

/// Reads digits alone.
fn number(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Reads numbers of fixed lengths with a separator between them.
fn numbers<const N: usize>(text: &str, separator: char, lens: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (value, len) in numbers.iter_mut().zip(lens) {
        *value = parts.next().filter(|part| part.len() == len).and_then(number)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn calendar(text: &str) -> Option<i64> {
    let (date, time) = text.split_at_checked(DATE_LEN)?;
    let second = if time.is_empty() { 0 } else { second_of_day(time)? };
    Some(days_since_1970(date)? * DAY_S + second)
}

fn days_since_1970(date: &str) -> Option<i64> {
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_len = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=month_len).contains(&day) {
        return None;
    }
    // The Gregorian calendar in eras of 400 years that begin on 1 March, so that leap days end a year.
    let (month_from_march, year) = ((month + 9) % 12, year - i64::from(month <= 2));
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Reads the time of RFC 3339 with its separator and offset, as seconds after the start of the day in UTC.
fn second_of_day(text: &str) -> Option<i64> {
    let (clock, rest) = text.strip_prefix(['T', 't', ' '])?.split_at_checked(CLOCK_LEN)?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
            if zone.len() == fraction.len() {
                return None;
            }
            zone
        }
    };
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        ("+", zone) => offset(zone)?,
        ("-", zone) => -offset(zone)?,
        _ => return None,
    };
    (hour < 24 && minute < 60 && second < 60).then_some(3600 * hour + 60 * minute + second - offset)
}

fn offset(zone: &str) -> Option<i64> {
    let [hour, minute] = numbers(zone, ':', [2, 2])?;
    (hour < 24 && minute < 60).then_some(3600 * hour + 60 * minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::utc;

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2026-11-30", 1_795_996_800),
            ("2026-11-30T12:00:00Z", 1_796_040_000),
            ("2026-11-30 12:00:00.25z", 1_796_040_000),
            ("2026-11-30T13:30:00+01:30", 1_796_040_000),
            ("2026-11-29T23:00:00-13:00", 1_796_040_000),
            ("@1796040000", 1_796_040_000),
            ("9999-12-31T23:59:59Z", LATEST),
        ] {
            assert_eq!(parse_date(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "@",
            "@-1",
            "@253402300800",
            "@99999999999999999999",
            "today",
            "1969-12-31",
            "2026-02-29",
            "2100-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "2026-11-3",
            "2026-11-30T12:00:00",
            "2026-11-30T24:00:00Z",
            "2026-11-30T12:60:00Z",
            "2026-11-30T12:00:00.Z",
            "2026-11-30T12:00:00+1:00",
            "2026-11-30T12:00:00ZZ",
            "2026-11-3\u{e9}",
            "+026-11-30",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert!(parse_date(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates_agree_with_their_display() {
        for day in (0..=LATEST / DAY_S).step_by(97) {
            let text = utc(day * DAY_S);
            assert_eq!(parse_date(text.get(..DATE_LEN).unwrap()), Ok(day * DAY_S), "{text}");
        }
    }
}
