//! The progress line as text: for a terminal of a given width, and for a log.

use std::fmt;
use std::time::Duration;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::base::limits::{BAR_WIDTH_MIN, LONG_LINE_WIDTH_MIN, NAME_WIDTH_MIN};
use crate::base::units::{Bytes, Count, Rate};

const GAP: &str = "  ";
const ELLIPSIS: char = '…';

/// The state of long work at one time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgressLine<'a> {
    /// "hashing", "checking", "downloading" or "seeding".
    pub(super) phase: &'static str,
    /// The content, or for a seed its complete hosts; printable. `None` shows the phase in its place.
    pub(super) name: Option<&'a str>,
    pub(super) amount: Amount,
    /// Rate of reading or downloading.
    pub(super) bytes_per_s: u64,
    pub(super) up_bytes_per_s: Option<u64>,
    pub(super) peers: Option<PeerCounts>,
}

/// The bytes that are done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    /// A part of a known total.
    Part { done: u64, total: u64 },
    /// Bytes read of content of unknown length.
    Read(u64),
    /// Bytes sent by a seed, which has no end.
    Sent(u64),
}

/// The number of peers.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerCounts {
    pub(super) connected: usize,
    /// All peers whose addresses are known, those connected included.
    pub(super) known: usize,
}

impl ProgressLine<'_> {
    pub(super) fn done(&self) -> u64 {
        match self.amount {
            Amount::Part { done, .. } | Amount::Read(done) | Amount::Sent(done) => done,
        }
    }

    /// Returns the bytes of the whole work, if they are known.
    pub(super) fn total(&self) -> Option<u64> {
        match self.amount {
            Amount::Part { total, .. } => Some(total),
            Amount::Read(_) | Amount::Sent(_) => None,
        }
    }

    /// Returns the tenths of a percent that are done, rounded down.
    pub(super) fn per_mille(&self) -> Option<u16> {
        let total = u128::from(self.total()?);
        let done = u128::from(self.done()).min(total);
        u16::try_from((done * 1000).checked_div(total).unwrap_or(1000)).ok()
    }

    /// Returns the time to the end at this rate; `None` without an end or at a rate of zero.
    pub(super) fn eta(&self) -> Option<Duration> {
        let left = self.total()?.saturating_sub(self.done());
        left.checked_div(self.bytes_per_s).map(Duration::from_secs)
    }

    /// Returns the line for a terminal. It has fewer than `width` columns, so that the terminal never wraps it.
    pub(super) fn for_terminal(&self, width: usize) -> String {
        let room = width.saturating_sub(1);
        if width < LONG_LINE_WIDTH_MIN { self.short(room) } else { self.long(room) }
    }

    /// Returns the line for a log, which has no fixed width.
    pub(super) fn for_log(&self) -> String {
        let name = self.name.map(|name| format!(" {name}")).unwrap_or_default();
        let amount = match self.amount {
            Amount::Part { done, total } => format!("{} of {}", Bytes(done), Bytes(total)),
            Amount::Read(_) | Amount::Sent(_) => self.amount_field(),
        };
        let fields = [self.percent_field(), Some(amount), self.rate_field(), self.eta_field(), self.peers_field()];
        let fields: Vec<String> = fields.into_iter().flatten().chain(self.up_field()).collect();
        let fields: Vec<&str> = fields.iter().map(|field| field.trim_start()).collect();
        let gap = if matches!(self.amount, Amount::Sent(_)) && !name.is_empty() { ", " } else { ": " };
        format!("{}{name}{gap}{}", self.phase, fields.join(", "))
    }

    /// Joins the most important fields that fit, and the name if it fits behind them.
    fn short(&self, room: usize) -> String {
        let mut line = Fields::default();
        let fields = [self.percent_field(), self.rate_field(), self.eta_field(), self.peers_field(), self.up_field()];
        for field in fields.into_iter().flatten() {
            let field = field.trim_start();
            if line.width_with(field) > room {
                break;
            }
            line.push(field);
        }
        let left = room.saturating_sub(line.width_with(""));
        if left >= NAME_WIDTH_MIN {
            line.push(&cut(self.label(), left));
        }
        line.text
    }

    /// Joins name, bar and fields. The amount, the upload rate and the bar are there if they fit.
    fn long(&self, room: usize) -> String {
        let [percent, rate, eta, peers] =
            [self.percent_field(), self.rate_field(), self.eta_field(), self.peers_field()];
        let width = |fields: &[&Option<String>]| -> usize {
            fields.iter().copied().flatten().map(|field| GAP.len() + field.width()).sum()
        };
        let mut used = NAME_WIDTH_MIN + width(&[&percent, &rate, &eta, &peers]);
        let mut fitting = |field: Option<String>| {
            let field = field.filter(|field| used + GAP.len() + field.width() <= room);
            used += width(&[&field]);
            field
        };
        let amount = fitting(Some(self.amount_field()));
        let up = fitting(self.up_field());
        let fields = [percent, amount, rate, eta, peers, up];
        let left = room.saturating_sub(width(&fields.each_ref()));
        let name_max = if self.total().is_some() { (left / 2).max(NAME_WIDTH_MIN + BAR_WIDTH_MIN) } else { left };
        let name = cut(self.label(), left.min(name_max));
        let bar = self.bar(left.saturating_sub(name.width() + GAP.len()));
        let mut line = Fields { text: name };
        bar.iter().chain(fields.iter().flatten()).for_each(|field| line.push(field));
        line.text
    }

    fn label(&self) -> &str {
        self.name.unwrap_or(self.phase)
    }

    /// Returns a bar of this width; `None` without an end or if it would be too short.
    fn bar(&self, width: usize) -> Option<String> {
        let per_mille = usize::from(self.per_mille()?);
        if width < BAR_WIDTH_MIN {
            return None;
        }
        let full = width * per_mille / 1000;
        let tip = if full < width { "╸" } else { "" };
        Some(format!("{}{tip}{}", "━".repeat(full), "─".repeat((width - full).saturating_sub(1))))
    }

    // The fields have fixed widths for most values, so that the line does not jump.

    fn percent_field(&self) -> Option<String> {
        self.per_mille().map(|per_mille| format!("{:>3} %", per_mille / 10))
    }

    fn amount_field(&self) -> String {
        match self.amount {
            Amount::Part { done, total } => format!("{:>8}/{:#}", format!("{:#}", Bytes(done)), Bytes(total)),
            Amount::Read(done) => format!("{} read", Bytes(done)),
            Amount::Sent(done) => format!("{} sent", Bytes(done)),
        }
    }

    fn rate_field(&self) -> Option<String> {
        let has_rate = !matches!(self.amount, Amount::Sent(_));
        has_rate.then(|| format!("{:>10}", shown_rate(self.bytes_per_s)))
    }

    fn eta_field(&self) -> Option<String> {
        self.total().map(|_| format!("{:>11}", format!("ETA {}", ShownEta(self.eta()))))
    }

    fn peers_field(&self) -> Option<String> {
        let PeerCounts { connected, known } = self.peers?;
        Some(format!("{:>11}", format!("{connected}/{}", Count(known as u64, "peer"))))
    }

    fn up_field(&self) -> Option<String> {
        self.up_bytes_per_s.map(|rate| format!("{:>13}", format!("up {}", shown_rate(rate))))
    }
}

fn shown_rate(bytes_per_s: u64) -> String {
    Rate { bytes: bytes_per_s, over: Duration::from_secs(1) }.to_string()
}

/// Fields with gaps between them.
#[derive(Default)]
struct Fields {
    text: String,
}

impl Fields {
    fn push(&mut self, field: &str) {
        if !self.text.is_empty() {
            self.text.push_str(GAP);
        }
        self.text.push_str(field);
    }

    /// Returns the columns of the line with one more field.
    fn width_with(&self, field: &str) -> usize {
        let gap = if self.text.is_empty() { 0 } else { GAP.len() };
        self.text.width() + gap + field.width()
    }
}

/// Shows a time in its two largest units: `15s`, `3m 20s`, `2h 05m`, `3d 04h`; `-` if it is unknown or a hundred days
/// away.
struct ShownEta(Option<Duration>);

impl fmt::Display for ShownEta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY_S: u64 = 24 * 3600;
        match self.0.map(|eta| eta.as_secs()) {
            Some(s) if s < 60 => write!(f, "{s}s"),
            Some(s) if s < 3600 => write!(f, "{}m {:02}s", s / 60, s % 60),
            Some(s) if s < DAY_S => write!(f, "{}h {:02}m", s / 3600, s / 60 % 60),
            Some(s) if s < 100 * DAY_S => write!(f, "{}d {:02}h", s / DAY_S, s / 3600 % 24),
            Some(_) | None => f.write_str("-"),
        }
    }
}

/// Cuts out the middle of a text that has more than `width` columns. Wide characters count as two.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let fitting = |chars: &mut dyn Iterator<Item = char>, room: usize| -> Vec<char> {
        let mut used = 0;
        let fits = |c: &char| {
            used += c.width().unwrap_or(0);
            used <= room
        };
        chars.take_while(fits).collect()
    };
    let tail_len = room / 2;
    let head = fitting(&mut text.chars(), room - tail_len);
    let tail = fitting(&mut text.chars().rev(), tail_len);
    // A combining mark must not join the ellipsis.
    let is_mark = |c: &char| c.width() == Some(0);
    head.into_iter().chain([ELLIPSIS]).chain(tail.into_iter().rev().skip_while(is_mark)).collect()
}

#[cfg(test)]
#[path = "progress_line_tests.rs"]
mod tests;
