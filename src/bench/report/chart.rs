//! Charts as inline SVG. Colours are CSS classes, which the page's style defines for light and dark schemes.
//!
//! To a screen reader each chart is one image, named by its title; the page has its numbers in a table.

use std::fmt::Write;

use crate::base::escape::html as escape;

/// Dimensions of a drawing in SVG user units; the page scales it. Each chart is drawn for two widths of the page, which
/// shows the one that fits.
const WIDE: f64 = 760.0;
const NARROW: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 30.0;
/// Approximate number of grid lines.
const TICKS: f64 = 5.0;
const BAR_HEIGHT: f64 = 26.0;
const BAR_PITCH: f64 = 40.0;
/// Width of the names to the left of bars.
const NAMES: f64 = 132.0;
/// Height of a name above its bar, in a narrow drawing.
const NAME_HEIGHT: f64 = 20.0;
/// Width of the name to the right of a mark.
const MARKS: f64 = 110.0;
/// Least distance of two labels of the x axis.
const LABEL_PITCH: f64 = 60.0;
/// Width of the number to the right of a bar.
const NUMBERS: f64 = 96.0;

/// A position, from the left and the top.
#[derive(Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
}

struct Size {
    width: f64,
    height: f64,
}

fn point(x: f64, y: f64) -> Point {
    Point { x, y }
}

/// A drawing that is being made.
struct Svg {
    text: String,
    width: f64,
    height: f64,
}

impl Svg {
    fn new(width: f64, height: f64) -> Self {
        Self { text: String::new(), width, height }
    }

    fn is_narrow(&self) -> bool {
        self.width < WIDE
    }

    /// Appends text. Writing to a string does not fail.
    fn add(&mut self, part: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(part);
    }

    fn line(&mut self, class: &str, from: Point, to: Point) {
        let (Point { x: x1, y: y1 }, Point { x: x2, y: y2 }) = (from, to);
        self.add(format_args!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    /// Adds a text. `anchor` is `start`, `middle` or `end`.
    fn label(&mut self, class: &str, anchor: &str, Point { x, y }: Point, text: &str) {
        let text = escape(text);
        self.add(format_args!(r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    /// Adds a bar. `tip` is its tooltip.
    fn bar(&mut self, class: &str, Point { x, y }: Point, size: Size, tip: &str) {
        let (width, height, tip) = (size.width.max(0.0), size.height, escape(tip));
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"><title>{tip}</title></rect>"#
        ));
    }

    fn finish(self, title: &str) -> String {
        let class = if self.is_narrow() { "narrow" } else { "broad" };
        let (width, height, title, text) = (self.width, self.height, escape(title), self.text);
        format!(
            r#"<svg role="img" class="{class}" viewBox="0 0 {width} {height}" aria-label="{title}"><title>{title}</title>{text}</svg>"#
        )
    }
}

/// Returns multiples of 1, 2 or 5 times a power of ten, from 0 to the first one that is not below `max`.
fn ticks(max: f64) -> Vec<f64> {
    let rough = max.max(f64::MIN_POSITIVE) / TICKS;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let count = (max / step - 1e-9).ceil().max(1.0);
    std::iter::successors(Some(0.0), |tick| Some(tick + 1.0))
        .take_while(|tick| *tick <= count)
        .map(|tick| tick * step)
        .collect()
}

/// Shows a tick with as many decimals as the step needs, at most two.
fn tick_label(tick: f64, step: f64) -> String {
    let digits = if step >= 1.0 {
        0
    } else if step >= 0.1 {
        1
    } else {
        2
    };
    format!("{tick:.digits$}")
}

/// Draws the grid and labels of the y axis. Returns a function from a value to its y coordinate.
fn y_axis(svg: &mut Svg, max: f64, unit: &str) -> impl Fn(f64) -> f64 + use<> {
    let ticks = ticks(max);
    let top_value = ticks.last().copied().unwrap_or(1.0);
    let bottom = svg.height - BOTTOM;
    let y = move |value: f64| bottom - value / top_value * (bottom - TOP);
    let step = ticks.get(1).copied().unwrap_or(1.0);
    for tick in ticks {
        svg.line("grid", point(LEFT, y(tick)), point(svg.width - RIGHT, y(tick)));
        svg.label("", "end", point(LEFT - 8.0, y(tick) + 4.0), &tick_label(tick, step));
    }
    svg.label("", "start", point(0.0, 12.0), unit);
    y
}

/// Draws a chart for both widths.
fn both(draw: impl Fn(f64) -> String) -> String {
    [WIDE, NARROW].map(draw).concat()
}

/// Draws a rate over time, from points of seconds and GB/s, and a line for the rate of the bare pair.
pub(super) fn curve(title: &str, points: &[(f64, f64)], floor: Option<f64>) -> String {
    both(|width| curve_of(width, title, points, floor))
}

fn curve_of(width: f64, title: &str, points: &[(f64, f64)], floor: Option<f64>) -> String {
    let mut svg = Svg::new(width, 280.0);
    let highest = points.iter().map(|point| point.1).chain(floor).fold(0.0, f64::max);
    let y = y_axis(&mut svg, highest, "GB/s");
    let bottom = svg.height - BOTTOM;
    let end = points.last().map_or(1.0, |point| point.0).max(f64::MIN_POSITIVE);
    let x = |seconds: f64| LEFT + seconds / end * (width - LEFT - RIGHT);
    let mut seconds = ticks(end);
    if svg.is_narrow() {
        // Every other label has room.
        seconds = seconds.into_iter().step_by(2).collect();
    }
    let step = seconds.get(1).copied().unwrap_or(1.0);
    for tick in seconds.into_iter().filter(|tick| *tick <= end) {
        svg.label("", "middle", point(x(tick), bottom + 18.0), &tick_label(tick, step));
    }
    svg.label("", "end", point(svg.width - RIGHT, bottom + 35.0), "seconds");
    let mut path = String::new();
    for (index, (seconds, rate)) in points.iter().enumerate() {
        let _ = write!(path, "{}{:.1} {:.1}", if index == 0 { "M" } else { "L" }, x(*seconds), y(*rate));
    }
    if let Some((first, last)) = points.first().zip(points.last()) {
        svg.add(format_args!(
            r#"<path class="area" d="{path}L{:.1} {bottom}L{:.1} {bottom}Z"/>"#,
            x(last.0),
            x(first.0)
        ));
    }
    svg.add(format_args!(r#"<path class="curve" d="{path}"/>"#));
    svg.line("axis", point(LEFT, bottom), point(svg.width - RIGHT, bottom));
    if let Some(floor) = floor {
        svg.line("floor-line", point(LEFT, y(floor)), point(svg.width - RIGHT, y(floor)));
        svg.label("value", "end", point(svg.width - RIGHT, y(floor) - 6.0), &format!("bare pair {floor:.2}"));
    }
    svg.finish(title)
}

/// Draws blocks by latency. `buckets` are upper bounds in microseconds and block counts, drawn with the same width;
/// `marks` are named latencies.
pub(super) fn histogram(title: &str, buckets: &[(u64, u64)], marks: &[(&str, u64)]) -> String {
    both(|width| histogram_of(width, title, buckets, marks))
}

fn histogram_of(width: f64, title: &str, buckets: &[(u64, u64)], marks: &[(&str, u64)]) -> String {
    let mut svg = Svg::new(width, 280.0);
    let all = number(buckets.iter().map(|bucket| bucket.1).sum()).max(1.0);
    let share = |count: u64| number(count) / all * 100.0;
    let y = y_axis(&mut svg, buckets.iter().map(|bucket| share(bucket.1)).fold(0.0, f64::max), "% of blocks");
    let bottom = svg.height - BOTTOM;
    let bar = (width - LEFT - RIGHT) / number(buckets.len() as u64).max(1.0);
    let label_every = at_least_one(LABEL_PITCH / bar);
    for (index, (bound, count)) in buckets.iter().enumerate() {
        let left = LEFT + number(index as u64) * bar;
        let tip = format!("up to {}: {count} blocks, {:.2} %", duration(*bound), share(*count));
        let size = Size { width: bar - 2.0, height: bottom - y(share(*count)) };
        svg.bar("ours", point(left + 1.0, y(share(*count))), size, &tip);
        if index % label_every == label_every - 1 {
            svg.label("", "middle", point(left + bar, bottom + 18.0), &duration(*bound));
        }
    }
    svg.line("axis", point(LEFT, bottom), point(svg.width - RIGHT, bottom));
    for (height, (name, at)) in marks.iter().enumerate() {
        let x = LEFT + position(buckets, *at) * bar;
        let anchor = if x > svg.width - MARKS { "end" } else { "start" };
        let label_y = TOP + 2.0 + number(height as u64) * 16.0;
        svg.line("mark", point(x, TOP - 8.0), point(x, bottom));
        svg.label(
            "value",
            anchor,
            point(if anchor == "end" { x - 5.0 } else { x + 5.0 }, label_y),
            &format!("{name} {}", duration(*at)),
        );
    }
    let axis = if svg.is_narrow() {
        "from request to block"
    } else {
        "from request to block; each bar's bound is 1.4 times that of the one before"
    };
    svg.label("", "end", point(svg.width - RIGHT, bottom + 35.0), axis);
    svg.finish(title)
}

/// Returns the position of a latency among buckets, in buckets from the left.
fn position(buckets: &[(u64, u64)], at: u64) -> f64 {
    let index = buckets.iter().position(|(bound, _)| *bound >= at).unwrap_or(buckets.len());
    let bound = |index: usize| buckets.get(index).map(|(bound, _)| number(*bound));
    let upper = bound(index).unwrap_or(number(at));
    let lower = index.checked_sub(1).and_then(bound).unwrap_or(upper / std::f64::consts::SQRT_2);
    let inside = if upper > lower { (number(at) - lower) / (upper - lower) } else { 1.0 };
    number(index as u64) + inside.clamp(0.0, 1.0)
}

/// A row of a bar chart.
pub(super) struct Row {
    pub(super) name: String,
    /// Text to the right of the bar.
    pub(super) value: String,
    /// Class, length and tooltip of each segment.
    pub(super) segments: Vec<(String, f64, String)>,
}

/// Draws bars from left to right on one scale. A wide drawing has the name to the left of each bar and the number to
/// the right, a narrow one both above it.
pub(super) fn bars(title: &str, rows: &[Row]) -> String {
    both(|width| bars_of(width, title, rows))
}

fn bars_of(width: f64, title: &str, rows: &[Row]) -> String {
    let is_narrow = width < WIDE;
    let (names, numbers, above) = if is_narrow { (0.0, 0.0, NAME_HEIGHT) } else { (NAMES, NUMBERS, 0.0) };
    let pitch = BAR_PITCH + above;
    let mut svg = Svg::new(width, pitch * number(rows.len() as u64));
    let length = |row: &Row| row.segments.iter().map(|segment| segment.1).sum::<f64>();
    let longest = rows.iter().map(length).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (width - names - numbers) / longest;
    for (index, row) in rows.iter().enumerate() {
        let top = number(index as u64) * pitch + above + (BAR_PITCH - BAR_HEIGHT) / 2.0;
        let mut x = names;
        for (class, length, tip) in &row.segments {
            // A thin gap distinguishes neighbours without colour.
            let size = Size { width: length * scale - 1.0, height: BAR_HEIGHT };
            svg.bar(class, point(x, top), size, tip);
            x += length * scale;
        }
        if is_narrow {
            svg.label("name", "start", point(0.0, top - 6.0), &row.name);
            svg.label("value", "end", point(width, top - 6.0), &row.value);
        } else {
            let middle = top + BAR_HEIGHT / 2.0 + 4.0;
            svg.label("name", "end", point(names - 12.0, middle), &row.name);
            svg.label("value", "start", point(x + 8.0, middle), &row.value);
        }
    }
    svg.finish(title)
}

/// Returns the number rounded up, which is at least 1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of labels")]
fn at_least_one(number: f64) -> usize {
    number.ceil().max(1.0) as usize
}

/// Shows a duration: `16 µs`, `1.4 ms`, `2.0 s`.
pub(super) fn duration(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{:.1} ms", number(us) / 1e3),
        _ => format!("{:.1} s", number(us) / 1e6),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_maximum() {
        let shown = |max: f64| ticks(max).iter().map(|tick| format!("{tick:.2}")).collect::<Vec<_>>().join(" ");
        assert_eq!(shown(1.3), "0.00 0.50 1.00 1.50");
        assert_eq!(shown(1.0), "0.00 0.20 0.40 0.60 0.80 1.00");
        assert_eq!(shown(43.0), "0.00 10.00 20.00 30.00 40.00 50.00");
        assert!(ticks(0.0).len() >= 2);
    }

    #[test]
    fn a_latency_lies_inside_its_bucket() {
        let buckets = [(100, 1), (200, 1), (400, 1)];
        assert!((position(&buckets, 300) - 2.5).abs() < 1e-9);
        assert!((position(&buckets, 5000) - 3.0).abs() <= 1.0);
        assert!(position(&[], 5).is_finite());
        assert_eq!([999, 1500, 2_000_000].map(duration), ["999 µs", "1.5 ms", "2.0 s"]);
    }

    #[test]
    fn empty_charts_have_only_finite_numbers() {
        for drawing in [curve("t", &[], None), histogram("t", &[], &[]), bars("t", &[])] {
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
        }
    }
}
