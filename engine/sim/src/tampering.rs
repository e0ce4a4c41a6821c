//! Each checker sees what it is there for: a swarm that goes well is played, one thing in it is broken from outside, and
//! the failure names it. The bounds of the machines' own tables are broken in their crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringtide_proto::layout::{PieceIndex, PieceLayout};
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{CoreInput, PieceState, ShardId, ShardInput, ShardMessage, ShardToCore};
use ringtide_proto::wire::{Message, RawSpan};

use crate::connect::End;
use crate::disk::Marker;
use crate::node::Node;
use crate::scenario::{HostSpec, Role, Scenario};
use crate::wire::Frame;
use crate::world::{Event, Machine, Parcel, World, run};

const SEED: usize = 0;
const LEECH: usize = 2;
const PIECES: u32 = 12;

/// What a tamperer makes of an event: it happens, as it is or changed, or it does not.
type Tampered = Result<Option<Event>, String>;

/// Two seeds and a leech with two shards.
fn swarm() -> Scenario {
    let seed = HostSpec { up: 500_000, ..HostSpec::honest(0..PIECES) };
    let hosts = vec![seed.clone(), seed, HostSpec::sharded(2, [])];
    Scenario { deadline: Duration::from_secs(300), ..Scenario::of(1, PIECES, 4, hosts) }
}

/// One shard of the leech has a liar, so that it hands its pieces to the other.
fn swarm_that_hands_over() -> Scenario {
    let seed = HostSpec { up: 500_000, ..HostSpec::honest(0..PIECES) };
    let hosts = vec![seed, HostSpec::new(Role::Liar), HostSpec::sharded(2, [])];
    Scenario { deadline: Duration::from_secs(300), ..Scenario::of(2, PIECES, 4, hosts) }
}

/// Plays the swarm while `tamper` sees each event before it happens; what is found wrong.
fn found_in(scenario: &Scenario, mut tamper: impl FnMut(&mut World<'_>, Event) -> Tampered) -> String {
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut World::new(scenario), &mut tamper)));
    match played {
        Ok(result) => result.expect_err("something was broken, and nobody noticed"),
        Err(panic) => panic.downcast_ref::<String>().expect("a panic says why").clone(),
    }
}

fn play(
    world: &mut World<'_>,
    tamper: &mut impl FnMut(&mut World<'_>, Event) -> Tampered,
) -> Result<(), String> {
    let deadline = Instant::ZERO + world.scenario.deadline;
    while let Some((at, event)) = world.queue.pop().filter(|(at, _)| *at <= deadline) {
        world.now = at;
        if let Some(event) = tamper(world, event)? {
            world.handle(event)?;
        }
    }
    if world.record.all_are_done() { world.check_the_end() } else { Err(world.who_is_not_done()) }
}

/// Breaks something as soon as `breaks` finds what it needs, before whatever happens then.
fn found_after(mut breaks: impl FnMut(&mut World<'_>) -> bool) -> String {
    let mut done = false;
    found_in(&swarm(), |world, event| {
        done = done || breaks(world);
        Ok(Some(event))
    })
}

fn assert_names(found: &str, what: &str) {
    assert!(found.contains(what), "found {found:?}, not {what:?}");
}

fn piece_that(world: &mut World<'_>, which: impl Fn(&Node, PieceIndex) -> bool) -> Option<PieceIndex> {
    let layout = world.scenario.layout;
    let node = world.node(LEECH);
    layout.pieces().find(|&piece| which(node, piece))
}

#[test]
fn nothing_is_found_where_nothing_is_broken() {
    for scenario in [swarm(), swarm_that_hands_over()] {
        assert_eq!(play(&mut World::new(&scenario), &mut |_, event| Ok(Some(event))), Ok(()));
    }
}

#[test]
fn a_claim_that_nobody_holds() {
    let found = found_after(|world| {
        let free = piece_that(world, |node, piece| node.pieces.state(piece) == PieceState::Free);
        let busy = world.node(LEECH).budget.used() > 0;
        free.is_some_and(|piece| busy && world.node(LEECH).pieces.claim(piece, ShardId(1)))
    });
    assert_names(&found, "held: false, handed over: false");
}

#[test]
fn a_piece_that_comes_to_a_shard_that_does_not_own_it() {
    let found = found_in(&swarm_that_hands_over(), |_, event| {
        Ok(Some(match event {
            Event::ToShard { host, from, parcel, .. } if matches!(*parcel, Parcel::Handover(..)) => {
                Event::ToShard { host, from, to: from, parcel }
            }
            event => event,
        }))
    });
    assert_names(&found, "open here");
}

#[test]
fn a_handover_that_is_lost() {
    let found = found_in(&swarm_that_hands_over(), |world, event| {
        Ok(match event {
            Event::ToShard { host, ref parcel, .. } if matches!(**parcel, Parcel::Handover(..)) => {
                world.node(host).handovers.clear();
                None
            }
            event => Some(event),
        })
    });
    assert_names(&found, "held: false, handed over: false");
}

#[test]
fn memory_that_is_leased_for_nothing() {
    let found = found_after(|world| world.node(LEECH).budget.used() > 0 && world.node(LEECH).budget.lease(1));
    assert_names(&found, "bytes of pieces are claimed");
}

#[test]
fn a_buffer_of_a_piece_that_is_not_open() {
    let found = found_after(|world| {
        let free = piece_that(world, |node, piece| node.pieces.state(piece) == PieceState::Free);
        free.is_some_and(|piece| world.node(LEECH).shards[0].buffers.put(piece, Vec::new()).is_ok())
    });
    assert_names(&found, "has a buffer for");
}

#[test]
fn a_block_that_is_written_twice() {
    let found = found_after(|world| {
        let layout = world.scenario.layout;
        let buffers = &mut world.node(LEECH).shards[0].buffers;
        let Some(piece) = buffers.pieces().next() else { return false };
        layout.blocks(piece).any(|block| buffers.store(&layout, block, Marker::GOOD).is_ok())
    });
    assert_names(&found, "was written twice");
}

#[test]
fn a_piece_that_is_had_and_not_on_the_disk() {
    // Nobody is told of it any more by then, so that nothing else is found.
    let found =
        found_after(|world| world.record.all_are_done() && std::mem::take(&mut world.node(LEECH).disk[0]));
    assert_names(&found, "is had, and is not on the disk");
}

#[test]
fn a_piece_that_is_offered_and_not_there() {
    let mut told = false;
    let found = found_in(&swarm(), |world, event| {
        let free = piece_that(world, |node, piece| node.pieces.state(piece) == PieceState::Free);
        let connected = world.node(LEECH).shards[0].machine.peer_count() > 0;
        if let Some(piece) = free.filter(|_| connected && !std::mem::replace(&mut told, true)) {
            let lie = ShardMessage::Have(piece);
            world.shard_input(LEECH, 0, ShardInput::FromShard(ShardId(1), lie))?;
        }
        Ok(Some(event))
    });
    assert_names(&found, "which is not on its disk");
}

#[test]
fn an_upload_of_what_is_not_there() {
    let unwatched = Scenario { checks: false, ..swarm() };
    let found = found_in(&unwatched, |world, event| {
        world.node(SEED).disk.fill(false);
        Ok(Some(event))
    });
    assert_names(&found, "node 0 uploads");
}

#[test]
fn a_ban_of_somebody_honest() {
    let found = found_in(&swarm(), |world, event| {
        let liar = world.hosts[SEED].addr.ip();
        world.core_input(LEECH, CoreInput::FromShard(ShardId(0), ShardToCore::Poisoner(liar)))?;
        Ok(Some(event))
    });
    assert_names(&found, "which is honest");
}

#[test]
fn somebody_honest_called_a_villain() {
    let found = found_in(&swarm(), |world, event| {
        Ok(Some(match event {
            Event::Arrives { conn, side, frame: Frame::Message(_) }
                if world.conns[conn].ends[side].host == LEECH =>
            {
                Event::Arrives { conn, side, frame: Frame::Message(Message::Have { piece: PIECES }) }
            }
            event => event,
        }))
    });
    assert_names(&found, "node 2 calls");
}

#[test]
fn a_completion_of_what_is_not_there() {
    let found = found_in(&swarm(), |world, event| {
        if let Event::ToCore { host: LEECH, message, .. } = &event
            && matches!(**message, ShardToCore::Completed)
        {
            world.node(LEECH).disk[0] = false;
        }
        Ok(Some(event))
    });
    assert_names(&found, "says it has everything");
}

#[test]
fn an_answer_that_nobody_asked_for() {
    let found = found_in(&swarm(), |_, event| {
        Ok(Some(match event {
            Event::Arrives { conn, side, frame: Frame::Begin(mut span) } => {
                span.length -= 1;
                Event::Arrives { conn, side, frame: Frame::Begin(span) }
            }
            event => event,
        }))
    });
    assert_names(&found, "which nobody asked");
}

/// As if what came were lost within the node.
#[test]
fn a_request_that_is_never_answered() {
    let found = found_in(&swarm(), |world, event| match &event {
        Event::Arrives { conn, side, frame: frame @ Frame::Messages(messages) }
            if world.conns[*conn].ends[*side].host == SEED && messages.iter().all(is_request) =>
        {
            world.check_heard(*conn, *side, frame).map(|()| None)
        }
        _ => Ok(Some(event)),
    });
    assert_names(&found, "requests of");
}

/// As if the machine had made up a request.
#[test]
fn an_answer_to_what_was_not_heard() {
    let found = found_in(&swarm(), |world, event| {
        if let Event::Arrives { conn, side, frame: Frame::Message(Message::Interested) } = &event
            && let End { host: SEED, shard, key: Some(key), .. } = world.conns[*conn].ends[*side]
        {
            let block = world.scenario.layout.block_len();
            let request = Message::Request(RawSpan { piece: 0, begin: 0, length: block });
            let now = world.now;
            world.node(SEED).shards[shard].machine.handle_input(now, ShardInput::Message(key, request));
        }
        Ok(Some(event))
    });
    assert_names(&found, "node 0 answers more than it was asked");
}

fn is_request(message: &Message) -> bool {
    matches!(message, Message::Request(_))
}

#[test]
fn a_node_that_never_finishes() {
    let found = found_in(&swarm(), |_, event| {
        Ok(Some(event).filter(|event| !matches!(event, Event::Verified { host: LEECH, .. })))
    });
    assert_names(&found, "not done: node 2 has 0 pieces");
}

#[test]
fn a_shard_that_is_not_told_of_a_piece() {
    let found = found_in(&swarm(), |_, event| {
        let news = |parcel: &Parcel| matches!(parcel, Parcel::FromShard(ShardMessage::Have(_)));
        let lost = matches!(&event, Event::ToShard { to: 1, parcel, .. } if news(parcel));
        Ok(Some(event).filter(|_| !lost))
    });
    assert_names(&found, "one of its shards knows of");
}

#[test]
fn what_is_left_open_at_the_end() {
    let found = found_in(&swarm(), |world, event| {
        let open: usize = world.node(LEECH).shards.iter().map(|shard| shard.machine.open_count()).sum();
        if open > 0 { world.check_the_end().map(|()| Some(event)) } else { Ok(Some(event)) }
    });
    assert_names(&found, "node 2 is done with");
}

/// As if the poisoner's blocks had been taken for honest ones.
#[test]
fn a_liar_that_is_not_found() {
    let mut scenario = swarm();
    scenario.hosts.push(HostSpec::new(Role::Poisoner(2)));
    let found = found_in(&scenario, |_, event| {
        let found_out = |message: &ShardToCore| matches!(message, ShardToCore::Poisoner(_));
        let lost = matches!(&event, Event::ToCore { host: LEECH, message, .. } if found_out(message));
        Ok(Some(event).filter(|_| !lost))
    });
    assert_names(&found, "node 2 never found out that 3 lied");
}

#[test]
fn a_limit_that_is_exceeded() {
    let mut scenario = swarm();
    scenario.hosts[SEED].limits = Some((100_000, 1_000_000));
    let found = found_in(&scenario, |world, event| {
        world.node(SEED).given += 1_000;
        Ok(Some(event))
    });
    assert_names(&found, "limited to 100000 a second");
}

#[test]
fn more_peers_than_may_stay() {
    let found = found_in(&Scenario { max_peers: 1, ..swarm() }, |world, event| {
        world.node(LEECH).parting.clear();
        Ok(Some(event))
    });
    assert_names(&found, "node 2 keeps 2 peers, at most 1");
}

/// Peers are looked over once a second: one that no timer woke would be waited for for ever.
#[test]
fn a_shard_that_is_not_woken() {
    // Only the liar claims the last piece.
    let hosts = vec![HostSpec::honest(0..PIECES - 1), HostSpec::new(Role::Liar), HostSpec::honest([])];
    let found = found_in(&Scenario::of(1, PIECES, 4, hosts), |world, event| {
        let late = world.now > Instant::ZERO + Duration::from_secs(1);
        let wakes = matches!(event, Event::Timer(LEECH, Machine::Shard(_)));
        Ok(Some(event).filter(|_| !(late && wakes)))
    });
    assert_names(&found, "REQUEST_TIMEOUT");
}

#[test]
fn a_core_that_is_not_woken() {
    let mut scenario = swarm();
    // So that it has peers when it hears of the tracker for the second time.
    scenario.hosts[..LEECH].iter_mut().for_each(|seed| seed.up = 10_000);
    let found = found_in(&scenario, |_, event| {
        Ok(Some(event).filter(|event| !matches!(event, Event::Timer(LEECH, Machine::Core))))
    });
    assert_names(&found, "CHOKE_INTERVAL, overdue");
}

#[test]
fn a_request_for_what_is_no_block() {
    let mut scenario = swarm();
    let layout = scenario.layout;
    let half =
        PieceLayout::with_block_len(layout.total_len(), layout.nominal_piece_len(), layout.block_len() / 2);
    let world_sees = scenario.clone();
    scenario.layout = half.expect("as many pieces");
    let found = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(&scenario);
        world.scenario = &world_sees;
        play(&mut world, &mut |_, event| Ok(Some(event)))
    }));
    assert_names(&found.expect("no panic").expect_err("half a block"), "which is no block");
}

#[test]
fn steps_without_end() {
    let failure = run(&Scenario { most_steps: 500, ..swarm() }).expect_err("it takes more");
    assert_names(&failure.what, "a storm");
}
