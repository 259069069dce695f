//! `bt-fast bench swarm`.

use super::bench::{folder, settings};
use super::exit::{Exit, Failure};
use super::options::{LoopbackOptions, SwarmOptions};
use super::output::Output;
use crate::base::units::Bytes;
use crate::bench::swarm::{Finish, FleetFigures, Links, Outcome, Progress, Scenario, fleet};

/// Width of the plot in characters, which stands for all pieces.
const PLOT_WIDTH: u32 = 60;
/// Approximate height of the plot in lines.
const PLOT_LINES: usize = 24;

pub(super) fn run(options: SwarmOptions, output: &Output) -> Result<(), Failure> {
    match options {
        SwarmOptions::Simulated(scenario) => simulate(&scenario, output),
        SwarmOptions::Fleet { transfer, link, origin } => measure(transfer, Links { link, origin }, output),
    }
}

fn measure(options: LoopbackOptions, links: Links, output: &Output) -> Result<(), Failure> {
    let folder = folder(&options.folder)?;
    let figures =
        fleet(&settings(options, folder.path()), links, &mut |phase| output.message(format_args!("{phase} …")))?;
    output.record(&figures);
    let FleetFigures { leechers, pairs_s, .. } = figures;
    let (size, piece_len) = (Bytes(figures.bytes), Bytes(u64::from(figures.piece_length)));
    output.result(format_args!(
        "{leechers} downloaders on this machine, {}; {size}, pieces of {piece_len}",
        figures.place
    ));
    row(output, "pairs", format!("{pairs_s:.2} s"), "each with an origin of its own: the limit of the machine");
    let measured = [("origin", figures.origin_measured), ("up", figures.up_measured), ("down", figures.down_measured)];
    let mb = |(what, rate): (&str, Option<f64>)| rate.map(|rate| format!("{what} {:.1}", rate / 1e6));
    let links: Vec<String> = measured.into_iter().filter_map(mb).collect();
    if !links.is_empty() {
        row(output, "links", links.join(", "), "MB/s, each measured alone");
    }
    let together = format!("; {:.2} GB/s together", figures.gb_per_s);
    show_finish(&figures.finish, "the pairs' time, or the bound of the links if it is longer", &together, output);
    Ok(())
}

fn simulate(scenario: &Scenario, output: &Output) -> Result<(), Failure> {
    output.message(format_args!("simulating {} downloaders …", scenario.leechers));
    let Some(outcome) = scenario.run(&mut |_| ()) else {
        return Err(Failure::new(Exit::Usage, "bench swarm: the content is too long: give fewer or shorter pieces"));
    };
    if output.is_json() {
        output.record(&outcome);
    } else {
        show(&outcome, output);
    }
    if outcome.finished < outcome.honest {
        let missing = outcome.honest - outcome.finished;
        return Err(Failure::new(
            Exit::Failed,
            format_args!("bench swarm: {missing} honest downloaders did not finish"),
        ));
    }
    Ok(())
}

/// `bound` explains T_min; `suffix` is added to the line of times.
fn show_finish(finish: &Finish, bound: &str, suffix: &str, output: &Output) {
    row(output, "T_min", format!("{:.2} s", finish.t_min_s), bound);
    let note = format!("first {:.2} s, median {:.2} s{suffix}", finish.t_first_s, finish.t_p50_s);
    row(output, "T_last", format!("{:.2} s", finish.t_last_s), &note);
    let note = format!("T_min/T_p50 {:.3}", finish.efficiency_p50);
    row(output, "T_min/T_last", format!("{:.3}", finish.efficiency_last), &note);
    row(output, "origin", format!("{:.2} copies", finish.origin_copies), "sent by the origin");
    row(output, "Jain index", format!("{:.4}", finish.jain), "of the finish times; 1 is equal");
    row(output, "waste", format!("{:.3} %", 100.0 * finish.waste), "received more than once or too late");
}

fn show(outcome: &Outcome, output: &Output) {
    let Outcome { leechers, honest, pieces, .. } = *outcome;
    let piece_len = Bytes(u64::from(outcome.piece_length));
    let size = Bytes(outcome.bytes);
    output.result(format_args!(
        "simulated: {leechers} downloaders, {honest} honest; {size}, {pieces} pieces of {piece_len}"
    ));
    show_finish(&outcome.finish, "the bound of every protocol", "", output);
    let control = outcome.control_bytes_per_peer / 1e3;
    let note = format!(
        "{:.0} chokes and unchokes, {:.0} connections",
        outcome.choke_changes_per_peer, outcome.connections_per_peer
    );
    row(output, "control, each", format!("{control:.0} kB"), &note);
    let (messages, looks) = (outcome.messages_per_peer / 1e3, outcome.looks_per_peer / 1e3);
    let note = format!("candidates examined: pieces {looks:.1}k, peers to choke {:.1}k", outcome.ranked_per_peer / 1e3);
    row(output, "messages, each", format!("{messages:.0}k"), &note);
    if outcome.corrupting > 0 {
        let bans = format!("{} bans", outcome.bans);
        row(
            output,
            "corrupting",
            bans,
            &format!("of {} corrupting peers; {} of honest peers", outcome.corrupting, outcome.honest_bans),
        );
    }
    output.result(format_args!("pieces over time: fewest #, median =, most -; use of the uplinks"));
    let step = outcome.progress.len().div_ceil(PLOT_LINES).max(1);
    for progress in outcome.progress.iter().step_by(step) {
        let busy = 100.0 * progress.uplinks_busy;
        output.result(format_args!("{:>8.2} s |{}| {busy:>3.0} %", progress.at_s, bar(progress, pieces)));
    }
}

fn row(output: &Output, what: &str, figure: String, note: &str) {
    output.result(format_args!("{what:<22}{figure:>12}   {note}"));
}

fn bar(progress: &Progress, pieces: u32) -> String {
    let width = |count: u32| u64::from(count) * u64::from(PLOT_WIDTH) / u64::from(pieces.max(1));
    let (fewest, median, most) = (width(progress.fewest), width(progress.median), width(progress.most));
    let mark = |at| match at {
        at if at < fewest => '#',
        at if at < median => '=',
        at if at < most => '-',
        _ => ' ',
    };
    (0..u64::from(PLOT_WIDTH)).map(mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_fewest_median_and_most() {
        let progress = Progress { at_s: 1.0, fewest: 10, median: 50, most: 100, uplinks_busy: 1.0 };
        let bar = bar(&progress, 100);
        let count = |mark| bar.chars().filter(|&at| at == mark).count();
        assert_eq!([count('#'), count('='), count('-'), bar.len()], [6, 24, 30, 60]);
    }
}
