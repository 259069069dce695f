//! Figures of a swarm, of processes or simulated: completion times of the downloaders, and the cost in traffic.

use serde::Serialize;

/// Completion times in seconds, infinite if a downloader did not finish.
#[derive(Debug, Clone, Serialize)]
pub struct Finish {
    /// The lower bound of `t_last_s`.
    pub t_min_s: f64,
    pub t_first_s: f64,
    pub t_p50_s: f64,
    pub t_last_s: f64,
    pub efficiency_last: f64,
    pub efficiency_p50: f64,
    pub origin_copies: f64,
    /// Jain's fairness index of the completion times.
    pub jain: f64,
    /// The share of received bytes that were redundant. Bytes of corrupt pieces are not included.
    pub waste: f64,
}

/// The traffic of a swarm.
pub(super) struct Traffic {
    /// Bytes that the origin sent, as a multiple of the content length.
    pub(super) origin_copies: f64,
    /// Bytes received that the downloaders did not need, a part of `received`.
    pub(super) wasted: u64,
    pub(super) received: u64,
}

impl Finish {
    /// `times` are those of the downloaders that finished, in ascending order, out of `count` downloaders.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    pub(super) fn new(t_min_s: f64, times: &[f64], count: usize, traffic: &Traffic) -> Self {
        let at = |index: usize| times.get(index).copied().unwrap_or(f64::INFINITY);
        let (p50, last) = (at(times.len() / 2), at(count.saturating_sub(1)));
        Self {
            t_min_s,
            t_first_s: at(0),
            t_p50_s: p50,
            t_last_s: last,
            efficiency_last: t_min_s / last,
            efficiency_p50: t_min_s / p50,
            origin_copies: traffic.origin_copies,
            jain: jain(times),
            waste: traffic.wasted as f64 / traffic.received.max(1) as f64,
        }
    }
}

/// Jain's fairness index: 1 if all n values are equal, 1/n if all but one are 0.
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn jain(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| value * value).sum();
    values.iter().sum::<f64>().powi(2) / (values.len().max(1) as f64 * squares.max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(is: f64, expected: f64) {
        assert!((is - expected).abs() < 1e-9, "{is} {expected}");
    }

    #[test]
    fn jains_index_of_equal_and_single_values() {
        near(jain(&[2.0, 2.0, 2.0]), 1.0);
        near(jain(&[0.0, 0.0, 3.0]), 1.0 / 3.0);
    }

    #[test]
    fn an_unfinished_downloader_makes_the_last_time_infinite() {
        let finish = Finish::new(2.0, &[2.5, 4.0, 5.0], 3, &Traffic { origin_copies: 1.5, wasted: 1, received: 100 });
        assert_eq!((finish.t_first_s, finish.t_p50_s, finish.t_last_s), (2.5, 4.0, 5.0));
        near(finish.efficiency_last, 0.4);
        near(finish.efficiency_p50, 0.5);
        near(finish.waste, 0.01);
        let finish = Finish::new(2.0, &[2.5], 3, &Traffic { origin_copies: 1.0, wasted: 0, received: 0 });
        assert!(finish.t_last_s.is_infinite() && finish.efficiency_last == 0.0 && finish.waste == 0.0);
    }
}
