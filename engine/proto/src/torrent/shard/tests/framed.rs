//! Peers that give blocks in any order, lie in some, leave and come back: whoever made a piece fail is found, and nobody
//! else, whatever the peers get to give.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;

use super::super::{ShardInput, Sink, Verdict};
use super::rig::{Rig, ip};
use crate::layout::{Block, PieceIndex};
use crate::rng::Rng;
use crate::time::Duration;
use crate::torrent::{BlockDigest, CoreToShard, PeerKey};
use crate::wire::{Message, RawSpan};

const PIECES: u32 = 3;
const BLOCKS: u32 = 5;

struct Guest {
    key: PeerKey,
    last: u8,
    /// What it was asked and did not answer.
    asked: Vec<RawSpan>,
}

/// One shard, its peers, and what they gave.
struct Story {
    rig: Rig,
    rng: Rng,
    guests: Vec<Guest>,
    /// One answer in so many of each address is wrong; those that are not here never lie.
    lies: BTreeMap<u8, usize>,
    given: BTreeMap<Block, (IpAddr, BlockDigest)>,
    /// Whose wrong blocks made a piece fail.
    guilty: BTreeSet<IpAddr>,
    banned: BTreeSet<IpAddr>,
    ports: u16,
}

impl Story {
    fn new(seed: u64, honest: u8, lies: &[usize]) -> Self {
        let lies = lies.iter().enumerate().map(|(at, &one_in)| (honest + at as u8, one_in)).collect();
        let mut story = Self {
            rig: Rig::new(1, PIECES, BLOCKS),
            rng: Rng::new(seed),
            guests: Vec::new(),
            lies,
            given: BTreeMap::new(),
            guilty: BTreeSet::new(),
            banned: BTreeSet::new(),
            ports: 0,
        };
        let all = honest + story.lies.len() as u8;
        (0..all).for_each(|last| story.comes(last));
        story
    }

    fn comes(&mut self, last: u8) {
        self.ports += 1;
        let key = self.rig.join_from(0, last, 1_000 + self.ports);
        self.rig.says(key, Message::HaveAll);
        self.rig.says(key, Message::Unchoke);
        self.guests.push(Guest { key, last, asked: Vec::new() });
    }

    fn plays(&mut self) {
        for _ in 0..20_000 {
            if self.rig.pieces.is_complete() {
                return;
            }
            self.hear_requests();
            match self.rng.below(40) {
                0 => self.somebody_goes_and_comes_back(),
                1 => self.rig.wait(Duration::from_millis(500)),
                _ => self.somebody_answers(),
            }
            self.verify();
            self.ban();
        }
        panic!("never complete: {:?}", self.rig.shards[0]);
    }

    fn hear_requests(&mut self) {
        for guest in &mut self.guests {
            for message in self.rig.heard(guest.key) {
                match message {
                    Message::Request(span) => guest.asked.push(span),
                    Message::Cancel(span) => guest.asked.retain(|&asked| asked != span),
                    _ => {}
                }
            }
        }
    }

    fn somebody_goes_and_comes_back(&mut self) {
        let at = self.rng.below(self.guests.len());
        let Guest { key, last, .. } = self.guests.swap_remove(at);
        self.rig.leaves(key);
        self.comes(last);
    }

    fn somebody_answers(&mut self) {
        let at = self.rng.below(self.guests.len());
        let guest = &mut self.guests[at];
        if guest.asked.is_empty() {
            return;
        }
        let span = guest.asked.remove(self.rng.below(guest.asked.len()));
        let (key, giver) = (guest.key, ip(0, guest.last));
        let lies = self.lies.get(&guest.last).is_some_and(|&one_in| self.rng.one_in(one_in));
        // Ever another block, or the same wrong one as last time.
        let wrong = 100 + self.rng.below(3) as u8;
        if let Sink::Piece(block) = self.rig.begins(key, span) {
            self.given.insert(block, (giver, [if lies { wrong } else { block.number() as u8 }; 20]));
        }
        self.rig.ends(key);
    }

    fn verify(&mut self) {
        for (shard, piece, wanted) in std::mem::take(&mut self.rig.verifies) {
            let given = self.given_to(piece);
            let wrong =
                |(block, (_, digest)): &(Block, (IpAddr, BlockDigest))| digest[0] != block.number() as u8;
            let liars: Vec<IpAddr> =
                given.iter().filter(|given| wrong(given)).map(|(_, (giver, _))| *giver).collect();
            let digests = given.iter().map(|(_, (_, digest))| *digest).collect();
            if liars.is_empty() {
                let right = Verdict::Right(wanted.then_some(digests));
                self.rig.input(shard, ShardInput::Verified(piece, right));
                self.rig.input(shard, ShardInput::Written(piece, true));
            } else {
                self.guilty.extend(liars);
                self.rig.input(shard, ShardInput::Verified(piece, Verdict::Wrong(digests)));
            }
        }
    }

    fn given_to(&self, piece: PieceIndex) -> Vec<(Block, (IpAddr, BlockDigest))> {
        self.rig.layout.blocks(piece).map(|block| (block, self.given[&block])).collect()
    }

    /// What the core does: every peer at the address is parted with, and it does not come back.
    fn ban(&mut self) {
        for liar in self.rig.poisoners() {
            if self.banned.insert(liar) {
                self.guests.retain(|guest| ip(0, guest.last) != liar);
                self.rig.core(0, CoreToShard::Ban(liar));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whoever_made_a_piece_fail_is_found_and_nobody_else(
        seed in any::<u64>(),
        honest in 1u8..5,
        lies in prop::collection::vec(1usize..8, 0..4),
    ) {
        let mut story = Story::new(seed, honest, &lies);
        story.plays();
        prop_assert_eq!(story.guilty, story.banned);
    }
}

#[test]
fn there_are_liars_to_be_found() {
    let mut story = Story::new(1, 3, &[2, 2]);
    story.plays();
    assert_eq!((story.guilty.len(), story.banned.len()), (2, 2));
}

/// Both were asked for the same block: only what is in the piece counts against its giver.
#[test]
fn whoever_was_slower_than_a_liar_is_not_suspected() {
    let mut rig = Rig::new(1, 1, 2);
    let (liar, honest, slower) = (rig.giver(0, 1), rig.giver(0, 2), rig.giver(0, 3));
    for key in [liar, honest, slower] {
        rig.heard(key);
    }
    let (first, second) = (rig.span(0, 0), rig.span(0, 1));
    rig.gives(honest, first);
    rig.gives(liar, second);
    // The endgame: all three were asked for both.
    assert_eq!(rig.gives(slower, second), Sink::Discard);
    rig.piece_is_wrong(&[1]);
    let piece = rig.piece(0);
    let suspected = |rig: &Rig, last| rig.shards[0].suspicion.suspects(piece, ip(0, last));
    assert!(suspected(&rig, 1) && suspected(&rig, 2) && !suspected(&rig, 3));
    assert_eq!(rig.gives_all(slower), 2, "the stranger to it gives all of it");
    rig.pieces_are_right();
    assert_eq!(rig.poisoners(), [ip(0, 1)]);
}

/// Its first block is remembered by address, so that it is as suspect when it is back from another port.
#[test]
fn a_liar_that_comes_back_from_another_port_is_still_suspected() {
    let mut rig = Rig::new(1, 1, 2);
    let (liar, honest) = (rig.giver(0, 1), rig.giver(0, 2));
    rig.heard(liar);
    rig.heard(honest);
    let (first, second) = (rig.span(0, 0), rig.span(0, 1));
    rig.gives(honest, first);
    rig.gives(liar, second);
    rig.piece_is_wrong(&[1]);
    rig.leaves(liar);
    rig.leaves(honest);
    let back = rig.join_from(0, 1, 50_000);
    let stranger = rig.join_from(0, 9, 50_001);
    for key in [back, stranger] {
        rig.says(key, Message::HaveAll);
    }
    rig.says(back, Message::Unchoke);
    rig.says(stranger, Message::Unchoke);
    rig.leaves(back);
    rig.wait(Duration::from_secs(10));
    assert_eq!(rig.gives_all(stranger), 2);
    rig.pieces_are_right();
    assert_eq!(rig.poisoners(), [ip(0, 1)], "it is not even here");
}
