//! The progress line as text: for a terminal of a given width, and for a log.

use std::fmt;
use std::time::Duration;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::base::limits::{BAR_WIDTH_MIN, LONG_LINE_WIDTH_MIN, NAME_WIDTH_MIN};
use crate::base::units::{Bytes, Count, Rate};
use crate::engine::HostSummary;

const GAP: &str = "  ";
const ELLIPSIS: char = '…';
const EMOJI_SELECTOR: char = '\u{fe0f}';

/// The state of long work at one time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgressLine<'a> {
    /// "hashing", "checking", "downloading" or "seeding".
    pub(super) phase: &'static str,
    /// The content; printable. `None` shows the phase in its place.
    pub(super) label: Option<&'a str>,
    /// The complete hosts of a seed, which are shown in place of the label. Their counts are never cut.
    pub(super) hosts: Option<&'a HostSummary>,
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
    /// Nothing is known about the content yet.
    Unknown,
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
            Amount::Unknown => 0,
        }
    }

    /// Returns the bytes of the whole work, if they are known.
    pub(super) fn total(&self) -> Option<u64> {
        match self.amount {
            Amount::Part { total, .. } => Some(total),
            Amount::Read(_) | Amount::Sent(_) | Amount::Unknown => None,
        }
    }

    /// Returns the tenths of a percent that are done, rounded down; `None` without a total.
    pub(super) fn per_mille(&self) -> Option<u16> {
        let total = u128::from(self.total()?);
        let done = u128::from(self.done()).min(total);
        u16::try_from((done * 1000).checked_div(total)?).ok()
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
        let label = self.hosts.map(HostSummary::to_string).or_else(|| self.label.map(str::to_owned));
        let label = label.map(|label| format!(" {label}")).unwrap_or_default();
        let amount = match self.amount {
            Amount::Part { done, total } => Some(format!("{} of {}", Bytes(done), Bytes(total))),
            Amount::Read(_) | Amount::Sent(_) | Amount::Unknown => self.amount_field(),
        };
        let fields = [self.percent_field(), amount, self.rate_field(), self.eta_field(), self.peers_field()];
        let fields: Vec<String> = fields.into_iter().flatten().chain(self.up_field()).collect();
        let fields: Vec<&str> = fields.iter().map(|field| field.trim_start()).collect();
        let gap = if self.hosts.is_some() { ", " } else { ": " };
        format!("{}{label}{gap}{}", self.phase, fields.join(", "))
    }

    /// Joins the most important fields that fit, the counts of hosts first, and the label if it fits behind them.
    fn short(&self, room: usize) -> String {
        let mut line = Fields::default();
        let hosts = self.hosts.map(|hosts| shown_counts(hosts, room));
        let [percent, rate, eta, peers] =
            [self.percent_field(), self.rate_field(), self.eta_field(), self.peers_field()];
        for field in [hosts, percent, rate, eta, peers, self.up_field()].into_iter().flatten() {
            let field = field.trim_start();
            if line.width_with(field) > room {
                break;
            }
            line.push(field);
        }
        let left = room.saturating_sub(line.width_with(""));
        if self.hosts.is_none() && left >= NAME_WIDTH_MIN {
            line.push(&self.head(left));
        }
        line.text
    }

    /// Joins label, bar and fields. The amount, the upload rate and the bar are there if they fit.
    fn long(&self, room: usize) -> String {
        let [percent, rate, eta, peers] =
            [self.percent_field(), self.rate_field(), self.eta_field(), self.peers_field()];
        let width = |fields: &[&Option<String>]| -> usize {
            fields.iter().copied().flatten().map(|field| GAP.len() + field.width()).sum()
        };
        let mut used = self.head_width_min() + width(&[&percent, &rate, &eta, &peers]);
        let mut fitting = |field: Option<String>| {
            let field = field.filter(|field| used + GAP.len() + field.width() <= room);
            used += width(&[&field]);
            field
        };
        let amount = fitting(self.amount_field());
        let up = fitting(self.up_field());
        let fields = [percent, amount, rate, eta, peers, up];
        let left = room.saturating_sub(width(&fields.each_ref()));
        let head_max = if self.total().is_some() { (left / 2).max(NAME_WIDTH_MIN + BAR_WIDTH_MIN) } else { left };
        let head = self.head(left.min(head_max));
        let bar = self.bar(left.saturating_sub(head.width() + GAP.len()));
        let mut line = Fields { text: head };
        bar.iter().chain(fields.iter().flatten()).for_each(|field| line.push(field));
        line.text
    }

    /// Returns the columns that the head of the line needs.
    fn head_width_min(&self) -> usize {
        self.hosts.map_or(NAME_WIDTH_MIN, |hosts| hosts.counted().width())
    }

    /// Returns the hosts, the label or the phase in at most `width` columns.
    fn head(&self, width: usize) -> String {
        match self.hosts {
            Some(hosts) => shown_hosts(hosts, width),
            None => cut(self.label.unwrap_or(self.phase), width),
        }
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

    fn amount_field(&self) -> Option<String> {
        match self.amount {
            Amount::Part { done, total } => Some(format!("{:>8}/{:#}", format!("{:#}", Bytes(done)), Bytes(total))),
            Amount::Read(done) => Some(format!("{} read", Bytes(done))),
            Amount::Sent(done) => Some(format!("{} sent", Bytes(done))),
            Amount::Unknown => None,
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

/// Returns the hosts in at most `width` columns: names are shortened first, then left out.
fn shown_hosts(hosts: &HostSummary, width: usize) -> String {
    let named = [usize::MAX, NAME_WIDTH_MIN, NAME_WIDTH_MIN / 2].map(|max| hosts.named(|name| cut(name, max)));
    named.into_iter().find(|text| text.width() <= width).unwrap_or_else(|| shown_counts(hosts, width))
}

/// Returns the counts of hosts in the longer form that fits.
fn shown_counts(hosts: &HostSummary, width: usize) -> String {
    let counted = hosts.counted();
    if counted.width() <= width { counted } else { cut(&hosts.shortest(), width) }
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
    // The character before an emoji variation selector takes two columns.
    let columns = |c: char| if c == EMOJI_SELECTOR { 1 } else { c.width().unwrap_or(0) };
    let fitting = |chars: &mut dyn Iterator<Item = char>, room: usize| -> Vec<char> {
        let mut used = 0;
        let fits = |c: &char| {
            used += columns(*c);
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
