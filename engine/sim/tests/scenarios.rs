//! Swarms with a name: what issue and experience ask for, and what once went wrong. Each is played with several
//! seeds, so that none passes by luck.

use std::time::Duration;

use ringtide_sim::{Departure, HostSpec, Outcome, Role, Scenario, run};

const SECOND: Duration = Duration::from_secs(1);

/// Plays the hosts with a torrent of `pieces` pieces of `blocks` blocks, under several seeds.
fn play(pieces: u32, blocks: u32, hosts: &[HostSpec]) -> Vec<Outcome> {
    play_with(pieces, blocks, hosts, |_| {})
}

fn play_with(pieces: u32, blocks: u32, hosts: &[HostSpec], change: fn(&mut Scenario)) -> Vec<Outcome> {
    let outcome = |seed| {
        let mut scenario = Scenario::of(seed, pieces, blocks, hosts.to_vec());
        change(&mut scenario);
        run(&scenario).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"))
    };
    (0..8).map(outcome).collect()
}

fn seed(pieces: u32) -> HostSpec {
    HostSpec::honest(0..pieces)
}

fn leech(shards: u8) -> HostSpec {
    HostSpec::sharded(shards, [])
}

fn villain(role: Role) -> HostSpec {
    HostSpec::new(role)
}

/// A host with less memory: so many pieces in assembly.
fn tight(mut host: HostSpec, pieces: u32) -> HostSpec {
    if let Role::Honest { budget, .. } = &mut host.role {
        *budget = pieces;
    }
    host
}

fn leaving(host: HostSpec, after: Duration, how: Departure) -> HostSpec {
    HostSpec { leaves: Some((after, how)), ..host }
}

#[test]
fn a_seed_and_a_leech() {
    for outcome in play(40, 4, &[seed(40), leech(1)]) {
        // 10 MiB at 2 MB/s, and some round trips.
        assert!(outcome.took < SECOND * 8, "{outcome:?}");
        assert_eq!((outcome.wasted, outcome.bans), (0, 0));
    }
}

/// The seed is slow, so that the two halves come from those who wanted one of them each.
#[test]
fn partial_seeds_give_what_they_have() {
    let half = |skips: std::ops::Range<u32>| HostSpec { skips: skips.collect(), ..leech(2) };
    let slow = HostSpec { up: 1_000_000, ..seed(60) };
    let late = HostSpec { joins_at: SECOND * 25, ..leech(1) };
    for outcome in play(60, 4, &[slow, half(0..30), half(30..60), late]) {
        let len = 60 * 4 * 65_536;
        assert!(outcome.seed_uploaded < len * 17 / 10, "{outcome:?}");
    }
}

#[test]
fn leeches_give_each_other_what_a_slow_seed_gave_once() {
    let slow = HostSpec { up: 1_000_000, ..seed(60) };
    let hosts = [vec![slow], vec![leech(2); 4]].concat();
    for outcome in play(60, 2, &hosts) {
        // 7.9 MB: four copies from the seed alone would take 31 s.
        assert!(outcome.took < SECOND * 25, "{outcome:?}");
    }
}

#[test]
fn a_poisoner_among_three_is_found_and_nobody_else() {
    let hosts = [seed(60), seed(60), villain(Role::Poisoner(50)), leech(1)];
    let mut bans = 0;
    for outcome in play(60, 8, &hosts) {
        bans += outcome.bans;
        assert!(outcome.bans <= 1);
    }
    assert!(bans >= 5, "found in {bans} of 8");
}

/// Many give each piece, so that the liar is found by what the others gave.
#[test]
fn a_poisoner_that_is_never_alone_is_found() {
    let slow = |role| HostSpec { up: 200_000, ..HostSpec::new(role) };
    let honest = HostSpec { up: 200_000, ..seed(12) };
    let hosts = [vec![honest; 4], vec![slow(Role::Poisoner(30)), leech(2)]].concat();
    let bans: u32 = play(12, 40, &hosts).iter().map(|outcome| outcome.bans).sum();
    assert!(bans >= 6, "found in {bans} of 8");
}

#[test]
fn a_poisoner_on_another_shard_is_found() {
    let hosts = [seed(60), seed(60), villain(Role::Poisoner(10)), villain(Role::Poisoner(10)), leech(3)];
    let bans: u32 = play(60, 8, &hosts).iter().map(|outcome| outcome.bans).sum();
    assert!(bans >= 12, "{bans} of 16");
}

#[test]
fn one_that_poisons_everything_is_survived() {
    let hosts = [HostSpec { up: 500_000, ..seed(20) }, villain(Role::Poisoner(1)), leech(2), leech(1)];
    assert!(play(20, 4, &hosts).iter().all(|outcome| outcome.bans >= 1));
}

#[test]
fn a_seed_that_stops_in_the_middle_of_a_block_holds_nothing_up() {
    let hosts = [HostSpec { up: 500_000, ..seed(20) }, villain(Role::Staller(3)), leech(1)];
    for outcome in play(20, 4, &hosts) {
        assert!(outcome.took < SECOND * 40, "{outcome:?}");
    }
}

#[test]
fn a_seed_that_garbles_holds_nothing_up() {
    for outcome in play(20, 4, &[seed(20), villain(Role::Garbler), leech(2)]) {
        assert!(outcome.took < SECOND * 20, "{outcome:?}");
    }
}

#[test]
fn a_liar_on_the_shard_of_the_claim_and_the_only_holder_on_another() {
    for outcome in play(10, 4, &[HostSpec { up: 500_000, ..seed(10) }, villain(Role::Liar), leech(2)]) {
        assert!(outcome.took < SECOND * 60, "{outcome:?}");
    }
}

/// Its blocks take longer than any patience: they were thrown away as stalled, and its pieces given up.
#[test]
fn the_only_seed_is_slow() {
    for shards in 1..4 {
        let slow = villain(Role::Trickler(SECOND * 8));
        for outcome in play(4, 4, &[slow, leech(shards)]) {
            assert!(outcome.took < SECOND * 240, "{outcome:?}");
            assert_eq!(outcome.wasted, 0);
        }
    }
}

/// Every peer seemed to stall, and a piece never stayed with one for long enough.
#[test]
fn the_leech_has_a_slow_line() {
    let slow = HostSpec { down: 70_000, ..leech(2) };
    let hosts = [vec![seed(8); 5], vec![slow]].concat();
    for outcome in play(8, 4, &hosts) {
        // 2 MB at 70 kB/s are 30 s.
        assert!(outcome.took < SECOND * 120, "{outcome:?}");
    }
}

/// It was asked for the same again as fast as the wire allows.
#[test]
fn rejects_cause_no_storm() {
    let hosts = [HostSpec { up: 300_000, ..seed(10) }, villain(Role::Rejecter), leech(1)];
    for outcome in play(10, 4, &hosts) {
        assert!(outcome.steps < 3_000, "{outcome:?}");
    }
}

/// The only one not suspected was asked for all of the piece, and never gave it.
#[test]
fn the_sole_giver_of_a_failed_piece_never_gives() {
    for bad in [Role::Liar, Role::Garbler, Role::Rejecter, Role::Trickler(SECOND * 81)] {
        let hosts = [
            HostSpec { up: 300_000, ..seed(12) },
            villain(Role::Poisoner(6)),
            villain(bad.clone()),
            villain(bad),
            leech(2),
        ];
        for outcome in play(12, 4, &hosts) {
            assert!(outcome.took < SECOND * 400, "{outcome:?}");
        }
    }
}

/// Two that reject everything took turns as the one peer that was to give the piece, each rested when the other was
/// found wanting, and the shard with a giver was never asked.
#[test]
fn rejecters_do_not_take_turns_at_a_failed_piece() {
    let rejecters = vec![villain(Role::Rejecter); 4];
    let hosts = [vec![HostSpec { up: 300_000, ..seed(12) }, villain(Role::Poisoner(2)), leech(3)], rejecters]
        .concat();
    for outcome in play(12, 1, &hosts) {
        assert!(outcome.took < SECOND * 400, "{outcome:?}");
    }
}

/// One shard held the memory for pieces that none of its peers could finish.
#[test]
fn memory_held_for_nothing_is_given_back() {
    let (low, high) = (HostSpec::honest(0..10), HostSpec::honest(10..20));
    let gone = leaving(villain(Role::Staller(7)), SECOND * 4, Departure::Vanishes);
    for outcome in play(20, 4, &[low, high, gone, tight(leech(3), 2)]) {
        assert!(outcome.took < SECOND * 400, "{outcome:?}");
    }
}

#[test]
fn channels_may_be_slow() {
    let hosts = [vec![seed(30); 2], vec![leech(3); 2], vec![villain(Role::Poisoner(9))]].concat();
    play_with(30, 4, &hosts, |scenario| scenario.channel_delay = Duration::from_millis(300));
}

#[test]
fn whoever_goes_takes_nothing_along() {
    for how in [Departure::Leaves, Departure::Crashes, Departure::Vanishes] {
        let going = |seconds: u32| leaving(seed(40), SECOND * seconds, how);
        let last = HostSpec { up: 400_000, ..seed(40) };
        for outcome in play(40, 4, &[going(2), going(3), last, leech(2), leech(1)]) {
            assert!(outcome.took < SECOND * 330, "{outcome:?}");
        }
    }
}

#[test]
fn a_disk_that_fails_now_and_then_is_written_again() {
    let mut host = leech(2);
    if let Role::Honest { disk, .. } = &mut host.role {
        disk.fails_one_in = 4;
    }
    play(30, 2, &[seed(30), host]);
}

#[test]
fn nothing_to_download_is_a_swarm_too() {
    play(10, 1, &[seed(10), seed(10)]);
}

#[test]
fn whoever_comes_back_goes_on_with_what_is_on_its_disk() {
    for how in [Departure::Crashes, Departure::Vanishes] {
        let back = HostSpec { returns: Some(SECOND * 20), ..leaving(leech(2), SECOND * 3, how) };
        for outcome in play(40, 4, &[seed(40), back, leech(1)]) {
            // Those who did not see it go wait until it has been silent for two minutes.
            assert!(outcome.took > SECOND * 23 && outcome.took < SECOND * 240, "{outcome:?}");
            assert!(outcome.seed_uploaded < 2 * outcome.content_len, "{outcome:?}");
        }
    }
}

/// It was told of a piece that it does not want, so it was never interested, never served, and never told of another.
#[test]
fn a_super_seed_finds_what_is_wanted() {
    let choosy = HostSpec { skips: (0..9).collect(), ..leech(1) };
    for outcome in play_with(10, 2, &[seed(10), choosy], |scenario| scenario.policy.super_seed = true) {
        assert!(outcome.took < SECOND * 250, "{outcome:?}");
    }
}

/// Slow seeds are there first and have begun all that there is memory for when the fast one comes; each time that memory was
/// free one of them took it, and the fast one waited: for 17 to 400 s where it is 4 by itself.
#[test]
fn slow_seeds_hold_no_memory_back_from_a_fast_one() {
    let line = HostSpec { down: 125_000_000, latency: Duration::from_micros(250), ..HostSpec::honest([]) };
    let giver = |up, joins_at| HostSpec { up, joins_at, ..HostSpec { role: seed(500).role, ..line.clone() } };
    for (slow, rate, shards, most) in [
        (0, 0, 1, 5),
        (4, 100_000, 1, 11),
        (8, 100_000, 1, 11),
        (8, 10_000, 1, 20),
        (8, 3_000_000, 1, 11),
        (8, 100_000, 2, 20),
    ] {
        let leech = HostSpec { role: tight(leech(shards), 4).role, ..line.clone() };
        let fast = giver(125_000_000, SECOND * 3 / 10);
        let hosts = [vec![giver(rate, Duration::ZERO); slow], vec![fast, leech]].concat();
        for outcome in play_with(500, 16, &hosts, |scenario| scenario.checks = false) {
            assert!(outcome.took < SECOND * most, "{slow} of {rate}, {shards} shards: {outcome:?}");
            assert!(outcome.wasted < outcome.content_len / 50, "{outcome:?}");
        }
    }
}
