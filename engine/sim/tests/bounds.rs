//! Where each bound of `limits.rs` is held to, or at least used: a new one has to be listed here, and none that is gone may
//! stay.

use std::path::Path;

/// How it is known that a bound is kept.
#[derive(Clone, Copy)]
enum Held {
    /// After each step of a simulated swarm: that file asks, and tests of its crate show that it sees what breaks it.
    EachStep(&'static str),
    /// Nothing asks at each step: that file uses it, for what has no swarm around it (parsers, sockets, processes), or
    /// where nothing that happens can exceed it. Here it is only seen that the file names it; that it is kept is for the
    /// tests of that file.
    There(&'static str),
    /// Something begins with it, or it is what is meant where nothing else is said. Here, too, it is only seen that the file
    /// names it.
    Begins(&'static str),
}

use Held::{Begins, EachStep, There};

const SHARD: &str = "engine/proto/src/torrent/shard/bounds.rs";
const CORE: &str = "engine/proto/src/torrent/core/bounds.rs";
const ROUNDS: &str = "engine/proto/src/torrent/core/rounds.rs";
const PEER_LIST: &str = "engine/proto/src/peer_list.rs";
const BANNED: &str = "engine/proto/src/banned.rs";
const PIPELINE: &str = "engine/proto/src/peer/pipeline.rs";
const SUSPICION: &str = "engine/proto/src/torrent/suspicion.rs";
const DIALOGUE: &str = "engine/src/shard/dialogue.rs";
const CONFIG: &str = "engine/src/config.rs";

const BOUNDS: [(&str, Held); 42] = [
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
    ("MAX_BANNED", EachStep(BANNED)),
    ("MAX_BANNED_OF_SUBNET", EachStep(BANNED)),
    ("MAX_CONNECT_FAILURES", EachStep(PEER_LIST)),
    ("RECONNECT_FIRST", Begins(PEER_LIST)),
    ("RECONNECT_MAX", EachStep(PEER_LIST)),
    ("MAX_SUSPECT_PIECES", EachStep(SUSPICION)),
    ("MAX_FAILED_TRIES", EachStep(SUSPICION)),
    ("MAX_LENT_BLOCKS", EachStep(SHARD)),
    ("MAX_COPIES", EachStep(SHARD)),
    ("ALLOWED_FAST", EachStep(SHARD)),
    ("ALLOWED_FAST_BYTES", EachStep(SHARD)),
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
fn each_bound_is_asked_for_or_named_where_it_says() {
    for (name, held) in BOUNDS {
        let (EachStep(file) | There(file) | Begins(file)) = held;
        let text = source(file);
        let found = if matches!(held, EachStep(_)) { asks(&text, name) } else { text.contains(name) };
        assert!(found, "{name} is not asked for or named in {file}");
    }
}

/// Whether the text holds something to the bound of exactly that name, or to two of which it is one.
fn asks(text: &str, name: &str) -> bool {
    let alone = format!("keep(\"{name}\"");
    let (first, second) = (format!("keep(\"{name} and "), format!(" and {name}\""));
    [alone, first, second].iter().any(|asked| text.contains(asked))
}

#[test]
fn a_bound_whose_name_begins_the_same_is_another() {
    assert!(asks("keep(\"MAX_COPIES\", 1, 3)", "MAX_COPIES"));
    assert!(asks("keep(\"A and B\", 1, 3)", "A") && asks("keep(\"A and B\", 1, 3)", "B"));
    assert!(!asks("keep(\"MAX_COPIES_LENT\", 1, 3)", "MAX_COPIES"));
    assert!(!asks("keep(\"MAX_COPIES by us\", 1, 3)", "MAX_COPIES"));
}
