//! Each bound that a shard keeps is seen to be broken: its tables are changed from outside, and the check names it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::super::TorrentShard;
use super::rig::{BLOCK, Rig};
use crate::layout::PieceLayout;
use crate::limits::{
    ALLOWED_FAST, ALLOWED_FAST_BYTES, AVAILABILITY_BATCH, IDLE_TIMEOUT, INITIAL_REQUESTS, KEEP_ALIVE,
    MAX_COPIES, MAX_LENT_BLOCKS, MAX_OUTGOING_REQUESTS, MAX_PENDING_REPLIES, MAX_QUEUED_REQUESTS,
    MAX_REQUEST_LEN, MAX_SUGGESTIONS, MAX_SUSPECT_PIECES, REQUEST_TIMEOUT, SNUB_AFTER, SNUB_PART_AFTER,
};
use crate::peer::{Peer, Source};
use crate::time::{Duration, Instant};
use crate::torrent::{CoreToShard, FailedTry, PartReason, PeerKey, ShardId, ShardInput, ShardMessage};
use crate::wire::{Message, RawSpan};

/// Changes one table.
type Breaks = fn(&mut Case);

/// A shard that asked a peer for all blocks of its first piece, and serves the peer.
struct Case {
    rig: Rig,
    key: PeerKey,
}

impl Case {
    fn new() -> Self {
        let mut rig = Rig::new(2, 400, 3);
        let key = rig.giver(0, 1);
        rig.heard(key);
        Self { rig, key }
    }

    fn shard(&mut self) -> &mut TorrentShard {
        &mut self.rig.shards[0]
    }

    fn peer(&mut self) -> &mut Peer {
        let key = self.key;
        self.shard().peer_mut(key).unwrap()
    }

    /// The peer says something now and then, and keeps us waiting for longer than that.
    fn is_never_looked_over(&mut self, span: Duration) {
        self.rig.now += span + Duration::from_secs(3);
        let now = self.rig.now;
        (self.peer().last_received, self.peer().last_sent) = (now, now);
        self.peer().asked.iter_mut().for_each(|asked| asked.late = true);
    }

    /// What the check says.
    fn found(&self) -> Option<String> {
        let (shard, now) = (&self.rig.shards[0], self.rig.now);
        let panic = catch_unwind(AssertUnwindSafe(|| shard.check_bounds(now))).err()?;
        Some(panic.downcast_ref::<String>().unwrap().clone())
    }
}

#[test]
fn each_bound_is_seen_to_be_broken() {
    let breaks: [(&str, Breaks); 21] = [
        ("reqq", |case| {
            let asked = case.peer().asked[0];
            case.peer().asked.resize(INITIAL_REQUESTS as usize + 1, asked);
            case.peer().pipeline.limit(1);
        }),
        ("MAX_OUTGOING_REQUESTS", |case| {
            let asked = case.peer().asked[0];
            case.peer().asked.resize(MAX_OUTGOING_REQUESTS as usize + 1, asked);
        }),
        ("MAX_QUEUED_REQUESTS", |case| {
            let span = case.rig.layout.span(0, 0, BLOCK).unwrap();
            case.peer().uploads.resize(MAX_QUEUED_REQUESTS + 1, span);
        }),
        ("MAX_REQUEST_LEN", |case| {
            let layout = PieceLayout::new(1 << 20, 1 << 20).unwrap();
            case.peer().uploads.push_back(layout.span(0, 0, MAX_REQUEST_LEN + 1).unwrap());
        }),
        ("MAX_PENDING_REPLIES", |case| case.peer().pending_rejects = MAX_PENDING_REPLIES + 1),
        ("ALLOWED_FAST", |case| {
            let piece = case.rig.piece(0);
            case.peer().allowed_by_us.resize(ALLOWED_FAST + 1, piece);
        }),
        ("ALLOWED_FAST_BYTES", |case| {
            let piece = case.rig.piece(0);
            let most = ALLOWED_FAST_BYTES / u64::from(case.rig.layout.nominal_piece_len());
            case.peer().allowed_by_us.resize(most as usize + 1, piece);
        }),
        ("ALLOWED_FAST to us", |case| {
            let piece = case.rig.piece(0);
            case.peer().allowed_to_us.resize(4 * ALLOWED_FAST + 1, piece);
        }),
        ("MAX_SUGGESTIONS", |case| {
            let piece = case.rig.piece(0);
            case.peer().advice.overfill(piece);
        }),
        ("MAX_SUGGESTIONS by us", |case| {
            let piece = case.rig.piece(0);
            (0..=MAX_SUGGESTIONS).for_each(|_| case.peer().courier.suggest(piece));
        }),
        ("MAX_LENT_BLOCKS", |case| {
            let block = case.peer().asked[0].block;
            case.shard().lent.insert(block, vec![ShardId(1); MAX_LENT_BLOCKS + 1]);
        }),
        ("MAX_COPIES", |case| {
            let asked = case.peer().asked[0];
            (0..MAX_COPIES).for_each(|_| case.peer().asked.push_back(asked));
        }),
        ("MAX_COPIES", |case| {
            let asked = case.peer().asked[0];
            let open = case.shard().open.get_mut(&asked.block.piece()).unwrap();
            assert!(open.begin(asked.block, true), "it arrives from somebody else");
            (0..MAX_COPIES).for_each(|_| case.peer().asked.push_back(asked));
        }),
        ("MAX_SUSPECT_PIECES", |case| {
            let layout = PieceLayout::with_block_len(1_000, 1, 1).unwrap();
            let suspicion = &mut case.shard().suspicion;
            layout
                .pieces()
                .take(MAX_SUSPECT_PIECES + 1)
                .for_each(|piece| suspicion.insert_for_tests(piece, 1));
        }),
        ("MAX_FAILED_TRIES", |case| {
            let piece = case.rig.piece(0);
            case.shard().suspicion.insert_for_tests(piece, 9);
        }),
        ("AVAILABILITY_BATCH", |case| {
            case.shard().deltas_since = Some(Instant::ZERO);
            case.rig.now = Instant::ZERO + AVAILABILITY_BATCH + Duration::from_millis(6);
        }),
        ("IDLE_TIMEOUT", |case| case.rig.now += IDLE_TIMEOUT + Duration::from_secs(3)),
        ("KEEP_ALIVE", |case| {
            case.rig.now += KEEP_ALIVE + Duration::from_secs(3);
            let now = case.rig.now;
            (case.peer().last_received, case.peer().ready) = (now, false);
            case.peer().asked.clear();
        }),
        ("REQUEST_TIMEOUT", |case| case.rig.now += REQUEST_TIMEOUT + Duration::from_secs(3)),
        ("SNUB_AFTER", |case| case.is_never_looked_over(SNUB_AFTER)),
        ("SNUB_PART_AFTER", |case| {
            case.is_never_looked_over(SNUB_AFTER + SNUB_PART_AFTER);
            case.peer().snubbed = true;
        }),
    ];
    assert_eq!(Case::new().found(), None);
    for (bound, breaks) in breaks {
        let mut case = Case::new();
        assert_eq!(case.peer().asked[0].source, Source::Own);
        breaks(&mut case);
        let found = case.found().unwrap_or_default();
        assert!(found.starts_with(&format!("{bound}: ")), "{bound}: found {found:?}");
    }
}

#[test]
fn what_is_lent_of_a_piece_that_is_not_open_is_seen() {
    let mut case = Case::new();
    let layout = case.rig.layout;
    let piece = layout.pieces().find(|piece| !case.shard().open.contains_key(piece));
    let block = layout.blocks(piece.unwrap()).next().unwrap();
    case.shard().lent.insert(block, vec![ShardId(1)]);
    assert!(case.found().unwrap().contains("is lent, and its piece is not open"));
}

/// It asked again before the answer to its first question came: what was lent twice was without bound.
#[test]
fn a_shard_that_asks_again_and_again_is_lent_no_more() {
    let mut rig = Rig::new(2, 1, 4 * MAX_LENT_BLOCKS as u32);
    let _slow = rig.giver(0, 1);
    let piece = rig.piece(0);
    for _ in 0..3 {
        rig.input(0, ShardInput::FromShard(ShardId(1), ShardMessage::Borrow { piece, speed: None }));
        rig.shards[0].check_bounds(rig.now);
    }
    assert_eq!(rig.shards[0].lent_to(ShardId(1), piece), MAX_LENT_BLOCKS);
}

/// Rejects of what was queued when it was choked had no bound, so that they gathered with each choke.
#[test]
fn a_peer_that_never_reads_is_parted_with_as_rejects_gather() {
    let mut rig = Rig::seed(4, 3);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveNone);
    while rig.why_parted(key).is_none() {
        rig.core(0, CoreToShard::Slots { unchoke: vec![key], choke: vec![] });
        (0..MAX_QUEUED_REQUESTS)
            .for_each(|_| rig.says(key, Message::Request(RawSpan { piece: 0, begin: 0, length: BLOCK })));
        rig.core(0, CoreToShard::Slots { unchoke: vec![], choke: vec![key] });
        rig.shards[0].check_bounds(rig.now);
    }
    assert_eq!(rig.why_parted(key), Some(PartReason::Misbehaved));
}

/// All that waited for it was counted against it, our own requests too, while nothing left for a moment.
#[test]
fn a_peer_that_is_choked_while_much_waits_for_it_is_kept() {
    let mut rig = Rig::seed(4, 3);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveNone);
    rig.core(0, CoreToShard::Slots { unchoke: vec![key], choke: vec![] });
    rig.heard(key);
    let request = Message::Request(RawSpan { piece: 0, begin: 0, length: BLOCK });
    for _ in 0..MAX_QUEUED_REQUESTS {
        rig.says(key, request.clone());
        rig.shards[0].say(key, request.clone());
    }
    rig.core(0, CoreToShard::Slots { unchoke: vec![], choke: vec![key] });
    rig.shards[0].check_bounds(rig.now);
    assert_eq!((rig.why_parted(key), rig.shards[0].owes(key)), (None, MAX_QUEUED_REQUESTS));
    rig.heard(key);
    assert_eq!(rig.shards[0].owes(key), 0);
}

#[test]
fn failed_tries_are_bounded_however_they_come() {
    let mut rig = Rig::new(2, 300, 1);
    for number in (0..300).chain(0..300) {
        let failed = Arc::new(FailedTry { blocks: vec![] });
        let message = ShardMessage::Failed(rig.piece(number), failed);
        rig.input(0, ShardInput::FromShard(ShardId(1), message));
    }
    rig.shards[0].check_bounds(rig.now);
}
