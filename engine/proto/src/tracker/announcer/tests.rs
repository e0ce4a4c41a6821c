//! The announcer in simulated time.

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::tracker::AnnounceEvent as Event;

/// An announcer, a clock, and the announces it asked for that nobody has answered yet.
struct World {
    now: Instant,
    announcer: Announcer,
    open: Vec<Announce>,
    finished: bool,
}

impl World {
    fn new(tiers: &[&[&str]], seed: u64) -> Self {
        let tiers: Vec<Vec<String>> =
            tiers.iter().map(|tier| tier.iter().map(|&url| url.to_owned()).collect()).collect();
        let announcer = Announcer::new(&tiers, Rng::new(seed));
        Self { now: Instant::ZERO, announcer, open: Vec::new(), finished: false }
    }

    fn started(tiers: &[&[&str]]) -> Self {
        let mut world = Self::new(tiers, 1);
        world.input(AnnouncerInput::Start);
        world
    }

    fn input(&mut self, input: AnnouncerInput<'_>) {
        self.announcer.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.announcer.poll_action() {
            match action {
                AnnounceAction::Announce(announce) => self.open.push(announce),
                AnnounceAction::Finished => {
                    assert!(!self.finished, "finished twice");
                    self.finished = true;
                }
            }
        }
    }

    /// The only open announce: its tracker and event.
    fn take(&mut self) -> Announce {
        assert_eq!(self.open.len(), 1, "{:?}", self.open);
        self.open.remove(0)
    }

    fn expect(&mut self, tracker: &str, event: Event) -> AnnounceId {
        let announce = self.take();
        assert_eq!((announce.tracker.as_str(), announce.event), (tracker, event));
        announce.id
    }

    fn answer(&mut self, id: AnnounceId) {
        self.input(AnnouncerInput::Answered { id, response: &response(1800, 60) });
    }

    fn fail(&mut self, id: AnnounceId) {
        self.input(AnnouncerInput::Failed { id, retry: None });
    }

    /// Lets time pass to the next timeout; how long that was.
    fn pass(&mut self) -> Duration {
        let at = self.announcer.poll_timeout().expect("something to wait for");
        assert!(at > self.now, "a timeout in the past would be a busy loop");
        let passed = at - self.now;
        self.now = at;
        self.announcer.handle_timeout(self.now);
        self.drain();
        passed
    }
}

/// BEP 21: in every announce, in place of what else there is to say, but not when it leaves.
#[test]
fn a_partial_seed_says_that_it_is_one() {
    let mut world = World::started(&[&["a"]]);
    let event = |announce: &Announce, partial_seed| {
        let transfer = Transfer { left: 5, partial_seed, ..Transfer::default() };
        let request = announce.request(InfoHash([1; 20]), PeerId([2; 20]), 1, transfer);
        assert_eq!(request.left, 5);
        request.event
    };
    let started = world.take();
    assert_eq!([false, true].map(|partial| event(&started, partial)), [Event::Started, Event::Paused]);
    world.answer(started.id);
    world.input(AnnouncerInput::Completed);
    let completed = world.take();
    assert_eq!([false, true].map(|partial| event(&completed, partial)), [Event::Completed, Event::Paused]);
    world.answer(completed.id);
    world.pass();
    let regular = world.take();
    assert_eq!([false, true].map(|partial| event(&regular, partial)), [Event::None, Event::Paused]);
    world.answer(regular.id);
    world.input(AnnouncerInput::Stop);
    assert_eq!(event(&world.take(), true), Event::Stopped);
}

fn response(interval: u64, min_interval: u64) -> AnnounceResponse {
    let body = format!("d8:intervali{interval}e12:min intervali{min_interval}ee");
    AnnounceResponse::parse(body.as_bytes()).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn started_then_plain_announces_at_the_interval() {
    let mut world = World::started(&[&["http://a"]]);
    let id = world.expect("http://a", Event::Started);
    world.answer(id);
    for _ in 0..3 {
        assert_eq!(world.pass(), 1800 * SECOND);
        let id = world.expect("http://a", Event::None);
        world.answer(id);
    }
}

#[test]
fn started_is_repeated_until_delivered() {
    let mut world = World::started(&[&["http://a"]]);
    for _ in 0..3 {
        let id = world.expect("http://a", Event::Started);
        world.fail(id);
        world.pass();
    }
    let id = world.expect("http://a", Event::Started);
    world.answer(id);
    world.pass();
    world.expect("http://a", Event::None);
}

#[test]
fn completed_is_told_at_once_and_once() {
    let mut world = World::started(&[&["http://a"]]);
    let id = world.expect("http://a", Event::Started);
    world.input(AnnouncerInput::Completed);
    assert!(world.open.is_empty(), "one at a time");
    world.answer(id);
    let id = world.expect("http://a", Event::Completed);
    world.fail(id);
    world.pass();
    let id = world.expect("http://a", Event::Completed);
    world.answer(id);
    world.pass();
    world.expect("http://a", Event::None);
}

#[test]
fn failures_back_off_up_to_half_an_hour() {
    let mut world = World::started(&[&["http://a"]]);
    let mut waits = Vec::new();
    for _ in 0..14 {
        let id = world.expect("http://a", Event::Started);
        world.fail(id);
        waits.push(world.pass());
    }
    for (i, wait) in waits.iter().enumerate() {
        let nominal = (5 * SECOND * (1 << i.min(10))).min(1800 * SECOND);
        assert!(*wait >= nominal && *wait <= nominal * 3 / 2, "wait {i} was {wait:?}");
    }
}

#[test]
fn the_next_tier_only_when_a_tier_fails() {
    let mut world = World::started(&[&["http://a"], &["http://b"], &["http://c"]]);
    let id = world.expect("http://a", Event::Started);
    world.fail(id);
    let id = world.expect("http://b", Event::Started);
    world.answer(id);
    // At the next announce the first tier has its chance again (BEP 12).
    world.pass();
    let id = world.expect("http://a", Event::Started);
    world.answer(id);
    world.pass();
    world.expect("http://a", Event::None);
}

#[test]
fn a_responding_tracker_moves_to_the_front_of_its_tier() {
    let mut world = World::started(&[&["http://a", "http://b", "http://c"]]);
    let mut order = Vec::new();
    for _ in 0..2 {
        let announce = world.take();
        order.push(announce.tracker.clone());
        world.fail(announce.id);
    }
    let third = world.take();
    world.answer(third.id);
    world.pass();
    let announce = world.take();
    assert_eq!(announce.tracker, third.tracker);
    world.fail(announce.id);
    assert_eq!(world.take().tracker, order[0], "the others keep their order");
}

#[test]
fn tiers_are_shuffled_by_the_seed() {
    let first = |seed| {
        let mut world = World::new(&[&["http://a", "http://b", "http://c", "http://d"], &["http://e"]], seed);
        world.input(AnnouncerInput::Start);
        world.take().tracker
    };
    let seen: std::collections::BTreeSet<String> = (0..50).map(first).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["http://a", "http://b", "http://c", "http://d"]);
    assert_eq!(first(7), first(7));
}

#[test]
fn more_peers_no_sooner_than_the_minimum() {
    let mut world = World::started(&[&["http://a"], &["http://b"]]);
    let id = world.expect("http://a", Event::Started);
    world.input(AnnouncerInput::WantPeers);
    world.answer(id);
    world.input(AnnouncerInput::WantPeers);
    assert!(world.open.is_empty());
    assert_eq!(world.pass(), 60 * SECOND);
    let id = world.expect("http://a", Event::None);
    world.answer(id);
    assert_eq!(world.pass(), 1800 * SECOND, "wanting is over with the answer");
}

#[test]
fn failing_over_respects_the_other_trackers_minimum() {
    let mut world = World::started(&[&["http://a"], &["http://b"]]);
    let id = world.expect("http://a", Event::Started);
    world.fail(id);
    let id = world.expect("http://b", Event::Started);
    world.input(AnnouncerInput::Answered { id, response: &response(10, 10) });
    world.pass();
    let id = world.expect("http://a", Event::Started);
    world.input(AnnouncerInput::Answered { id, response: &response(10, 10) });
    world.pass();
    let id = world.expect("http://a", Event::None);
    world.fail(id);
    // b was asked 20 s ago and named 10.
    world.expect("http://b", Event::None);
}

#[test]
fn trackers_say_when_to_come_back() {
    let mut world = World::started(&[&["http://a"]]);
    let id = world.expect("http://a", Event::Started);
    world.input(AnnouncerInput::Failed { id, retry: Some(Retry::After(600 * SECOND)) });
    assert_eq!(world.pass(), 600 * SECOND);
    let id = world.expect("http://a", Event::Started);
    world.input(AnnouncerInput::Failed { id, retry: Some(Retry::Never) });
    assert_eq!(world.announcer.poll_timeout(), None);
}

#[test]
fn tracker_ids_go_back_to_their_tracker() {
    let mut world = World::started(&[&["http://a"], &["http://b"]]);
    let id = world.expect("http://a", Event::Started);
    let with_id = AnnounceResponse { tracker_id: Some(b"me".to_vec()), ..response(1800, 60) };
    world.input(AnnouncerInput::Answered { id, response: &with_id });
    world.pass();
    let announce = world.take();
    assert_eq!(announce.tracker_id.as_deref(), Some(b"me".as_slice()));
    world.answer(announce.id);
    world.pass();
    let announce = world.take();
    assert_eq!(announce.tracker_id.as_deref(), Some(b"me".as_slice()), "not taken back by an answer without");
    world.fail(announce.id);
    assert_eq!(world.take().tracker_id, None);
}

#[test]
fn leaving_tells_all_who_know_us() {
    let mut world = World::started(&[&["http://a"], &["http://b"], &["http://c"]]);
    let id = world.expect("http://a", Event::Started);
    world.fail(id);
    let id = world.expect("http://b", Event::Started);
    world.answer(id);
    world.pass();
    // On its way to a when we stop: a may know us by then.
    let late = world.expect("http://a", Event::Started);
    world.input(AnnouncerInput::Stop);
    let mut told: Vec<_> =
        world.open.iter().map(|announce| (announce.tracker.clone(), announce.event)).collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(told, [("http://a".into(), Event::Stopped), ("http://b".into(), Event::Stopped)]);
    assert!(world.open.iter().all(|announce| announce.numwant == 0));
    world.answer(late);
    for announce in std::mem::take(&mut world.open) {
        assert!(!world.finished);
        world.answer(announce.id);
    }
    assert!(world.finished);
    assert_eq!(world.announcer.poll_timeout(), None);
    world.input(AnnouncerInput::Stop);
}

#[test]
fn leaving_waits_only_so_long() {
    let mut world = World::started(&[&["http://a"]]);
    let id = world.expect("http://a", Event::Started);
    world.answer(id);
    world.input(AnnouncerInput::Stop);
    world.expect("http://a", Event::Stopped);
    assert_eq!(world.pass(), STOP_TIMEOUT);
    assert!(world.finished);
}

#[test]
fn leaving_when_nobody_knows_us_is_immediate() {
    for start in [false, true] {
        let mut world = World::new(&[&[]], 1);
        if start {
            world.input(AnnouncerInput::Start);
        }
        world.input(AnnouncerInput::Stop);
        assert!(world.finished && world.open.is_empty());
    }
    let mut world = World::new(&[&["http://a"]], 1);
    world.input(AnnouncerInput::Stop);
    assert!(world.finished && world.open.is_empty());
}

#[test]
fn silence_is_failure_and_late_answers_change_nothing() {
    let mut world = World::started(&[&["http://a"], &["http://b"]]);
    let late = world.expect("http://a", Event::Started);
    assert_eq!(world.pass(), ANNOUNCE_TIMEOUT);
    let id = world.expect("http://b", Event::Started);
    world.answer(late);
    assert!(world.open.is_empty());
    world.answer(id);
    world.pass();
    world.expect("http://a", Event::Started);
}

#[test]
fn repeated_and_excess_trackers_are_dropped() {
    let urls: Vec<String> = (0..300).map(|i| format!("http://t{}", i % 250)).collect();
    let mut announcer = Announcer::new(&[urls.clone(), urls], Rng::new(1));
    announcer.handle_input(Instant::ZERO, AnnouncerInput::Start);
    let mut asked = std::collections::BTreeSet::new();
    while let Some(AnnounceAction::Announce(announce)) = announcer.poll_action() {
        assert!(asked.insert(announce.tracker), "asked twice in one round");
        announcer.handle_input(Instant::ZERO, AnnouncerInput::Failed { id: announce.id, retry: None });
    }
    assert_eq!(asked.len(), 200);
}

proptest! {
    /// Whatever happens: at most one announce is open while running, `started` comes first with every tracker,
    /// no event is delivered twice, no timeout lies in the past, and stopping ends.
    #[test]
    fn any_course_of_events(seed: u64, steps in prop::collection::vec((0u8..6, 0u64..4000), 0..60)) {
        let mut world = World::new(&[&["http://a", "http://b"], &["http://c"]], seed);
        let mut delivered: Vec<(String, Event)> = Vec::new();
        world.input(AnnouncerInput::Start);
        for (step, secs) in steps {
            match (step, world.open.pop()) {
                (0..=2, Some(announce)) => {
                    delivered.push((announce.tracker, announce.event));
                    world.input(AnnouncerInput::Answered { id: announce.id, response: &response(secs, secs / 3) });
                }
                (3, Some(announce)) => world.fail(announce.id),
                (4, open) => {
                    world.open.extend(open);
                    world.input(AnnouncerInput::WantPeers);
                }
                (5, open) => {
                    world.open.extend(open);
                    let completed = delivered.iter().any(|(_, event)| *event == Event::Completed);
                    if !completed {
                        world.input(AnnouncerInput::Completed);
                    }
                }
                // The only timeout while an announce is open is its own: it is lost.
                (_, _) => {
                    world.pass();
                }
            }
            prop_assert!(world.open.len() <= 1, "{:?}", world.open);
        }
        let count = |event| delivered.iter().filter(|(_, e)| *e == event).count();
        prop_assert!(count(Event::Completed) <= 1);
        for tracker in ["http://a", "http://b", "http://c"] {
            let heard: Vec<Event> = delivered.iter().filter(|(t, _)| t == tracker).map(|(_, e)| *e).collect();
            prop_assert!(heard.first().is_none_or(|event| *event == Event::Started));
            prop_assert!(heard.iter().filter(|event| **event == Event::Started).count() <= 1);
        }
        world.open.clear();
        world.input(AnnouncerInput::Stop);
        if !world.finished {
            world.pass();
        }
        prop_assert!(world.finished);
    }
}
