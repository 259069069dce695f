//! `bench loopback --html`: a self-contained page.
//!
//! The page loads no scripts, fonts or images. Charts are inline SVG, each with a table of its numbers. Text from
//! outside, such as the name of the processor, is escaped.

mod chart;

use std::fmt::Write;

use crate::base::escape::html as escape;
use chart::{Row, bars, curve, duration, histogram};

use super::{AtMost, CpuKinds, CpuTime, Figures, Side, gb_per_s, per_gb};
use crate::base::units::Bytes;

const STYLE: &str = include_str!("page.css");
/// Window of a rate as a share of the whole time. Shorter windows would show noise.
const RATE_WINDOW_PART: f64 = 0.04;
/// Minimum window of a rate in seconds.
const RATE_WINDOW_MIN_S: f64 = 0.1;

/// Renders the whole page.
pub fn page(figures: &Figures) -> String {
    let what = format!(
        "{} in pieces of {} to {}, --io {}, {} rings in each process, {}, {}",
        Bytes(figures.bytes),
        Bytes(u64::from(figures.piece_length)),
        if figures.peers == 1 { "one peer".to_owned() } else { format!("{} peers at once", figures.peers) },
        figures.io,
        figures.rings,
        if figures.place == "disk" { "on disk" } else { "in memory" },
        if figures.rounds == 1 { "one round".to_owned() } else { format!("medians of {} rounds", figures.rounds) },
    );
    let machine = &figures.machine;
    let place = format!(
        "{} cores of {}, {} of memory, Linux {}, {}, bt-fast {}",
        machine.cores,
        machine.cpu,
        Bytes(machine.memory >> 20 << 20),
        machine.kernel,
        machine.taken_at,
        machine.version
    );
    let sections = [against_floor(figures), over_time(figures), cpu(figures), latency(figures), rest(figures)].concat();
    format!(
        include_str!("page.html"),
        rate = figures.gb_per_s,
        medium = figures.place,
        what = escape(&what),
        place = escape(&place),
        tiles = tiles(figures),
        style = STYLE,
        sections = sections,
    )
}

fn tiles(figures: &Figures) -> String {
    let mut tiles = vec![(format!("{:.2}", figures.gb_per_s), "GB/s", "from get's start to its end")];
    if let Some(floor) = &figures.floor {
        tiles.push((
            format!("{:.0}", floor.share * 100.0),
            "%",
            "of the bare pair (a plain copy program), median of the rounds",
        ));
    }
    tiles.push((format!("{:.2}", figures.seed.cpu_s_per_gb), "", "CPU-s/GB seeding"));
    tiles.push((format!("{:.2}", figures.get.cpu_s_per_gb), "", "CPU-s/GB getting"));
    let p99 = figures.latency_p99_us.map(duration);
    if let Some(p99) = &p99 {
        let (p99, unit) = p99.split_once(' ').unwrap_or((p99, ""));
        tiles.push((p99.to_owned(), unit, "request to block, p99"));
    }
    let tile = |(value, unit, what): &(String, &str, &str)| {
        format!(
            "<li><strong>{} <small>{}</small></strong><span>{}</span></li>",
            escape(value),
            escape(unit),
            escape(what)
        )
    };
    format!(r#"<ul class="tiles">{}</ul>"#, tiles.iter().map(tile).collect::<String>())
}

fn against_floor(figures: &Figures) -> String {
    let Some(floor) = &figures.floor else { return String::new() };
    let row = |name: &str, class: &str, value: f64| Row {
        name: name.to_owned(),
        value: format!("{value:.2} GB/s"),
        segments: vec![(class.to_owned(), value, format!("{name}: {value:.2} GB/s"))],
    };
    let mut rows = vec![row("bt-fast", "ours", figures.gb_per_s), row("bare pair", "floor", floor.pair.gb_per_s)];
    rows.extend(figures.at_most.map(|at_most| row("at most", "at-most", at_most.gb_per_s)));
    let chart = bars("Rate of seed and get, of the bare pair, and of the machine at most", &rows);
    let rounds = figures.round_gb_per_s.iter().zip(&floor.round_gb_per_s).enumerate();
    let rows = rounds.map(|(index, (ours, floor))| {
        vec![format!("{}", index + 1), format!("{ours:.3}"), format!("{floor:.3}"), format!("{:.2}", ours / floor)]
    });
    let table = table(&["round", "bt-fast GB/s", "bare pair GB/s", "share"], rows);
    let mut note = String::from(
        "The bare pair is a plain copy program: two processes of plain threads that send, receive, hash and write the \
         same bytes in the same portions, without a protocol. It takes turns with the transfer in each round. It is a \
         yardstick and no limit.",
    );
    if let Some(reason) = figures.lead_reason() {
        let _ = write!(note, " bt-fast is faster here: {reason}.");
    }
    if let Some(at_most) = &figures.at_most {
        note.push_str(&at_most_note(at_most, figures));
    }
    section("Beside a plain copy program (the bare pair)", &note, &chart, &table)
}

/// Explains the highest rate that the machine permits.
fn at_most_note(at_most: &AtMost, figures: &Figures) -> String {
    let AtMost { gb_per_s, bound_by, cpu_gb_per_s, disk_gb_per_s, memory_gb_per_s } = at_most;
    let mut note = format!(
        " At most {gb_per_s:.2} GB/s are possible on this machine, where the {} binds: with the processor time of both \
         sides, {} cores are busy at {cpu_gb_per_s:.2} GB/s",
        bound_by.name(),
        figures.machine.cores
    );
    if let Some(rate) = disk_gb_per_s {
        let _ = write!(note, "; the disk took up to {rate:.2} GB/s in this run");
    }
    if let Some(rate) = memory_gb_per_s {
        let _ = write!(note, "; all cores together copy {rate:.2} GB/s of memory");
    }
    note + "."
}

fn over_time(figures: &Figures) -> String {
    let points = rates(&figures.progress);
    let chart =
        curve("Verified and written, GB/s over time", &points, figures.floor.as_ref().map(|floor| floor.pair.gb_per_s));
    let rows = points.iter().map(|(seconds, rate)| vec![format!("{seconds:.2}"), format!("{rate:.3}")]);
    let table = table(&["seconds", "GB/s"], rows);
    section(
        "Over time",
        "Rate at which bytes are verified and written, in the round of the median time. Time starts with the process.",
        &chart,
        &table,
    )
}

/// Returns points of seconds and GB/s, over windows of at least [`RATE_WINDOW_MIN_S`].
fn rates(progress: &[(f64, u64)]) -> Vec<(f64, f64)> {
    let end = progress.last().map_or(0.0, |point| point.0);
    let window = (end * RATE_WINDOW_PART).max(RATE_WINDOW_MIN_S);
    let mut points = vec![(0.0, 0.0)];
    let mut from = (0.0, 0);
    for (index, &(at, done)) in progress.iter().enumerate() {
        let last = index + 1 == progress.len();
        if at - from.0 >= window || (last && at > from.0) {
            points.push((at, gb_per_s(done.saturating_sub(from.1), at - from.0)));
            from = (at, done);
        }
    }
    points
}

const KINDS: [(&str, &str); 4] =
    [("ring", "ring threads"), ("hash", "hash pool"), ("kernel", "kernel workers"), ("other", "everything else")];

fn kinds(kinds: &CpuKinds) -> [CpuTime; 4] {
    [kinds.ring, kinds.hash, kinds.kernel, kinds.other]
}

fn cpu(figures: &Figures) -> String {
    let sides = [("seeding", &figures.seed, seed_len(figures)), ("getting", &figures.get, figures.moved())];
    let mut rows: Vec<Row> = Vec::new();
    for (name, side, len) in sides {
        let times = KINDS.iter().zip(kinds(&side.cpu_kinds));
        let segment = |kind: &(&str, &str), class: &str, part: &str, seconds: f64| {
            let seconds = per_gb(seconds, len);
            (format!("{} {class}", kind.0), seconds, format!("{}, {part}: {seconds:.3} CPU-s/GB", kind.1))
        };
        let segments = times.flat_map(|(kind, time)| {
            [segment(kind, "", "in user space", time.user_s), segment(kind, "system", "in the kernel", time.system_s)]
        });
        rows.push(Row {
            name: name.to_owned(),
            value: format!("{:.2} CPU-s/GB", side.cpu_s_per_gb),
            segments: segments.filter(|segment| segment.1 > 0.0).collect(),
        });
        let pair = figures.floor.as_ref().map(|floor| &floor.pair);
        if let Some(pair) = pair {
            let value = if name == "seeding" { pair.seed_cpu_s_per_gb } else { pair.get_cpu_s_per_gb };
            rows.push(Row {
                name: "bare pair".to_owned(),
                value: format!("{value:.2}"),
                segments: vec![("floor".to_owned(), value, format!("bare pair, {name}: {value:.3} CPU-s/GB"))],
            });
        }
    }
    let key = KINDS.iter().map(|(class, name)| {
        format!(r#"<li><svg viewBox="0 0 12 12" aria-hidden="true"><rect class="{class}" width="12" height="12"/></svg>{name}</li>"#)
    });
    let key =
        format!(r#"<ul class="key">{}<li>full colour: user space; pale: kernel</li></ul>"#, key.collect::<String>());
    let rows_of = sides.into_iter().flat_map(|(name, side, len)| {
        KINDS.iter().zip(kinds(&side.cpu_kinds)).map(move |(kind, time)| {
            let per = |seconds| format!("{:.3}", per_gb(seconds, len));
            vec![format!("{name}, {}", kind.1), per(time.user_s), per(time.system_s), per(time.user_s + time.system_s)]
        })
    });
    let table = table(&["CPU-s/GB", "user space", "kernel", "sum"], rows_of);
    let chart = bars("Processor time by kind of thread, CPU seconds per GB", &rows) + &key;
    section("Processor time", "Seconds of one core per 10⁹ bytes, by kind of thread.", &chart, &table)
}

/// Returns the bytes that the seed sent. With several peers, peers may have sent the rest.
fn seed_len(figures: &Figures) -> u64 {
    figures.seed.copied_bytes + figures.seed.zero_copied_bytes
}

fn latency(figures: &Figures) -> String {
    let marks = [("p50", figures.latency_p50_us), ("p99", figures.latency_p99_us), ("p99.9", figures.latency_p999_us)];
    let marks: Vec<(&str, u64)> = marks.into_iter().filter_map(|(name, at)| Some((name, at?))).collect();
    let chart = histogram("Time from request to block", &figures.latency_buckets, &marks);
    let rows = figures.latency_buckets.iter().map(|(bound, count)| vec![duration(*bound), count.to_string()]);
    let table = table(&["up to", "blocks"], rows);
    section(
        "From request to block",
        "The time starts when a request is queued. Most of it is spent in the queue, because requests are sent far ahead.",
        &chart,
        &table,
    )
}

fn rest(figures: &Figures) -> String {
    let (seed, get) = (&figures.seed, &figures.get);
    let row = |name: &str, value: fn(&Side) -> String| vec![name.to_owned(), value(seed), value(get)];
    let rows = [
        row("peak anonymous memory", |side| Bytes(side.memory_anon_peak).to_string()),
        row("peak mapped files", |side| Bytes(side.memory_file_peak).to_string()),
        row("minor page faults per GB", |side| format!("{:.0}", side.minor_faults_per_gb)),
        row("major page faults per GB", |side| format!("{:.1}", side.major_faults_per_gb)),
        row("major page faults on ring threads", |side| side.ring_major_faults.to_string()),
        row("system calls per GB", |side| {
            side.system_calls_per_gb.map_or("not counted".to_owned(), |count| format!("{count:.0}"))
        }),
        row("voluntary context switches per GB", |side| format!("{:.0}", side.voluntary_switches_per_gb)),
        row("involuntary context switches per GB", |side| format!("{:.0}", side.involuntary_switches_per_gb)),
        row("copied into sockets", |side| Bytes(side.copied_bytes).to_string()),
        row("sent by zero copy", |side| Bytes(side.zero_copied_bytes).to_string()),
    ];
    let mut sides = table(&["", "seed", "get"], rows);
    let seconds = |taken: Option<f64>| taken.map_or("-".to_owned(), |taken| format!("{taken:.2} s"));
    let rows = [
        vec!["received twice or too late".to_owned(), Bytes(figures.wasted_bytes).to_string()],
        vec!["copies sent by the seed".to_owned(), format!("{:.2}", figures.seed_copies)],
        vec!["fairness between peers (Jain)".to_owned(), format!("{:.3}", figures.fairness)],
        vec!["create".to_owned(), seconds(figures.create_s)],
        vec!["verify".to_owned(), seconds(figures.verify_s)],
        vec!["transfer".to_owned(), format!("{:.2} s", figures.transfer_s)],
    ];
    sides.push_str(&table(&["", ""], rows));
    format!("<section><h2>Other figures</h2>{sides}</section>")
}

/// Renders a chart with its table, which is folded.
fn section(title: &str, note: &str, chart: &str, table: &str) -> String {
    let (title, note) = (escape(title), escape(note));
    format!(
        r#"<section><h2>{title}</h2><p class="note">{note}</p><div class="chart">{chart}</div><details><summary>As a table</summary>{table}</details></section>"#
    )
}

fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = String::from(r#"<div class="wide"><table><thead><tr>"#);
    for head in heads {
        let _ = write!(text, r#"<th scope="col">{}</th>"#, escape(head));
    }
    text.push_str("</tr></thead><tbody>");
    for row in rows {
        text.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let (open, close) = if index == 0 { (r#"th scope="row""#, "th") } else { ("td", "td") };
            let _ = write!(text, "<{open}>{}</{close}>", escape(cell));
        }
        text.push_str("</tr>");
    }
    text + "</tbody></table></div>"
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
