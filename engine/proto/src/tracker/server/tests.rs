//! The tracker as its clients see it: what our own parser makes of its answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::bencode::{Document, Limits, Value};
use crate::id::PeerId;
use crate::rng::Rng;
use crate::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse, TrackerError};

const HASH: InfoHash = InfoHash([7; 20]);

fn server(config: ServerConfig) -> TrackerServer {
    TrackerServer::new(config, Rng::new(3))
}

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

fn asker(source: &str) -> Asker {
    Asker { source: source.parse().unwrap(), local: "10.0.0.254".parse().unwrap() }
}

/// An announce as our own client writes it.
fn query(port: u16, left: u64, event: AnnounceEvent) -> String {
    let request = AnnounceRequest {
        info_hash: HASH,
        peer_id: PeerId(*b"-RT0100-abcdefghijkl"),
        port,
        uploaded: 0,
        downloaded: 0,
        left,
        event,
        numwant: 50,
        key: 1,
        compact: true,
        tracker_id: None,
        ip: None,
    };
    request.to_url("http://t/?").unwrap().split_once('?').unwrap().1.to_owned()
}

fn ask(server: &mut TrackerServer, now: Instant, source: &str, query: &str) -> AnnounceResponse {
    AnnounceResponse::parse(&server.handle_announce(now, asker(source), query)).unwrap()
}

fn refusal(server: &mut TrackerServer, source: &str, query: &str) -> String {
    match AnnounceResponse::parse(&server.handle_announce(at(0), asker(source), query)) {
        Err(TrackerError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn leech(port: u16) -> String {
    query(port, 5, AnnounceEvent::Started)
}

fn texts(response: &AnnounceResponse) -> BTreeSet<String> {
    response.peers.iter().map(SocketAddr::to_string).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn peers_learn_of_each_other_and_not_of_themselves() {
    let mut tracker = server(ServerConfig::default());
    let first = ask(&mut tracker, at(0), "10.0.0.1", &leech(1));
    assert!(first.peers.is_empty());
    assert_eq!(first.external_ip, Some("10.0.0.1".parse().unwrap()));
    assert!((1620..=1800).contains(&first.interval.as_secs()));
    ask(&mut tracker, at(0), "2001:db8::5", &leech(2));
    let third = ask(&mut tracker, at(1), "::ffff:10.0.0.3", &query(3, 0, AnnounceEvent::Started));
    assert_eq!(texts(&third), set(&["10.0.0.1:1", "[2001:db8::5]:2"]));
    assert_eq!((third.complete, third.incomplete), (Some(1), Some(2)));
    let again = ask(&mut tracker, at(2), "10.0.0.1", &leech(1));
    assert_eq!(texts(&again), set(&["10.0.0.3:3", "[2001:db8::5]:2"]));
}

#[test]
fn seeds_are_not_told_of_seeds() {
    let mut tracker = server(ServerConfig::default());
    let seed = |port| query(port, 0, AnnounceEvent::None);
    ask(&mut tracker, at(0), "10.0.0.1", &seed(1));
    ask(&mut tracker, at(0), "10.0.0.2", &leech(2));
    assert_eq!(texts(&ask(&mut tracker, at(0), "10.0.0.3", &seed(3))), set(&["10.0.0.2:2"]));
    assert_eq!(texts(&ask(&mut tracker, at(0), "10.0.0.2", &leech(2))), set(&["10.0.0.1:1", "10.0.0.3:3"]));
}

/// BEP 21.
#[test]
fn partial_seeds_are_told_apart_from_downloaders() {
    let mut tracker = server(ServerConfig::default());
    let paused = |port| query(port, 5, AnnounceEvent::Paused);
    ask(&mut tracker, at(0), "10.0.0.1", &leech(1));
    ask(&mut tracker, at(0), "10.0.0.2", &paused(2));
    ask(&mut tracker, at(0), "10.0.0.3", &query(3, 0, AnnounceEvent::None));
    let count = |tracker: &mut TrackerServer, key: &str| {
        let body = tracker.handle_scrape(at(0), &format!("info_hash={}", "%07".repeat(20)));
        let document = Document::parse(&body, &Limits::PEER).unwrap();
        document.root().get("files").unwrap().get([7; 20]).unwrap().get(key).and_then(Value::int).unwrap()
    };
    let counts = ["complete", "incomplete", "downloaders"].map(|key| count(&mut tracker, key));
    assert_eq!(counts, [1, 2, 1]);
    // Who wants nothing is told of those who do.
    assert_eq!(texts(&ask(&mut tracker, at(0), "10.0.0.4", &paused(4))), set(&["10.0.0.1:1"]));
    assert_eq!(texts(&ask(&mut tracker, at(0), "10.0.0.1", &leech(1))).len(), 3);
    // One that says so with nothing left is a seed; the next announce counts.
    ask(&mut tracker, at(0), "10.0.0.2", &query(2, 0, AnnounceEvent::Paused));
    ask(&mut tracker, at(0), "10.0.0.4", &leech(4));
    let counts = ["complete", "incomplete", "downloaders"].map(|key| count(&mut tracker, key));
    assert_eq!(counts, [2, 2, 2]);
}

#[test]
fn dictionaries_on_request() {
    let mut tracker = server(ServerConfig::default());
    ask(&mut tracker, at(0), "10.0.0.1", &leech(1));
    let plain = leech(2).replace("compact=1", "compact=0");
    let body = tracker.handle_announce(at(0), asker("10.0.0.2"), &plain);
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("5:peersld2:ip8:10.0.0.17:peer id20:-RT0100-abcdefghijkl4:porti1eee"), "{text}");
    let body = tracker.handle_announce(at(0), asker("10.0.0.2"), &format!("{plain}&no_peer_id=1"));
    assert!(!String::from_utf8_lossy(&body).contains("peer id"));
    assert_eq!(texts(&AnnounceResponse::parse(&body).unwrap()), set(&["10.0.0.1:1"]));
}

#[test]
fn stopped_removes() {
    let mut tracker = server(ServerConfig::default());
    ask(&mut tracker, at(0), "10.0.0.1", &leech(1));
    let stopped = query(1, 5, AnnounceEvent::Stopped);
    // Somebody else's address with the same port takes nobody out.
    ask(&mut tracker, at(0), "10.0.0.9", &stopped);
    assert_eq!(tracker.peer_count(), 1);
    assert!(ask(&mut tracker, at(0), "10.0.0.1", &stopped).peers.is_empty());
    assert_eq!(tracker.peer_count(), 0);
    tracker.handle_timeout(at(60));
    assert_eq!(tracker.poll_timeout(), None);
}

#[test]
fn who_stays_away_for_two_intervals_is_forgotten() {
    let interval = Duration::from_secs(100);
    let mut tracker = server(ServerConfig { interval, ..ServerConfig::default() });
    ask(&mut tracker, at(0), "10.0.0.1", &leech(1));
    assert_eq!(ask(&mut tracker, at(199), "10.0.0.2", &leech(2)).peers.len(), 1);
    let later = ask(&mut tracker, at(200), "10.0.0.3", &leech(3));
    assert_eq!(texts(&later), set(&["10.0.0.2:2"]));
    assert_eq!(later.incomplete, Some(2));
    assert_eq!(tracker.peer_count(), 3, "not yet swept");
    while let Some(due) = tracker.poll_timeout() {
        assert!(due <= at(600));
        tracker.handle_timeout(due);
    }
    assert_eq!(tracker.peer_count(), 0);
}

#[test]
fn only_allowed_torrents() {
    let allowed = Some(BTreeSet::from([InfoHash([1; 20])]));
    let mut tracker = server(ServerConfig { allowed, ..ServerConfig::default() });
    assert_eq!(refusal(&mut tracker, "10.0.0.1", &leech(1)), "this torrent is not tracked here");
    assert_eq!(tracker.peer_count(), 0);
}

#[test]
fn memory_is_bounded() {
    let config = ServerConfig { max_torrents: 2, max_peers_per_torrent: 3, ..ServerConfig::default() };
    let mut tracker = server(config);
    for i in 1..=3 {
        ask(&mut tracker, at(0), &format!("10.0.0.{i}"), &leech(i));
    }
    assert_eq!(
        refusal(&mut tracker, "10.0.0.4", &leech(4)),
        "this torrent has as many peers as the tracker takes"
    );
    ask(&mut tracker, at(0), "10.0.0.3", &leech(3));
    let other = |byte: &str| leech(1).replace("%07", byte);
    ask(&mut tracker, at(0), "10.0.0.1", &other("a"));
    assert_eq!(
        refusal(&mut tracker, "10.0.0.1", &other("b")),
        "this tracker has no room for another torrent"
    );
    assert_eq!(tracker.peer_count(), 4);
    // Room comes back when they have gone.
    ask(&mut tracker, at(4000), "10.0.0.1", &other("b"));
}

#[test]
fn one_address_does_not_fill_a_swarm() {
    let mut tracker = server(ServerConfig::default());
    for port in 1..=256 {
        ask(&mut tracker, at(0), "10.0.0.1", &leech(port));
    }
    assert_eq!(
        refusal(&mut tracker, "10.0.0.1", &leech(257)),
        "your address has as many peers as the tracker takes"
    );
    assert_eq!(ask(&mut tracker, at(0), "10.0.0.2", &leech(1)).peers.len(), 50);
}

#[test]
fn peers_on_the_trackers_host_are_named_by_its_address() {
    let mut tracker = server(ServerConfig::default());
    ask(&mut tracker, at(0), "127.0.0.1", &leech(1));
    ask(&mut tracker, at(0), "::1", &leech(2));
    assert_eq!(texts(&ask(&mut tracker, at(0), "10.0.0.5", &leech(3))), set(&["10.0.0.254:1", "[::1]:2"]));
    assert_eq!(
        texts(&ask(&mut tracker, at(0), "127.0.0.1", &leech(4))),
        set(&["127.0.0.1:1", "[::1]:2", "10.0.0.5:3"])
    );
}

#[test]
fn the_ip_parameter_is_ignored() {
    let mut tracker = server(ServerConfig::default());
    ask(&mut tracker, at(0), "10.0.0.1", &format!("{}&ip=1.2.3.4", leech(1)));
    assert_eq!(texts(&ask(&mut tracker, at(0), "10.0.0.2", &leech(2))), set(&["10.0.0.1:1"]));
}

#[test]
fn samples_differ_and_have_the_size_asked_for() {
    let mut tracker = server(ServerConfig::default());
    for i in 1..=100 {
        ask(&mut tracker, at(0), &format!("10.0.0.{i}"), &leech(i));
    }
    let few = leech(1).replace("numwant=50", "numwant=5");
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let told = texts(&ask(&mut tracker, at(0), "10.0.0.1", &few));
        assert_eq!(told.len(), 5);
        seen.extend(told);
    }
    assert!(seen.len() > 90, "{} of 99 were ever named", seen.len());
}

#[test]
fn scrape_counts() {
    let mut tracker = server(ServerConfig::default());
    ask(&mut tracker, at(0), "10.0.0.1", &leech(1));
    ask(&mut tracker, at(0), "10.0.0.2", &leech(2));
    ask(&mut tracker, at(0), "10.0.0.1", &query(1, 0, AnnounceEvent::Completed));
    ask(&mut tracker, at(0), "10.0.0.1", &query(1, 0, AnnounceEvent::Completed));
    ask(&mut tracker, at(0), "10.0.0.3", &query(3, 0, AnnounceEvent::Completed));
    let body = tracker
        .handle_scrape(at(0), &format!("info_hash={}&info_hash={}", "%07".repeat(20), "%01".repeat(20)));
    let document = Document::parse(&body, &Limits::PEER).unwrap();
    let files = document.root().get("files").unwrap();
    assert_eq!(files.dict().unwrap().count(), 1, "the unknown one is left out");
    let numbers = files.get([7; 20]).unwrap();
    let number = |key: &str| numbers.get(key).and_then(Value::int);
    assert_eq!((number("complete"), number("downloaded"), number("incomplete")), (Some(2), Some(1), Some(1)));
    assert!(tracker.handle_scrape(at(0), "").starts_with(b"d14:failure reason"));
}

proptest! {
    #[test]
    fn any_course_of_announces_is_bounded_and_readable(
        steps in prop::collection::vec((1u8..20, 1u16..5, 0u64..2, 0u8..4, 0u64..400), 0..80),
    ) {
        let config = ServerConfig { interval: Duration::from_secs(300), max_peers_per_torrent: 8, ..ServerConfig::default() };
        let mut tracker = server(config);
        let mut now = 0;
        for (host, port, left, event, passed) in steps {
            now += passed;
            let event = [AnnounceEvent::None, AnnounceEvent::Started, AnnounceEvent::Completed, AnnounceEvent::Stopped][usize::from(event)];
            let source = format!("10.0.0.{host}");
            let body = tracker.handle_announce(at(now), asker(&source), &query(port, left, event));
            let itself = format!("{source}:{port}");
            match AnnounceResponse::parse(&body) {
                Ok(answer) => prop_assert!(!texts(&answer).contains(&itself)),
                Err(error) => prop_assert!(matches!(error, TrackerError::Refused { .. }), "{error}"),
            }
            if tracker.poll_timeout().is_some_and(|due| due <= at(now)) {
                tracker.handle_timeout(at(now));
            }
            prop_assert!(tracker.peer_count() <= 8);
            prop_assert!(tracker.peer_count() == 0 || tracker.poll_timeout().is_some());
        }
    }
}
