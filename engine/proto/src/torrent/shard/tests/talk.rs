//! What is said beside blocks: greetings, interest, what peers ask of us.

use super::rig::{BLOCK, Rig};
use crate::limits::{IDLE_TIMEOUT, KEEP_ALIVE, MAX_PENDING_REPLIES, MAX_QUEUED_REQUESTS};
use crate::time::Duration;
use crate::torrent::{
    CoreToShard, Outgoing, PartReason, PeerKey, ShardAction, ShardInput, ShardToCore, Verdict,
};
use crate::wire::{ExtendedHandshake, Message};

fn slot(unchoke: &[PeerKey], choke: &[PeerKey]) -> CoreToShard {
    CoreToShard::Slots { unchoke: unchoke.to_vec(), choke: choke.to_vec() }
}

#[test]
fn greetings_follow_what_both_speak() {
    let have: [&[u32]; 3] = [&[], &[0, 11], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]];
    for (have, with_fast, without) in [
        (have[0], Message::HaveNone, None),
        (have[1], Message::Bitfield(vec![0x80, 0x10]), Some(Message::Bitfield(vec![0x80, 0x10]))),
        (have[2], Message::HaveAll, Some(Message::Bitfield(vec![0xff, 0xf0]))),
    ] {
        let mut rig = Rig::having(12, 2, have);
        for (fast, extended) in [(false, false), (false, true), (true, false), (true, true)] {
            let key = rig.join_as(0, 1, fast, extended);
            let mut heard = rig.heard(key);
            if extended {
                let Message::Extended { id: 0, payload } = heard.remove(0) else { panic!("{heard:?}") };
                let ours = ExtendedHandshake::parse(&payload).unwrap();
                assert_eq!((ours.reqq, ours.port), (Some(2000), Some(6881)));
            }
            let expected = if fast { Some(with_fast.clone()) } else { without.clone() };
            assert_eq!(heard, Vec::from_iter(expected), "{have:?}, fast {fast}, extended {extended}");
        }
    }
}

#[test]
fn interest_follows_what_the_peer_has() {
    let mut rig = Rig::new(1, 2, 1);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveNone);
    rig.heard(key);
    rig.says(key, Message::Have { piece: 1 });
    assert_eq!(rig.heard(key), [Message::Interested]);
    rig.says(key, Message::Have { piece: 1 });
    assert_eq!(rig.heard(key), [], "said once");
    rig.says(key, Message::Unchoke);
    rig.gives_all(key);
    rig.pieces_are_right();
    // It has the piece itself: it is not told that we do.
    assert_eq!(rig.heard(key), [Message::NotInterested]);
}

#[test]
fn both_seeds_part() {
    let mut rig = Rig::seed(3, 1);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveAll);
    assert_eq!(rig.why_parted(key), Some(PartReason::BothSeeds));
    let slow = rig.join_as(0, 2, false, false);
    rig.says(slow, rig.bitfield(&[0, 1]));
    assert_eq!(rig.why_parted(slow), None);
    rig.says(slow, Message::Have { piece: 2 });
    assert_eq!(rig.why_parted(slow), Some(PartReason::BothSeeds));
}

#[test]
fn what_comes_first_comes_first() {
    let mut rig = Rig::new(1, 3, 1);
    let key = rig.join(0, 1);
    let handshake = ExtendedHandshake { reqq: Some(3), port: Some(99), ..ExtendedHandshake::default() };
    rig.says(key, Message::Extended { id: 0, payload: handshake.encode() });
    rig.says(key, Message::HaveAll);
    assert_eq!(rig.why_parted(key), None, "the extended handshake may come before");
    assert!(
        rig.reports
            .iter()
            .any(|report| matches!(report, ShardToCore::ListensOn(_, addr) if addr.port() == 99))
    );
    for late in [Message::HaveAll, Message::HaveNone] {
        let key = rig.giver(0, 2);
        rig.says(key, late);
        assert_eq!(rig.why_parted(key), Some(PartReason::Misbehaved));
        assert!(
            rig.reports.iter().any(|report| matches!(report, ShardToCore::Misbehaved(who) if *who == key))
        );
    }
}

#[test]
fn a_later_bitfield_counts_as_haves() {
    let mut rig = Rig::new(1, 3, 1);
    let key = rig.join(0, 1);
    let (first, later) = (rig.bitfield(&[0]), rig.bitfield(&[1]));
    rig.says(key, first);
    rig.says(key, Message::Unchoke);
    rig.says(key, later);
    assert_eq!(rig.why_parted(key), None);
    let asked: Vec<u32> = rig.requests(key).into_iter().map(|span| span.piece).collect();
    assert!(asked.contains(&0) && asked.contains(&1) && !asked.contains(&2), "{asked:?}");
}

#[test]
fn the_fast_extension_is_not_spoken_unasked() {
    let mut rig = Rig::new(1, 3, 1);
    let span = rig.span(0, 0);
    for message in
        [Message::HaveAll, Message::HaveNone, Message::AllowedFast { piece: 0 }, Message::RejectRequest(span)]
    {
        let key = rig.join_as(0, 1, false, true);
        rig.says(key, message);
        assert_eq!(rig.why_parted(key), Some(PartReason::Misbehaved));
    }
}

#[test]
fn numbers_out_of_range_are_offences() {
    let mut rig = Rig::new(1, 3, 2);
    let beyond = rig.span(3, 0);
    for message in [
        Message::Have { piece: 3 },
        Message::AllowedFast { piece: 3 },
        Message::Request(beyond),
        Message::RejectRequest(beyond),
        Message::Bitfield(vec![0xff]),
        Message::Extended { id: 0, payload: b"x".to_vec() },
    ] {
        let key = rig.join(0, 1);
        rig.says(key, message.clone());
        assert_eq!(rig.why_parted(key), Some(PartReason::Misbehaved), "{message:?}");
    }
    let key = rig.join(0, 1);
    rig.begins(key, beyond);
    assert_eq!(rig.why_parted(key), Some(PartReason::Misbehaved));
}

#[test]
fn a_small_reqq_is_honoured() {
    let mut rig = Rig::new(1, 3, 40);
    let key = rig.join(0, 1);
    let handshake = ExtendedHandshake { reqq: Some(3), ..ExtendedHandshake::default() };
    rig.says(key, Message::Extended { id: 0, payload: handshake.encode() });
    rig.says(key, Message::HaveAll);
    rig.says(key, Message::Unchoke);
    assert_eq!(rig.requests(key).len(), 3);
}

#[test]
fn requests_are_served_in_order_while_unchoked() {
    let mut rig = Rig::seed(20, 2);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveNone);
    rig.says(key, Message::Interested);
    assert!(matches!(rig.reports.last(), Some(ShardToCore::Interest(who, true)) if *who == key));
    rig.core(0, slot(&[key], &[]));
    assert!(rig.heard(key).contains(&Message::Unchoke));
    let spans = [rig.span(3, 1), rig.span(3, 0), rig.span(7, 1)];
    spans.iter().for_each(|&span| rig.says(key, Message::Request(span)));
    rig.says(key, Message::Cancel(spans[1]));
    let sent = rig.sent(key);
    assert_eq!(sent[0], Outgoing::Message(Message::RejectRequest(spans[1])), "BEP 6 answers a cancel");
    let blocks: Vec<_> =
        sent[1..].iter().map(|out| matches!(out, Outgoing::Block(span) if span.len() == 16)).collect();
    assert_eq!(blocks, [true, true]);
    rig.input(0, ShardInput::Sent(key, 32));
    rig.core(0, CoreToShard::ReportRates(5));
    let Some(ShardToCore::Rates(5, rates)) = rig.reports.last() else { panic!("{:?}", rig.reports) };
    assert_eq!((rates[0].peer, rates[0].uploaded), (key, 32));
}

#[test]
fn a_choke_rejects_what_is_queued() {
    let mut rig = Rig::seed(20, 2);
    let (fast, plain) = (rig.join(0, 1), rig.join_as(0, 2, false, false));
    rig.says(fast, rig.bitfield(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    rig.core(0, slot(&[fast, plain], &[]));
    let span = rig.span(11, 0);
    for key in [fast, plain] {
        rig.heard(key);
        rig.says(key, Message::Request(span));
    }
    rig.core(0, slot(&[], &[fast, plain]));
    assert_eq!(rig.heard(fast), [Message::Choke, Message::RejectRequest(span)]);
    assert_eq!(rig.sent(plain), [Outgoing::Message(Message::Choke)], "the block is not sent either");
    rig.says(fast, Message::Request(span));
    rig.says(plain, Message::Request(span));
    assert_eq!(rig.heard(fast), [Message::RejectRequest(span)]);
    assert_eq!(rig.sent(plain), []);
}

#[test]
fn what_is_not_here_is_rejected() {
    let mut rig = Rig::new(1, 20, 2);
    let key = rig.join(0, 1);
    rig.core(0, slot(&[key], &[]));
    rig.heard(key);
    let span = rig.span(3, 0);
    rig.says(key, Message::Request(span));
    assert_eq!(rig.heard(key), [Message::RejectRequest(span)]);
}

#[test]
fn a_newcomer_is_allowed_a_few_pieces_while_choked() {
    let mut rig = Rig::seed(100, 1);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveNone);
    let allowed: Vec<u32> = rig
        .heard(key)
        .into_iter()
        .filter_map(|message| match message {
            Message::AllowedFast { piece } => Some(piece),
            _ => None,
        })
        .collect();
    assert_eq!(allowed.len(), 10);
    let other = (0..100).find(|number| !allowed.contains(number)).unwrap();
    let (yes, no) = (rig.span(allowed[0], 0), rig.span(other, 0));
    rig.says(key, Message::Request(yes));
    rig.says(key, Message::Request(no));
    let sent = rig.sent(key);
    assert_eq!(sent[0], Outgoing::Message(Message::RejectRequest(no)));
    assert!(matches!(sent[1], Outgoing::Block(span) if span.piece().number() == allowed[0]));
    let old = rig.join(0, 2);
    rig.says(old, rig.bitfield(&(0..10).collect::<Vec<_>>()));
    assert!(!rig.heard(old).iter().any(|message| matches!(message, Message::AllowedFast { .. })));
}

/// Each of all that are connected would take one, and none would be whole soon.
#[test]
fn of_long_pieces_few_are_allowed_while_choked() {
    let allowed = |piece_len: u32| {
        let mut rig = Rig::seed(20, piece_len / BLOCK);
        let key = rig.join(0, 1);
        rig.says(key, Message::HaveNone);
        let is_allowed = |message: &Message| matches!(message, Message::AllowedFast { .. });
        rig.heard(key).iter().filter(|message| is_allowed(message)).count()
    };
    assert_eq!([2 << 20, 8 << 20, 64 << 20].map(allowed), [10, 4, 0]);
}

#[test]
fn only_so_many_requests_are_queued() {
    let mut rig = Rig::seed(20, 2);
    let key = rig.join(0, 1);
    rig.core(0, slot(&[key], &[]));
    rig.heard(key);
    let span = rig.span(3, 0);
    for _ in 0..MAX_QUEUED_REQUESTS + 3 {
        rig.says(key, Message::Request(span));
    }
    let sent = rig.sent(key);
    assert_eq!(sent.iter().filter(|out| matches!(out, Outgoing::Block(_))).count(), MAX_QUEUED_REQUESTS);
    assert_eq!(sent.len(), MAX_QUEUED_REQUESTS + 3);
}

#[test]
fn a_peer_that_floods_and_does_not_read_is_parted_with() {
    let mut rig = Rig::seed(20, 2);
    let span = rig.span(3, 0);
    let (choked, served) = (rig.join(0, 1), rig.join(0, 2));
    rig.core(0, slot(&[served], &[]));
    for _ in 0..=MAX_PENDING_REPLIES {
        rig.says(choked, Message::Request(span));
        rig.says(served, Message::Request(span));
        rig.says(served, Message::Cancel(span));
    }
    assert_eq!(rig.why_parted(choked), Some(PartReason::Misbehaved), "rejects gathered");
    assert_eq!(rig.why_parted(served), Some(PartReason::Misbehaved), "answers to cancels gathered");
}

#[test]
fn have_is_told_to_those_who_lack_it_once() {
    let mut rig = Rig::new(1, 3, 1);
    let giver = rig.giver_of(0, 1, &[1]);
    let (lacks, has) = (rig.join(0, 2), rig.join_as(0, 3, false, false));
    rig.says(has, rig.bitfield(&[1]));
    rig.heard(has);
    rig.heard(lacks);
    assert_eq!(rig.gives_all(giver), 1);
    assert_eq!(rig.heard(lacks), [], "not before it is written");
    let (_, piece, _) = rig.verifies.remove(0);
    rig.input(0, ShardInput::Verified(piece, Verdict::Right(None)));
    assert!(!rig.pieces.has(piece));
    assert_eq!(rig.heard(lacks), [], "not before it is written");
    rig.input(0, ShardInput::Written(piece, true));
    assert!(rig.pieces.has(piece));
    assert_eq!(rig.heard(lacks), [Message::Have { piece: 1 }]);
    assert_eq!(rig.heard(has), [Message::NotInterested]);
    let completed = |report: &ShardToCore| matches!(report, ShardToCore::Completed);
    assert!(!rig.reports.iter().any(completed), "not before the last piece");
    let late = rig.join(0, 4);
    assert!(rig.heard(late).contains(&rig.bitfield(&[1])), "in the bitfield of those who come later");
    assert_eq!(rig.heard(late), []);
}

#[test]
fn ready_is_said_once_until_drained() {
    let mut rig = Rig::seed(3, 1);
    let key = rig.join(0, 1);
    rig.heard(key);
    for round in 0..2 {
        let mut readies = 0;
        for choke in [false, true, false, true] {
            let (unchoke, choke) = if choke { (vec![], vec![key]) } else { (vec![key], vec![]) };
            let input = ShardInput::FromCore(CoreToShard::Slots { unchoke, choke });
            rig.shards[0].handle_input(rig.now, input);
            while let Some(action) = rig.shards[0].poll_action() {
                readies += usize::from(matches!(action, ShardAction::Ready(_)));
            }
        }
        assert_eq!(readies, 1, "round {round}");
        assert_eq!(rig.heard(key).len(), 4);
    }
}

#[test]
fn the_silent_are_kept_alive_and_parted_with() {
    let mut rig = Rig::seed(3, 1);
    let key = rig.join(0, 1);
    rig.heard(key);
    rig.wait(KEEP_ALIVE + Duration::from_secs(2));
    assert_eq!(rig.heard(key), [Message::KeepAlive]);
    rig.wait(IDLE_TIMEOUT - KEEP_ALIVE);
    assert_eq!(rig.why_parted(key), Some(PartReason::Idle));
    assert!(matches!(rig.reports.last(), Some(ShardToCore::PeerDown(rates)) if rates.peer == key));
}

#[test]
fn bans_and_parting_orders_are_obeyed() {
    let mut rig = Rig::seed(3, 1);
    let (a, b, c) = (rig.join(0, 1), rig.join(0, 1), rig.join(0, 3));
    rig.core(0, CoreToShard::Ban(super::rig::ip(0, 1)));
    assert_eq!(
        [a, b, c].map(|key| rig.why_parted(key)),
        [Some(PartReason::Banned), Some(PartReason::Banned), None]
    );
    rig.core(0, CoreToShard::Part(c, PartReason::TooMany));
    assert_eq!(rig.why_parted(c), Some(PartReason::TooMany));
    rig.core(0, CoreToShard::Part(c, PartReason::TooMany));
    assert_eq!(rig.parted.len(), 3, "a key is void once parted with");
    assert_eq!(rig.shards[0].peer_count(), 0);
}
