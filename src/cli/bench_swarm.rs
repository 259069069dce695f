//! `bt-fast bench swarm`.

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::base::units::Bytes;
use crate::bench::swarm::{Outcome, Progress, Scenario};

/// Characters for all pieces.
const PLOT_WIDTH: u32 = 60;
/// Lines of the plot.
const PLOT_LINES: usize = 24;

pub(super) fn run(scenario: &Scenario, output: &Output) -> Result<(), Failure> {
    output.message(format_args!("simulating {} downloaders …", scenario.leechers));
    let Some(outcome) = scenario.run(&mut |_| ()) else {
        return Err(Failure::new(Exit::Usage, "bench swarm: the content is too long: fewer or shorter pieces"));
    };
    if output.is_json() {
        output.record(&outcome);
    } else {
        show(&outcome, output);
    }
    if outcome.finished < outcome.honest {
        let missing = outcome.honest - outcome.finished;
        return Err(Failure::new(Exit::Failed, format_args!("bench swarm: {missing} of the honest did not finish")));
    }
    Ok(())
}

fn show(outcome: &Outcome, output: &Output) {
    let Outcome { leechers, honest, pieces, .. } = *outcome;
    let piece_len = Bytes(u64::from(outcome.piece_length));
    let size = Bytes(outcome.bytes);
    output.result(format_args!(
        "simulated: {leechers} downloaders, {honest} honest; {size}, {pieces} pieces of {piece_len}"
    ));
    let row = |what: &str, figure: String, note: &str| output.result(format_args!("{what:<22}{figure:>12}   {note}"));
    row("T_min", format!("{:.2} s", outcome.t_min_s), "what no protocol can undercut");
    let times = format!("{:.2} s", outcome.t_last_s);
    let note = format!("first {:.2} s, median {:.2} s", outcome.t_first_s, outcome.t_p50_s);
    row("T_last", times, &note);
    row(
        "T_min/T_last",
        format!("{:.3}", outcome.efficiency_last),
        &format!("T_min/T_p50 {:.3}", outcome.efficiency_p50),
    );
    row("origin", format!("{:.2} copies", outcome.origin_copies), "sent by it");
    row("Jain index", format!("{:.4}", outcome.jain), "of the finish times; 1 is equal");
    row("waste", format!("{:.3} %", 100.0 * outcome.waste), "received twice or in vain");
    let control = outcome.control_bytes_per_peer / 1e3;
    let note = format!(
        "{:.0} chokes and unchokes, {:.0} connections",
        outcome.choke_changes_per_peer, outcome.connections_per_peer
    );
    row("control, each", format!("{control:.0} kB"), &note);
    if outcome.corrupting > 0 {
        let bans = format!("{} bans", outcome.bans);
        row("corrupting", bans, &format!("of {} peers; of honest ones {}", outcome.corrupting, outcome.honest_bans));
    }
    output.result(format_args!("pieces over time: fewest #, median =, most -"));
    let step = outcome.progress.len().div_ceil(PLOT_LINES).max(1);
    for progress in outcome.progress.iter().step_by(step) {
        output.result(format_args!("{:>8.2} s |{}|", progress.at_s, bar(progress, pieces)));
    }
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
        let progress = Progress { at_s: 1.0, fewest: 10, median: 50, most: 100 };
        let bar = bar(&progress, 100);
        let count = |mark| bar.chars().filter(|&at| at == mark).count();
        assert_eq!([count('#'), count('='), count('-'), bar.len()], [6, 24, 30, 60]);
    }
}
