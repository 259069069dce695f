//! The scenario of `bench swarm --simulate`: the number, rates and misbehavior of the nodes, and the outcome of a run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::finish::{Finish, Traffic};
use super::fluid_bound;
use super::node::Node;
use super::world::World;
use crate::base::{Bitfield, Geometry, Time};
use crate::swarm::choker::Slots;

/// The most piece buffers of a leecher. It has fewer if the default of `--arena` holds fewer.
const BUFFERS_MAX: u64 = 512;
/// The most entries of [`Outcome::progress`].
const SAMPLES: usize = 60;
/// A run is aborted after this multiple of the bound.
const PATIENCE: u32 = 40;

/// The parameters of a simulation. Shares are fractions of the leechers, from 0 to 1.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub leechers: usize,
    pub piece_count: u32,
    pub piece_len: u32,
    /// Bytes per second.
    pub origin_rate: u64,
    pub link_rate: u64,
    /// One third of the links has the full rate, one third half of it, and one third a quarter of it.
    pub mixed_rates: bool,
    /// The share that leaves once without an announce and returns.
    pub churn: f64,
    /// The share that does not upload.
    pub free_riders: f64,
    /// The share that corrupts half of the blocks that it sends.
    pub corrupting: f64,
    /// The share that claims all pieces and answers no request.
    pub silent: f64,
}

/// The result of a simulation. Times are in seconds of virtual time.
#[derive(Debug, Serialize)]
pub struct Outcome {
    pub seed: u64,
    pub leechers: usize,
    pub honest: usize,
    pub bytes: u64,
    pub pieces: u32,
    pub piece_length: u32,
    /// Figures of the honest leechers. Their bound is max(F / u_s, F / d_min, N·F / (u_s + Σu_i)), with free riders
    /// among the downloaders.
    #[serde(flatten)]
    pub finish: Finish,
    /// The number of complete honest leechers.
    pub finished: usize,
    pub corrupt_bytes: u64,
    pub corrupting: usize,
    /// Bans of corrupting peers by honest leechers.
    pub bans: usize,
    /// Bans of other peers and of the origin by honest leechers.
    pub honest_bans: usize,
    /// Control bytes that an honest leecher sent, on average.
    pub control_bytes_per_peer: f64,
    pub messages_per_peer: f64,
    /// Pieces that an honest leecher examined to find one to request, on average
    /// ([`crate::swarm::Link::candidates_examined`]). Its name is the JSON key, which users' programs read.
    pub looks_per_peer: f64,
    /// Peers that an honest leecher ranked to decide which are unchoked, on average.
    pub ranked_per_peer: f64,
    pub choke_changes_per_peer: f64,
    pub connections_per_peer: f64,
    pub faults: usize,
    /// Events that all nodes processed.
    pub events: u64,
    /// The duration of the run in seconds of real time.
    pub wall_s: f64,
    /// The progress of the honest leechers at equal intervals.
    pub progress: Vec<Progress>,
}

/// The lowest, median and highest number of pieces of an honest leecher at one time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Progress {
    pub at_s: f64,
    pub fewest: u32,
    pub median: u32,
    pub most: u32,
    /// The share of the total uplink capacity that carried blocks since the previous entry.
    pub uplinks_busy: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Honest,
    FreeRider,
    Corrupting,
    Silent,
}

/// One absence of a leecher.
#[derive(Debug)]
struct Absence {
    node: usize,
    from: Time,
    until: Time,
}

/// The state of a running scenario.
struct Run {
    world: World,
    origin: usize,
    /// The kind of each leecher. The leecher of node n has the index n - 1.
    kinds: Vec<Kind>,
    absences: Vec<Absence>,
    start: Time,
    finished: Vec<Option<Time>>,
    uploaded: u64,
    progress: Vec<Progress>,
}

impl Scenario {
    /// Returns the bound of the honest leechers in seconds. Free riders count as downloaders without an uplink.
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    fn bound(&self, run: &Run) -> f64 {
        let len = run.world.geometry.total_len() as f64;
        let takers: Vec<usize> =
            (1..=self.leechers).filter(|&node| matches!(run.kinds[node - 1], Kind::Honest | Kind::FreeRider)).collect();
        let rate = |node: usize| run.world.nodes[node].settings.uplink_rate as f64;
        let slowest = takers.iter().map(|&node| rate(node)).fold(f64::MAX, f64::min);
        let given: f64 =
            takers.iter().filter(|&&node| run.kinds[node - 1] == Kind::Honest).map(|&node| rate(node)).sum();
        fluid_bound(len, takers.len(), self.origin_rate as f64, slowest, given)
    }

    /// Runs the simulation. Calls `progressed` regularly with the share of leechers that have finished. Returns `None`
    /// if the piece length and count are not valid.
    pub fn run(&self, progressed: &mut dyn FnMut(f64)) -> Option<Outcome> {
        let started = std::time::Instant::now();
        let total_len = u64::from(self.piece_len) * u64::from(self.piece_count);
        let mut run = self.set_up(Geometry::new(self.piece_len, [total_len])?);
        let t_min = self.bound(&run);
        let step = Duration::from_secs_f64(t_min / 40.0);
        let limit = run.start + Duration::from_secs_f64(t_min * f64::from(PATIENCE) + 60.0);
        while run.finished.iter().zip(&run.kinds).any(|(at, &kind)| kind == Kind::Honest && at.is_none())
            && run.world.now < limit
        {
            run.step(step);
            progressed(run.share_finished());
        }
        let mut outcome = self.report(&run, t_min);
        outcome.wall_s = started.elapsed().as_secs_f64();
        Some(outcome)
    }

    fn set_up(&self, geometry: Geometry) -> Run {
        let mut world = World::new(self.seed, geometry);
        let piece_count = self.piece_count;
        let buffers = (crate::base::limits::ARENA_LEN_DEFAULT / u64::from(self.piece_len)).clamp(2, BUFFERS_MAX);
        let buffers = usize::try_from(buffers).unwrap_or(2);
        let origin = world.add_origin();
        world.nodes[origin].settings.uplink_rate = self.origin_rate;
        world.nodes[origin].settings.downlink_rate = self.origin_rate;
        let kinds = self.kinds(&mut world);
        for (i, &kind) in kinds.iter().enumerate() {
            let upload_slots = if kind == Kind::FreeRider { Slots::Count(0) } else { Slots::Auto };
            // The silent leechers and half of the corrupting ones claim all pieces.
            let claims_all = kind == Kind::Silent || (kind == Kind::Corrupting && i % 2 == 0);
            let have = if claims_all { Bitfield::full(piece_count) } else { Bitfield::new(piece_count) };
            let node = world.add_node(&have, buffers, upload_slots);
            let share = if self.mixed_rates { [1, 2, 4][i % 3] } else { 1 };
            let node = &mut world.nodes[node];
            node.settings.uplink_rate = self.link_rate / share;
            node.settings.downlink_rate = self.link_rate / share;
            node.settings.silent = kind == Kind::Silent;
            node.settings.corrupt_share = if kind == Kind::Corrupting { 0.5 } else { 0.0 };
        }
        (0..=self.leechers).for_each(|node| world.join(node));
        let start = world.now;
        let mut run = Run {
            finished: vec![None; self.leechers],
            uploaded: 0,
            world,
            origin,
            kinds,
            absences: Vec::new(),
            start,
            progress: Vec::new(),
        };
        run.absences = self.absences(&mut run);
        run
    }

    fn kinds(&self, world: &mut World) -> Vec<Kind> {
        let mut kinds = vec![Kind::Honest; self.leechers];
        let mut at = 0;
        for (share, kind) in
            [(self.free_riders, Kind::FreeRider), (self.corrupting, Kind::Corrupting), (self.silent, Kind::Silent)]
        {
            let count = self.count_of(share);
            kinds.iter_mut().skip(at).take(count).for_each(|entry| *entry = kind);
            at += count;
        }
        world.rng.shuffle(&mut kinds);
        kinds
    }

    /// Returns the number of leechers for a share, rounded up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share")]
    fn count_of(&self, share: f64) -> usize {
        (share * self.leechers as f64).ceil() as usize
    }

    fn absences(&self, run: &mut Run) -> Vec<Absence> {
        let t_min = self.bound(run);
        let mut honest: Vec<usize> = (1..=self.leechers).filter(|&node| run.kinds[node - 1] == Kind::Honest).collect();
        run.world.rng.shuffle(&mut honest);
        honest.truncate(self.count_of(self.churn));
        let rng = &mut run.world.rng;
        let absence = |node| {
            let from = run.start + Duration::from_secs_f64(t_min * (0.1 + 0.6 * rng.f64()));
            Absence { node, from, until: from + Duration::from_secs_f64(t_min * (0.02 + 0.08 * rng.f64())) }
        };
        honest.into_iter().map(absence).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    fn report(&self, run: &Run, t_min_s: f64) -> Outcome {
        let world = &run.world;
        let honest: Vec<usize> = (1..=self.leechers).filter(|&node| run.kinds[node - 1] == Kind::Honest).collect();
        let mut times: Vec<f64> =
            honest.iter().filter_map(|&node| run.finished[node - 1]).map(|at| (at - run.start).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let sum = |of: &dyn Fn(usize) -> u64| honest.iter().map(|&node| of(node)).sum::<u64>();
        let totals = |node: usize| &world.nodes[node].swarm.totals;
        let wasted = sum(&|node| totals(node).wasted.load(Ordering::Relaxed));
        let received = sum(&|node| totals(node).downloaded.load(Ordering::Relaxed)) + wasted;
        // The origin has no kind.
        let bans = |of: &dyn Fn(Option<Kind>) -> bool| {
            let banned = honest.iter().flat_map(|&node| &world.nodes[node].record.banned);
            banned.filter(|&&node| of((node != run.origin).then(|| run.kinds[node - 1]))).count()
        };
        let traffic = Traffic { origin_copies: world.copies(run.origin), wasted, received };
        let peers = honest.len().max(1) as f64;
        Outcome {
            seed: self.seed,
            leechers: self.leechers,
            honest: honest.len(),
            bytes: world.geometry.total_len(),
            pieces: self.piece_count,
            piece_length: self.piece_len,
            finish: Finish::new(t_min_s, &times, honest.len(), &traffic),
            finished: times.len(),
            corrupt_bytes: sum(&|node| totals(node).corrupt.load(Ordering::Relaxed)),
            corrupting: run.kinds.iter().filter(|&&kind| kind == Kind::Corrupting).count(),
            bans: bans(&|kind| kind == Some(Kind::Corrupting)),
            honest_bans: bans(&|kind| kind != Some(Kind::Corrupting)),
            control_bytes_per_peer: sum(&|node| world.nodes[node].effort.control_len) as f64 / peers,
            messages_per_peer: sum(&|node| world.nodes[node].effort.messages) as f64 / peers,
            looks_per_peer: sum(&|node| world.nodes[node].candidates_examined()) as f64 / peers,
            ranked_per_peer: sum(&|node| world.nodes[node].ranked()) as f64 / peers,
            choke_changes_per_peer: sum(&|node| world.nodes[node].choke_changes()) as f64 / peers,
            connections_per_peer: sum(&|node| world.nodes[node].effort.connections) as f64 / peers,
            faults: world.faults().count(),
            events: world.nodes.iter().map(|node| node.effort.events).sum(),
            wall_s: 0.0,
            progress: thinned(&run.progress),
        }
    }
}

/// Returns at most [`SAMPLES`] entries at equal distances.
fn thinned(progress: &[Progress]) -> Vec<Progress> {
    progress.iter().copied().step_by(progress.len().div_ceil(SAMPLES).max(1)).collect()
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    fn step(&mut self, step: Duration) {
        let end = self.world.now + step;
        let (finished, absences) = (&mut self.finished, &mut self.absences);
        let mut next_check = self.world.now;
        self.world.run_while(step + step, |world| {
            if world.now >= next_check {
                next_check = world.now + Duration::from_millis(10);
                let waiting = finished.iter_mut().zip(1..).filter(|(at, _)| at.is_none());
                waiting.for_each(|(at, node)| *at = world.nodes[node].record.completed_at);
                apply_absences(world, absences);
            }
            world.now >= end
        });
        let mut counts: Vec<u32> = (1..=self.kinds.len())
            .filter(|&node| self.kinds[node - 1] == Kind::Honest)
            .map(|node| self.world.nodes[node].swarm.pieces.have_count())
            .collect();
        counts.sort_unstable();
        let at_s = (self.world.now - self.start).as_secs_f64();
        let uploaded = |node: &Node| node.swarm.totals.uploaded.load(Ordering::Relaxed);
        let uploaded: u64 = self.world.nodes.iter().map(uploaded).sum();
        let rates: u64 = self.world.nodes.iter().map(|node| node.settings.uplink_rate).sum();
        let carried = uploaded - std::mem::replace(&mut self.uploaded, uploaded);
        let uplinks_busy = carried as f64 / (rates as f64 * step.as_secs_f64());
        if let (Some(&fewest), Some(&most)) = (counts.first(), counts.last()) {
            self.progress.push(Progress { at_s, fewest, median: counts[counts.len() / 2], most, uplinks_busy });
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn share_finished(&self) -> f64 {
        self.finished.iter().flatten().count() as f64 / self.finished.len().max(1) as f64
    }
}

fn apply_absences(world: &mut World, absences: &mut Vec<Absence>) {
    let now = world.now;
    absences.retain(|absence| {
        if now >= absence.until {
            world.join(absence.node);
            return false;
        }
        if now >= absence.from && world.is_online(absence.node) {
            world.leave(absence.node);
        }
        true
    });
}
