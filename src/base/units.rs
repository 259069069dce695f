//! Sizes, rates, durations and dates as users write and read them.

use std::fmt;
use std::time::Duration;

use super::escape::printable;

/// The text is not a size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size: write bytes, or 16K, 4MiB, 2^22")]
pub struct SizeError(String);

/// Reads a number of bytes: `65536`, `64K`, `4M`, `4MiB`, `1G`, `2^22`. Letters mean powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let refuse = || SizeError(text.to_owned());
    if let Some(exponent) = text.strip_prefix("2^") {
        let exponent: u32 = exponent.parse().map_err(|_| refuse())?;
        return 1u64.checked_shl(exponent).ok_or_else(refuse);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let unit = unit.to_ascii_lowercase();
    let letter =
        unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b').filter(|rest| rest.is_empty())).unwrap_or(&unit);
    let shift = match letter {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(refuse()),
    };
    number.checked_mul(1 << shift).ok_or_else(refuse)
}

/// The text is not a time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time: write seconds, or 500ms, 90s, 30m, 12h, 7d")]
pub struct DurationError(String);

/// Reads a time: `90`, `500ms`, `90s`, `30m`, `12h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError(printable(text.as_bytes()));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(refuse()),
    };
    let millis = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    // At most a century, so that it can be added to any time without an overflow.
    millis.filter(|&millis| millis <= 100 * 366 * 24 * 3600 * 1000).map(Duration::from_millis).ok_or_else(refuse)
}

/// Shows bytes with a binary unit: `512 B`, `1.50 MiB`. The alternate form `{:#}` has about three digits: `1.50 MiB`,
/// `15.0 MiB`, `150 MiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        // Without a fraction, more would be shown as 1024.
        let most = if f.alternate() { 1023.5 } else { 1024.0 };
        for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
            if value < most || unit == "TiB" {
                let digits = match value {
                    _ if unit == "B" => 0,
                    100.0.. if f.alternate() => 0,
                    10.0.. if f.alternate() => 1,
                    _ if !f.alternate() && value.fract() == 0.0 => 0,
                    _ => 2,
                };
                return write!(f, "{value:.digits$} {unit}");
            }
            value /= 1024.0;
        }
        Ok(())
    }
}

/// Shows a count with its noun, given in the singular: `1 piece`, `2 pieces`.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64, pub &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, one) = self;
        write!(f, "{count} {one}{}", if *count == 1 { "" } else { "s" })
    }
}

/// Shows a rate in the units of [`Bytes`], with about three digits: `1.25 MiB/s`.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub bytes: u64,
    pub over: Duration,
}

impl Rate {
    /// Returns the bytes per second; 0 if no time has passed.
    #[expect(clippy::cast_precision_loss, reason = "a rate is a measurement")]
    pub fn bytes_per_s(&self) -> f64 {
        let seconds = self.over.as_secs_f64();
        if seconds > 0.0 { self.bytes as f64 / seconds } else { 0.0 }
    }
}

impl fmt::Display for Rate {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` clamps a float to the range")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}/s", Bytes(self.bytes_per_s() as u64))
    }
}

/// Formats seconds since 1970 as `2026-01-31 12:00:00 UTC`, or as the bare number if the year has no four digits.
pub fn utc(unix_time: i64) -> String {
    const DAY_S: i64 = 86_400;
    // Years from -9999 to 9999, so that the arithmetic below cannot overflow.
    if !(-377_705_116_800..=253_402_300_799).contains(&unix_time) {
        return unix_time.to_string();
    }
    let (days, second) = (unix_time.div_euclid(DAY_S), unix_time.rem_euclid(DAY_S));
    // The Gregorian calendar in eras of 400 years that begin on 1 March, so that leap days end a year.
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
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("2m", 120), ("1h", 3600), ("7d", 604_800), ("0", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "m", "1.5h", "-1", "1w", "99999999999999999999d", "99999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_in_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("64K", 65536),
            ("4M", 4 << 20),
            ("4MiB", 4 << 20),
            ("4mib", 4 << 20),
            ("1g", 1 << 30),
            ("2T", 2 << 40),
            ("2^22", 1 << 22),
            ("10B", 10),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "4.5M", "4X", "2^64", "99999999999G", "2^", "4MB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_and_rates_are_short() {
        assert_eq!(Bytes(512).to_string(), "512 B");
        assert_eq!(Bytes(1 << 30).to_string(), "1 GiB");
        assert_eq!(Bytes(3 << 19).to_string(), "1.50 MiB");
        let rate = Rate { bytes: 2_500_000_000, over: Duration::from_secs(2) };
        assert_eq!(rate.to_string(), "1.16 GiB/s");
        let short = [1023, 3 << 19, 15 << 20, 1023 << 20, (1 << 30) - 1].map(|len| format!("{:#}", Bytes(len)));
        assert_eq!(short, ["1023 B", "1.50 MiB", "15.0 MiB", "1023 MiB", "1.00 GiB"]);
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 2].map(|count| Count(count, "peer").to_string()), ["0 peers", "1 peer", "2 peers"]);
    }

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
