//! Those who give wrong blocks, whatever they do besides: each whose block made a piece fail is found before the swarm is
//! over, and nobody honest is. The checker asks for both, here and in random swarms.

use std::time::Duration;

use ringtide_sim::{Departure, HostSpec, Outcome, Role, Scenario, run};

const PIECES: u32 = 12;
const SECOND: Duration = Duration::from_secs(1);

fn seed() -> HostSpec {
    HostSpec { up: 200_000, ..HostSpec::honest(0..PIECES) }
}

fn poisoner(one_in: u32) -> HostSpec {
    HostSpec { up: 200_000, ..HostSpec::new(Role::Poisoner(one_in)) }
}

fn leech(shards: u8) -> HostSpec {
    HostSpec::sharded(shards, [])
}

/// Plays the hosts with pieces of so many blocks, under several seeds; how many bans there were in all.
fn bans(blocks: u32, hosts: &[&[HostSpec]], change: fn(&mut Scenario)) -> u32 {
    let outcome = |number| -> Outcome {
        let mut scenario = Scenario::of(number, PIECES, blocks, hosts.concat());
        change(&mut scenario);
        run(&scenario).unwrap_or_else(|failure| panic!("seed {number}: {failure}"))
    };
    (0..16).map(|number| outcome(number).bans).sum()
}

#[test]
fn two_liars_in_one_piece() {
    let hosts = [&vec![seed(); 4][..], &vec![poisoner(8); 2], &[leech(1)]];
    let bans = bans(24, &hosts, |_| {});
    assert!(bans >= 28, "found {bans} of 32");
}

#[test]
fn more_liars_than_honest_givers() {
    let hosts = [&[seed()][..], &vec![poisoner(5); 5], &[leech(1), leech(3)]];
    let bans = bans(10, &hosts, |_| {});
    assert!(bans >= 100, "found {bans} of 160");
}

/// Shards that hear of each other's failures late.
#[test]
fn a_liar_on_another_shard_than_the_honest() {
    let hosts = [&vec![seed(); 2][..], &vec![poisoner(6); 2], &[leech(4)]];
    for delay in [1, 300] {
        let bans = match delay {
            1 => bans(8, &hosts, |scenario| scenario.channel_delay = Duration::from_millis(1)),
            _ => bans(8, &hosts, |scenario| scenario.channel_delay = Duration::from_millis(300)),
        };
        assert!(bans >= 24, "{delay} ms: found {bans} of 32");
    }
}

/// It is gone before the piece is right: it is banned all the same, for when it comes back.
#[test]
fn a_liar_that_leaves() {
    for how in [Departure::Leaves, Departure::Crashes, Departure::Vanishes] {
        let leaving = |seconds: u32| HostSpec { leaves: Some((SECOND * seconds, how)), ..poisoner(4) };
        let hosts = [&vec![seed(); 3][..], &[leaving(2), leaving(4), leech(2)]];
        let bans = bans(16, &hosts, |_| {});
        assert!(bans >= 16, "{how:?}: found {bans} of 32");
    }
}

/// A memory for a few pieces only, a disk that fails, lost frames: what is known of failures survives all that.
#[test]
fn liars_among_other_trouble() {
    let mut host = leech(3);
    if let Role::Honest { budget, disk, .. } = &mut host.role {
        (*budget, disk.fails_one_in) = (2, 5);
    }
    let others = [poisoner(5), poisoner(5), HostSpec::new(Role::Rejecter), HostSpec::new(Role::Staller(3))];
    let hosts = [&vec![seed(); 2][..], &others, &[host]];
    let bans = bans(8, &hosts, |scenario| scenario.loss_one_in = 30);
    assert!(bans >= 24, "found {bans} of 32");
}
