use super::*;
use crate::codec::tracker_http::PeerHost;

const MINUTE: Time = Time::from_secs(60);
const INTERVAL: u64 = 1200;

/// The announces of one torrent in virtual time.
struct World {
    announce: Announce,
    now: Time,
    /// All notices so far, as shown.
    notices: Vec<String>,
}

fn reply() -> AnnounceReply {
    AnnounceReply { interval: Some(INTERVAL), ..AnnounceReply::default() }
}

fn down() -> AnnounceFailure {
    AnnounceFailure::Transport("connection refused".into())
}

fn refusal(reason: &str, retry_in: Option<RetryIn>) -> AnnounceFailure {
    TrackerReplyError::Failure { reason: reason.into(), retry_in }.into()
}

impl World {
    /// Takes the hosts of each tier; the trackers' URLs differ only in the host.
    fn new(tiers: &[&[&str]], complete: bool) -> Self {
        let urls = |hosts: &&[&str]| hosts.iter().map(|host| format!("http://{host}/announce")).collect();
        let tiers = tiers.iter().map(urls).collect();
        let announce = Announce::new(tiers, complete, &mut Rng::with_seed(1));
        Self { announce, now: Time::from_secs(1000), notices: Vec::new() }
    }

    /// Returns the next request that is due.
    fn ask(&mut self) -> Option<Request> {
        self.announce.poll_request(self.now)
    }

    fn answer(&mut self, request: &Request, reply: Result<AnnounceReply, AnnounceFailure>) -> Vec<TrackerPeer> {
        let outcome = self.announce.handle_reply(self.now, request.id, reply);
        self.notices.extend(outcome.notices.iter().map(Notice::to_string));
        outcome.peers
    }

    /// Answers the request that is due, and returns its tracker and event.
    fn succeed(&mut self) -> (String, Event) {
        let request = self.ask().expect("a request is due");
        self.answer(&request, Ok(reply()));
        (host(&request), request.event)
    }

    /// Fails all requests that are due, and returns their trackers.
    fn fail_all(&mut self) -> Vec<String> {
        let mut hosts = Vec::new();
        while let Some(request) = self.ask() {
            self.answer(&request, Err(down()));
            hosts.push(host(&request));
        }
        hosts
    }

    /// Advances to the next request, and returns the seconds until then.
    fn wait(&mut self) -> u64 {
        let due = self.announce.poll_timeout().expect("something is due");
        let waited = due.saturating_sub(self.now);
        if waited > Time::ZERO {
            assert_eq!(self.announce.poll_request(due - Time::from_millis(1)), None, "before its time");
        }
        self.now = due.max(self.now);
        waited.as_secs()
    }
}

fn host(request: &Request) -> String {
    shown_server(&request.url).trim_start_matches("http://").to_owned()
}

#[test]
fn the_first_announce_is_started_and_the_next_ones_are_regular() {
    let mut world = World::new(&[&["a"]], false);
    assert_eq!(world.succeed(), ("a".into(), Event::Started));
    assert_eq!(world.wait(), INTERVAL);
    assert_eq!(world.succeed(), ("a".into(), Event::Empty));
    assert_eq!(world.wait(), INTERVAL);
}

#[test]
fn one_request_at_a_time() {
    let mut world = World::new(&[&["a", "b"], &["c"]], false);
    assert!(world.ask().is_some());
    assert_eq!(world.ask(), None);
    assert_eq!(world.announce.poll_timeout(), None);
}

#[test]
fn the_next_tier_is_tried_after_all_of_this_one_failed() {
    let mut world = World::new(&[&["a", "b"], &["c", "d"]], false);
    let order = world.fail_all();
    assert_eq!(order.len(), 4);
    assert!(order[..2].contains(&"a".into()) && order[..2].contains(&"b".into()), "{order:?}");
}

#[test]
fn each_tier_is_shuffled_once() {
    let hosts: Vec<String> = (0..20).map(|n| format!("http://{n}/")).collect();
    let order = |seed| {
        let announce = Announce::new(vec![hosts.clone()], false, &mut Rng::with_seed(seed));
        announce.tiers.iter().map(|tracker| tracker.url.clone()).collect::<Vec<_>>()
    };
    assert_ne!(order(1), hosts);
    assert_ne!(order(1), order(2));
    assert_eq!(order(1), order(1));
}

#[test]
fn a_tracker_that_answers_moves_to_the_front_of_its_tier() {
    let mut world = World::new(&[&["a", "b", "c"]], false);
    let first = world.ask().unwrap();
    world.answer(&first, Err(down()));
    let (second, _) = world.succeed();
    assert_ne!(second, host(&first));
    world.wait();
    assert_eq!(world.succeed().0, second);
}

#[test]
fn a_higher_tier_is_tried_again_at_the_next_announce() {
    let mut world = World::new(&[&["a"], &["b"]], false);
    let request = world.ask().unwrap();
    world.answer(&request, Err(down()));
    assert_eq!(world.succeed(), ("b".into(), Event::Started));
    assert_eq!(world.wait(), INTERVAL);
    assert_eq!(world.succeed(), ("a".into(), Event::Started));
}

#[test]
fn failing_trackers_are_retried_with_doubling_waits() {
    let mut world = World::new(&[&["a"]], false);
    let mut waits = Vec::new();
    for _ in 0..10 {
        assert_eq!(world.fail_all(), ["a"]);
        waits.push(world.wait());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    assert_eq!(world.succeed(), ("a".into(), Event::Started));
    world.wait();
    world.fail_all();
    assert_eq!(world.wait(), 1, "an answer clears the failures");
}

#[test]
fn failures_are_reported_once_per_change() {
    let mut world = World::new(&[&["user:secret@a:80/key"]], false);
    for _ in 0..5 {
        world.fail_all();
        world.wait();
    }
    for reason in ["unregistered\x1b[31m", "unregistered\x1b[31m", "banned"] {
        let request = world.ask().unwrap();
        world.answer(&request, Err(refusal(reason, None)));
        world.wait();
    }
    world.succeed();
    world.wait();
    world.succeed();
    assert_eq!(
        world.notices,
        [
            "tracker http://a: connection refused",
            "tracker http://a: the tracker refused: unregistered\\x1b[31m",
            "tracker http://a: the tracker refused: banned",
            "tracker http://a: answers again",
        ]
    );
}

#[test]
fn a_warning_is_reported_once_and_its_peers_are_taken() {
    let mut world = World::new(&[&["a"]], false);
    let peer = TrackerPeer { host: PeerHost::Ip([10, 0, 0, 1].into()), port: 1, peer_id: None };
    for _ in 0..3 {
        let request = world.ask().unwrap();
        let warned = AnnounceReply { warning: Some("soon over".into()), peers: vec![peer.clone()], ..reply() };
        assert_eq!(world.answer(&request, Ok(warned)), std::slice::from_ref(&peer));
        world.wait();
    }
    assert_eq!(world.notices, ["tracker http://a warns: soon over"]);
}

#[test]
fn retry_in_is_honoured() {
    let mut world = World::new(&[&["a"]], false);
    let request = world.ask().unwrap();
    world.answer(&request, Err(refusal("busy", Some(RetryIn::Minutes(7)))));
    assert_eq!(world.wait(), 7 * 60);
    let request = world.ask().unwrap();
    world.answer(&request, Err(refusal("no", Some(RetryIn::Never))));
    assert_eq!(world.announce.poll_timeout(), None);
    world.now += Time::from_secs(1 << 40);
    assert_eq!(world.ask(), None);
}

#[test]
fn a_tracker_that_is_gone_is_not_tried_again() {
    let mut world = World::new(&[&["a", "b"]], false);
    let first = world.ask().unwrap();
    world.answer(&first, Err(AnnounceFailure::Gone));
    for _ in 0..10 {
        assert_ne!(world.succeed().0, host(&first));
        world.wait();
    }
}

#[test]
fn completed_is_sent_at_once_and_once() {
    let mut world = World::new(&[&["a"]], false);
    world.succeed();
    world.now += MINUTE;
    world.announce.handle_complete();
    assert_eq!(world.announce.poll_timeout().map(|due| due <= world.now), Some(true));
    assert_eq!(world.succeed(), ("a".into(), Event::Completed));
    world.announce.handle_complete();
    assert_eq!(world.wait(), INTERVAL);
    assert_eq!(world.succeed(), ("a".into(), Event::Empty));
}

#[test]
fn completed_that_failed_is_sent_again() {
    let mut world = World::new(&[&["a"]], false);
    world.succeed();
    world.announce.handle_complete();
    assert_eq!(world.fail_all(), ["a"]);
    assert_eq!(world.wait(), 1);
    assert_eq!(world.succeed(), ("a".into(), Event::Completed));
}

#[test]
fn no_completed_is_sent_if_complete_at_the_start() {
    let mut world = World::new(&[&["a"]], true);
    assert_eq!(world.succeed().1, Event::Started);
    world.announce.handle_complete();
    assert_eq!(world.wait(), INTERVAL);
    assert_eq!(world.succeed().1, Event::Empty);
}

#[test]
fn completion_during_started_still_sends_completed() {
    let mut world = World::new(&[&["a"]], false);
    let request = world.ask().unwrap();
    world.announce.handle_complete();
    world.answer(&request, Ok(reply()));
    assert_eq!(world.succeed().1, Event::Completed);
}

#[test]
fn a_tracker_first_reached_after_completion_gets_no_completed() {
    let mut world = World::new(&[&["a"]], false);
    world.fail_all();
    world.announce.handle_complete();
    world.wait();
    assert_eq!(world.succeed().1, Event::Started);
    assert_eq!(world.wait(), INTERVAL);
}

#[test]
fn a_need_for_peers_brings_the_next_announce_forward() {
    let mut world = World::new(&[&["a"]], false);
    world.succeed();
    world.announce.handle_need_peers(world.now);
    assert_eq!(world.wait(), 30);
    let request = world.ask().unwrap();
    world.answer(&request, Ok(AnnounceReply { min_interval: Some(300), ..reply() }));
    world.now += MINUTE;
    world.announce.handle_need_peers(world.now);
    world.announce.handle_need_peers(world.now);
    assert_eq!(world.wait(), 240);
    world.succeed();
    assert_eq!(world.wait(), INTERVAL);
}

#[test]
fn a_need_for_peers_does_not_shorten_the_back_off() {
    let mut world = World::new(&[&["a"]], false);
    for _ in 0..4 {
        world.fail_all();
        world.announce.handle_need_peers(world.now);
        world.wait();
    }
    world.fail_all();
    world.announce.handle_need_peers(world.now);
    assert_eq!(world.wait(), 16);
}

#[test]
fn stopped_goes_to_trackers_that_answered_a_started() {
    let mut world = World::new(&[&["a"], &["b"], &["c"]], false);
    let request = world.ask().unwrap();
    world.answer(&request, Err(down()));
    assert_eq!(world.succeed().0, "b");
    world.wait();
    assert_eq!(world.succeed().0, "a");

    world.announce.handle_stop();
    let stops: Vec<Request> = std::iter::from_fn(|| world.ask()).collect();
    let shown: Vec<_> = stops.iter().map(|request| (host(request), request.event, request.numwant)).collect();
    assert_eq!(shown, [("a".into(), Event::Stopped, 0), ("b".into(), Event::Stopped, 0)]);
    assert!(!world.announce.is_finished());
    world.answer(&stops[0], Ok(reply()));
    world.answer(&stops[1], Err(down()));
    assert!(world.announce.is_finished());
    assert_eq!(world.notices.len(), 2, "no notice of the failed stop: {:?}", world.notices);
}

#[test]
fn completed_comes_before_stopped() {
    let mut world = World::new(&[&["a"]], false);
    world.succeed();
    world.announce.handle_complete();
    let completed = world.ask().unwrap();
    world.announce.handle_stop();
    assert_eq!(world.ask(), None, "it would overtake");
    world.answer(&completed, Ok(reply()));
    assert_eq!(world.succeed().1, Event::Stopped);
    assert!(world.announce.is_finished());
}

#[test]
fn stopping_does_not_wait_for_unanswered_trackers() {
    let mut world = World::new(&[&["a"]], false);
    let request = world.ask().unwrap();
    world.announce.handle_stop();
    assert!(world.announce.is_finished());
    world.answer(&request, Ok(reply()));
    assert_eq!(world.succeed().1, Event::Stopped, "the tracker did register us");
}

#[test]
fn stopping_waits_until_a_tracker_knows_a_complete_torrent() {
    let mut world = World::new(&[&["a"]], true);
    let request = world.ask().unwrap();
    world.announce.handle_stop();
    assert!(!world.announce.is_finished());
    world.answer(&request, Ok(reply()));
    assert_eq!(world.succeed().1, Event::Stopped);
    assert!(world.announce.is_finished());

    let mut world = World::new(&[&["a"]], true);
    let request = world.ask().unwrap();
    world.announce.handle_stop();
    world.answer(&request, Err(down()));
    assert!(world.announce.is_finished());
}

#[test]
fn the_tracker_id_is_sent_back_to_its_tracker() {
    let mut world = World::new(&[&["a"]], false);
    let request = world.ask().unwrap();
    assert_eq!(request.tracker_id, None);
    world.answer(&request, Ok(AnnounceReply { tracker_id: Some(b"x\0".to_vec()), ..reply() }));
    world.wait();
    let request = world.ask().unwrap();
    world.answer(&request, Ok(reply()));
    assert_eq!(request.tracker_id.as_deref(), Some(&b"x\0"[..]));
    world.wait();
    assert!(world.ask().unwrap().tracker_id.is_some(), "it stays until the tracker sends another one");
}

#[test]
fn unsupported_trackers_are_skipped_with_a_notice() {
    let tiers = vec![vec!["wss://u:1/announce".to_owned(), "HTTP://a/".into()], vec!["HTTP://a/".into()]];
    let mut announce = Announce::new(tiers, false, &mut Rng::with_seed(1));
    let notice = announce.poll_notice().unwrap();
    assert_eq!((notice.tracker.as_str(), notice.kind), ("wss://u:1", NoticeKind::Unsupported));
    assert_eq!(announce.poll_notice(), None);
    assert_eq!(announce.tiers.iter().count(), 1, "each URL once");
    assert!(announce.has_trackers());
}

#[test]
fn without_trackers_nothing_is_ever_due() {
    let mut world = World::new(&[], false);
    assert!(!world.announce.has_trackers());
    assert_eq!((world.ask(), world.announce.poll_timeout()), (None, None));
    world.announce.handle_stop();
    assert!(world.announce.is_finished());
}

#[test]
fn unknown_and_repeated_replies_are_ignored() {
    let mut world = World::new(&[&["a"]], false);
    let request = world.ask().unwrap();
    world.answer(&request, Ok(reply()));
    world.answer(&request, Err(down()));
    assert_eq!(world.wait(), INTERVAL);
    assert_eq!(world.notices, [""; 0]);
}
