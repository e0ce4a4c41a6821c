//! Where each bound of `limits.rs` is held to: a new one has to be listed here, and none that is gone may stay.

use std::path::Path;

/// How it is known that a bound is kept.
#[derive(Clone, Copy)]
enum Held {
    /// After each step of a simulated swarm: that file asks, and tests of its crate show that it sees what breaks it.
    EachStep(&'static str),
    /// No machine holds it: that file does, for what has no swarm around it (parsers, sockets, processes), or because
    /// nothing that happens can exceed it.
    There(&'static str),
    /// It is where something begins, so that nothing is more or less than it: that file begins so.
    Begins(&'static str),
}

use Held::{Begins, EachStep, There};

const SHARD: &str = "engine/proto/src/torrent/shard/bounds.rs";
const CORE: &str = "engine/proto/src/torrent/core/bounds.rs";
const ROUNDS: &str = "engine/proto/src/torrent/core/rounds.rs";
const PEER_LIST: &str = "engine/proto/src/peer_list.rs";
const PIPELINE: &str = "engine/proto/src/peer/pipeline.rs";
const SUSPICION: &str = "engine/proto/src/torrent/suspicion.rs";
const DIALOGUE: &str = "engine/src/shard/dialogue.rs";
const CONFIG: &str = "engine/src/config.rs";

const BOUNDS: [(&str, Held); 39] = [
    ("BLOCK_LEN", There("engine/proto/src/layout.rs")),
    ("MAX_PIECES", There("engine/proto/src/layout.rs")),
    ("MAX_PIECE_LEN", There("engine/src/engine.rs")),
    ("MAX_REQUEST_LEN", EachStep(SHARD)),
    ("MAX_QUEUED_REQUESTS", EachStep(SHARD)),
    // What a peer says takes its place; the check asks for what holds.
    ("DEFAULT_REQQ", Begins(PIPELINE)),
    ("MAX_OUTGOING_REQUESTS", EachStep(SHARD)),
    ("INITIAL_REQUESTS", Begins(PIPELINE)),
    ("MAX_EXTENDED_LEN", There(DIALOGUE)),
    ("HANDSHAKE_TIMEOUT", There(DIALOGUE)),
    ("IDLE_TIMEOUT", EachStep(SHARD)),
    ("KEEP_ALIVE", EachStep(SHARD)),
    ("SNUB_AFTER", EachStep(SHARD)),
    ("REQUEST_TIMEOUT", EachStep(SHARD)),
    ("SNUB_PART_AFTER", EachStep(SHARD)),
    ("CHOKE_INTERVAL", EachStep(ROUNDS)),
    // A slot by chance is kept for longer where it earns itself.
    ("OPTIMISTIC_FOR", There(ROUNDS)),
    ("REVIEW_INTERVAL", There(ROUNDS)),
    ("RATE_SLOTS", EachStep(CORE)),
    ("OPTIMISTIC_SLOTS", EachStep(CORE)),
    ("MAX_SLOTS", EachStep(CORE)),
    ("RATE_REPORT_TIMEOUT", EachStep(ROUNDS)),
    ("NEWCOMER_FOR", There(ROUNDS)),
    ("AVAILABILITY_BATCH", EachStep(SHARD)),
    // The checker of the simulator counts those who stay, against the number of the scenario.
    ("PEERS_PER_TORRENT", Begins(CONFIG)),
    ("MAX_PEERS", Begins(CONFIG)),
    ("HALF_OPEN", EachStep(CORE)),
    ("MAX_PEER_CANDIDATES", EachStep(PEER_LIST)),
    ("MAX_CONNECT_FAILURES", EachStep(PEER_LIST)),
    ("RECONNECT_FIRST", Begins(PEER_LIST)),
    ("RECONNECT_MAX", EachStep(PEER_LIST)),
    ("MAX_SUSPECT_PIECES", EachStep(SUSPICION)),
    ("MAX_FAILED_TRIES", EachStep(SUSPICION)),
    ("MAX_LENT_BLOCKS", EachStep(SHARD)),
    ("MAX_COPIES", EachStep(SHARD)),
    ("ALLOWED_FAST", EachStep(SHARD)),
    ("MAX_SUGGESTIONS", EachStep(SHARD)),
    ("MAX_PENDING_REPLIES", EachStep(SHARD)),
    ("RATE_BURST", There("engine/proto/src/limiter.rs")),
];

fn source(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn each_bound_is_listed() {
    let limits = source("engine/proto/src/limits.rs");
    let named = limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let mut named: Vec<&str> = named.collect();
    let mut listed: Vec<&str> = BOUNDS.iter().map(|(name, _)| *name).collect();
    named.sort_unstable();
    listed.sort_unstable();
    assert_eq!(named, listed);
}

#[test]
fn each_bound_is_held_where_it_says() {
    for (name, held) in BOUNDS {
        let (EachStep(file) | There(file) | Begins(file)) = held;
        let text = source(file);
        let asks = text.contains(&format!("keep(\"{name}")) || text.contains(&format!("and {name}\""));
        let uses = text.contains(name);
        assert!(if matches!(held, EachStep(_)) { asks } else { uses }, "{name} is not held in {file}");
    }
}
