//! Rate limits: blocks in their turn, messages at once.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::rig::{BLOCK, Rig};
use crate::limiter::RateLimit;
use crate::limits::{BLOCK_LEN, RATE_BURST};
use crate::time::Duration;
use crate::torrent::{CoreToShard, Outgoing, PeerKey};
use crate::wire::Message;

/// A limit of so many blocks a second. The rig's blocks are small, and one is a turn.
fn blocks_a_second(blocks: u64) -> Vec<Arc<RateLimit>> {
    vec![Arc::new(RateLimit::new(NonZeroU64::new(blocks * u64::from(BLOCK)).unwrap()))]
}

fn blocks_sent(rig: &mut Rig, key: PeerKey) -> usize {
    rig.sent(key).iter().filter(|outgoing| matches!(outgoing, Outgoing::Block(_))).count()
}

/// A seed whose peers have asked for these many blocks each.
fn seed(peers: u8, blocks: u32) -> (Rig, Vec<PeerKey>) {
    let mut rig = Rig::seed(1, blocks);
    let keys: Vec<PeerKey> = (1..=peers).map(|last| rig.join(0, last)).collect();
    for &key in &keys {
        rig.says(key, Message::HaveNone);
        rig.core(0, CoreToShard::Slots { unchoke: vec![key], choke: vec![] });
        (0..blocks).for_each(|block| rig.says(key, Message::Request(rig.span(0, block))));
    }
    (rig, keys)
}

#[test]
fn blocks_are_given_in_turn_and_messages_at_once() {
    const { assert!(BLOCK < BLOCK_LEN, "a turn is one of the rig's blocks") };
    let (mut rig, keys) = seed(3, 100);
    rig.shards[0].set_limits(blocks_a_second(10), vec![]);
    let mut got = [0; 3];
    for _ in 0..100 {
        for key in std::mem::take(&mut rig.ready) {
            let at = keys.iter().position(|&known| known == key).unwrap();
            got[at] += blocks_sent(&mut rig, key);
        }
        rig.wait(Duration::from_millis(100));
    }
    let all: usize = got.iter().sum();
    let most = 10 * 10 + 10 * RATE_BURST.as_millis() as usize / 1_000 + 2;
    assert!((98..=most).contains(&all), "{got:?}");
    let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
    assert!(most - least <= 2, "{got:?}");
    rig.core(0, CoreToShard::Slots { unchoke: vec![], choke: vec![keys[0]] });
    assert!(rig.heard(keys[0]).contains(&Message::Choke));
}

#[test]
fn a_peer_that_waits_for_its_turn_is_ready_when_it_comes() {
    let (mut rig, keys) = seed(1, 10);
    rig.shards[0].set_limits(blocks_a_second(1), vec![]);
    let first = blocks_sent(&mut rig, keys[0]);
    assert!(first <= 2, "{first}");
    assert!(rig.shards[0].poll_timeout().is_some_and(|at| at <= rig.now + Duration::from_secs(1)));
    rig.leaves(keys[0]);
    rig.wait(Duration::from_secs(5));
}

#[test]
fn blocks_are_asked_for_in_turn() {
    let mut rig = Rig::new(1, 100, 2);
    rig.shards[0].set_limits(vec![], blocks_a_second(10));
    let keys: Vec<PeerKey> = (1..=2).map(|last| rig.giver(0, last)).collect();
    let mut asked = [0; 2];
    for _ in 0..100 {
        for (at, &key) in keys.iter().enumerate() {
            let requests = rig.requests(key);
            asked[at] += requests.len();
            rig.gives_each(key, &requests);
        }
        rig.pieces_are_right();
        rig.wait(Duration::from_millis(100));
    }
    let all: usize = asked.iter().sum();
    assert!((97..=103).contains(&all), "{asked:?}");
    assert!(asked[0].abs_diff(asked[1]) <= 4, "{asked:?}");
}

#[test]
fn a_limited_download_ends() {
    let mut rig = Rig::new(1, 3, 4);
    rig.shards[0].set_limits(vec![], blocks_a_second(4));
    let keys: Vec<PeerKey> = (1..=3).map(|last| rig.giver(0, last)).collect();
    for _ in 0..60 {
        for &key in &keys {
            rig.gives_all(key);
        }
        rig.pieces_are_right();
        rig.wait(Duration::from_millis(100));
    }
    assert!(rig.pieces.is_complete());
}
