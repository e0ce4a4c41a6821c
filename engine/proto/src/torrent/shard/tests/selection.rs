//! A torrent of which only some is wanted.

use super::rig::Rig;
use crate::layout::PieceLayout;
use crate::picker::{Priority, Selection};
use crate::torrent::{CoreToShard, PartReason, PieceState, ShardToCore, SharedPieces};
use crate::wire::{ExtendedHandshake, Extension, ExtensionIds, Message};

/// `shards` shards of a torrent of as many pieces as there are letters, of `blocks` blocks each: `w` and `h` are
/// wanted, the latter first, and capitals are on disk.
fn rig(shards: u8, letters: &str, blocks: u32) -> Rig {
    let count = letters.len() as u32;
    let layout = PieceLayout::with_block_len(u64::from(count), 1, 1).unwrap();
    let priority = |letter: char| match letter.to_ascii_lowercase() {
        'w' => Priority::Normal,
        'h' => Priority::High,
        _ => Priority::Skip,
    };
    let selection = Selection::of_files(&layout, letters.chars().map(|letter| (1, priority(letter))));
    let shared = SharedPieces::unchecked(count).selecting(selection);
    for (piece, letter) in layout.pieces().zip(letters.chars()) {
        shared.checked(piece, letter.is_ascii_uppercase());
    }
    Rig::with(shards, count, blocks, shared, 1 << 20)
}

fn numbers(asked: &[crate::wire::RawSpan]) -> Vec<u32> {
    let mut numbers: Vec<u32> = asked.iter().map(|span| span.piece).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[test]
fn only_what_is_wanted_is_fetched() {
    let mut rig = rig(1, "xwWxwX", 2);
    let key = rig.giver(0, 1);
    let asked = rig.requests(key);
    assert_eq!(numbers(&asked), [1, 4]);
    rig.gives_each(key, &asked);
    rig.pieces_are_right();
    assert!(rig.pieces.is_finished() && !rig.pieces.is_complete());
    assert_eq!(rig.pieces.state(rig.piece(0)), PieceState::Unwanted);
    assert!(rig.reports.iter().any(|report| matches!(report, ShardToCore::Completed)));
    assert_eq!(rig.why_parted(key), Some(PartReason::BothSeeds), "neither wants anything");
    assert_eq!(rig.budget.used(), 0);
}

#[test]
fn who_has_only_what_is_not_wanted_is_of_no_interest() {
    let mut rig = rig(1, "xwXx", 1);
    let key = rig.join(0, 1);
    rig.says(key, rig.bitfield(&[0, 2]));
    let heard = rig.heard(key);
    assert!(heard.contains(&rig.bitfield(&[2])), "what is there is offered, wanted or not: {heard:?}");
    assert!(!heard.contains(&Message::Interested), "{heard:?}");
    rig.says(key, Message::Have { piece: 1 });
    assert_eq!(rig.heard(key), [Message::Interested]);
    rig.says(key, Message::Unchoke);
    assert_eq!(rig.gives_all(key), 1);
    rig.pieces_are_right();
    assert_eq!(rig.heard(key), [Message::NotInterested]);
    assert_eq!(rig.why_parted(key), None, "it may want something of ours");
}

#[test]
fn what_is_wanted_first_comes_first() {
    for seed in 1..20 {
        let mut rig = rig(1, "wwwwwwwwwwhwwwwhwxww", 16);
        // Rarer pieces do not come before.
        rig.giver_of(0, 100, &[10, 15]);
        let key = rig.giver(0, seed);
        let asked = rig.requests(key);
        assert!([10, 15].contains(&asked[0].piece), "{asked:?}");
        rig.gives_each(key, &asked);
        rig.gives_all(key);
        rig.pieces_are_right();
        assert!(rig.pieces.has(rig.piece(10)) || rig.pieces.has(rig.piece(15)));
    }
}

#[test]
fn allowed_pieces_that_are_not_wanted_are_not_asked_for() {
    let mut rig = rig(1, "xw", 1);
    let key = rig.join(0, 1);
    rig.says(key, Message::HaveAll);
    rig.says(key, Message::AllowedFast { piece: 0 });
    assert!(rig.requests(key).is_empty());
    rig.says(key, Message::AllowedFast { piece: 1 });
    assert_eq!(numbers(&rig.requests(key)), [1]);
}

/// The endgame begins when no wanted piece is left to begin, whatever else there is.
#[test]
fn shards_help_each_other_with_the_last_wanted_piece() {
    let mut rig = rig(2, "xxwxx", 20);
    let slow = rig.giver(0, 1);
    let asked = rig.requests(slow);
    assert_eq!(numbers(&asked), [2]);
    let fast = rig.giver(1, 2);
    rig.deliver();
    let borrowed = rig.requests(fast);
    assert!(!borrowed.is_empty() && numbers(&borrowed) == [2], "{borrowed:?}");
    rig.gives_each(fast, &borrowed);
    rig.deliver();
    rig.gives_all(fast);
    rig.deliver();
    let rest: Vec<_> = asked.into_iter().filter(|span| !borrowed.contains(span)).collect();
    rig.gives_each(slow, &rest);
    rig.gives_all(slow);
    rig.deliver();
    rig.pieces_are_right();
    rig.deliver();
    assert!(rig.pieces.is_finished());
    for key in [slow, fast] {
        assert_eq!(rig.why_parted(key), Some(PartReason::BothSeeds));
    }
}

#[test]
fn nothing_is_asked_of_anybody_where_nothing_is_wanted() {
    let mut rig = rig(1, "xXx", 1);
    let key = rig.join(0, 1);
    rig.says(key, rig.bitfield(&[0, 1]));
    rig.says(key, Message::Unchoke);
    let heard = rig.heard(key);
    assert!(
        !heard.iter().any(|message| matches!(message, Message::Interested | Message::Request(_))),
        "{heard:?}"
    );
    let seed = rig.join(0, 2);
    rig.says(seed, Message::HaveAll);
    assert_eq!(rig.why_parted(seed), Some(PartReason::BothSeeds));
}

/// The extension's message, under the id by which we or a peer asked for it.
fn upload_only(id: u8, said: u8) -> Message {
    Message::Extended { id, payload: vec![said] }
}

/// A peer's extended handshake, which asks for the extension's messages under that id.
fn greeting(id: u8, upload_only: Option<bool>) -> Message {
    let ids = ExtensionIds::NONE.with(Extension::UploadOnly, id);
    let handshake = ExtendedHandshake { ids, upload_only, ..ExtendedHandshake::default() };
    Message::Extended { id: 0, payload: handshake.encode() }
}

fn greeted_with(heard: &[Message]) -> ExtendedHandshake {
    let Some(Message::Extended { id: 0, payload }) = heard.first() else { panic!("{heard:?}") };
    ExtendedHandshake::parse(payload).unwrap()
}

#[test]
fn peers_are_told_when_nothing_more_is_wanted() {
    let mut rig = rig(1, "wxX", 1);
    let (early, silent) = (rig.join(0, 1), rig.join(0, 2));
    let ours = greeted_with(&rig.heard(early));
    assert_eq!((ours.upload_only, ours.ids.id(Extension::UploadOnly).is_some()), (None, true));
    rig.says(early, greeting(7, None));
    rig.says(early, rig.bitfield(&[1]));
    rig.says(silent, rig.bitfield(&[1]));
    let giver = rig.giver_of(0, 3, &[0]);
    let late = rig.join(0, 4);
    rig.heard(early);
    rig.gives_all(giver);
    rig.pieces_are_right();
    assert_eq!(rig.heard(early), [Message::Have { piece: 0 }, upload_only(7, 1)]);
    assert!(!rig.heard(silent).iter().any(|message| matches!(message, Message::Extended { id: 1.., .. })));
    rig.heard(late);
    rig.says(late, greeting(9, None));
    assert_eq!(rig.heard(late)[0], upload_only(9, 1), "its wish came after the fact");
    rig.says(late, greeting(9, None));
    assert_eq!(rig.heard(late), [], "said once");
    let new = rig.join(0, 5);
    assert_eq!(greeted_with(&rig.heard(new)).upload_only, Some(true));
    rig.says(new, greeting(8, None));
    assert_eq!(rig.heard(new), [], "said in the greeting");
    for key in [early, silent, giver, late, new] {
        assert_eq!(rig.why_parted(key), None, "it may want something");
    }
}

#[test]
fn two_that_want_nothing_part() {
    for (id, first) in [(1, true), (2, false)] {
        let mut rig = rig(1, "wxX", 1);
        let partial = rig.join(0, id);
        rig.says(partial, greeting(7, first.then_some(true)));
        rig.says(partial, rig.bitfield(&[0]));
        if !first {
            rig.says(partial, upload_only(1, 1));
        }
        rig.says(partial, Message::Unchoke);
        assert_eq!(rig.why_parted(partial), None, "it gives");
        rig.gives_all(partial);
        rig.pieces_are_right();
        assert_eq!(rig.why_parted(partial), Some(PartReason::BothSeeds));
        let next = rig.join(0, 10);
        rig.says(next, greeting(7, Some(true)));
        assert_eq!(rig.why_parted(next), Some(PartReason::BothSeeds), "whatever it has");
        let changed = rig.join(0, 11);
        rig.says(changed, greeting(7, Some(false)));
        rig.says(changed, rig.bitfield(&[1]));
        assert_eq!(rig.why_parted(changed), None);
        rig.says(changed, upload_only(1, 1));
        assert_eq!(rig.why_parted(changed), Some(PartReason::BothSeeds));
    }
}

/// Deeds count: whoever is interested is served, whatever it calls itself.
#[test]
fn an_upload_only_peer_that_is_interested_is_served() {
    let mut rig = Rig::seed(3, 1);
    let key = rig.join(0, 1);
    rig.says(key, Message::Interested);
    rig.says(key, greeting(7, Some(true)));
    rig.says(key, rig.bitfield(&[1]));
    assert_eq!(rig.why_parted(key), None);
    rig.core(0, CoreToShard::Slots { unchoke: vec![key], choke: vec![] });
    rig.says(key, Message::Request(rig.span(0, 0)));
    assert!(rig.sent(key).iter().any(|sent| matches!(sent, crate::torrent::Outgoing::Block(_))));
    rig.says(key, Message::NotInterested);
    assert_eq!(rig.why_parted(key), Some(PartReason::BothSeeds));
}

#[test]
fn nonsense_about_upload_only_says_nothing() {
    let mut rig = Rig::seed(3, 1);
    let key = rig.join(0, 1);
    rig.says(key, rig.bitfield(&[1]));
    for payload in [vec![], vec![1; 2], vec![1; 60_000]] {
        rig.says(key, Message::Extended { id: 1, payload });
        assert_eq!(rig.why_parted(key), None);
    }
    for said in ["i99999999999999999999e", "le", "1:1", "de"] {
        let payload = format!("d11:upload_only{said}e").into_bytes();
        rig.says(key, Message::Extended { id: 0, payload });
        assert_eq!(rig.why_parted(key), None, "{said}");
    }
    rig.says(key, Message::Extended { id: 77, payload: vec![1] });
    assert_eq!(rig.why_parted(key), None, "not the id that we gave it");
    rig.says(key, Message::Extended { id: 0, payload: b"d11:upload_onlyi-3ee".to_vec() });
    assert_eq!(rig.why_parted(key), Some(PartReason::BothSeeds), "any number but zero");
}

/// Who has nothing yet and says that it wants nothing is parted with by libtorrent.
#[test]
fn nothing_is_said_before_it_is_known_what_is_there() {
    let shared = SharedPieces::unchecked(2).selecting(Selection::nothing(2));
    let mut rig = Rig::with(1, 2, 1, shared, 1 << 20);
    let key = rig.join(0, 1);
    assert_eq!(greeted_with(&rig.heard(key)).upload_only, None);
    rig.says(key, greeting(7, None));
    let (found, lacking) = (rig.piece(0), rig.piece(1));
    assert!(rig.pieces.checked(found, true) && !rig.pieces.are_checked());
    rig.core(0, CoreToShard::Found(vec![found]));
    assert_eq!(rig.heard(key), [Message::Have { piece: 0 }]);
    assert!(rig.pieces.checked(lacking, false) && rig.pieces.are_checked());
    rig.core(0, CoreToShard::Lacking(vec![lacking]));
    assert_eq!(rig.heard(key), [upload_only(7, 1)]);
    assert_eq!(rig.pieces.state(lacking), PieceState::Unwanted, "never to be fetched");
}

#[test]
fn a_super_seed_does_not_say_that_it_has_everything() {
    let policy = crate::torrent::Policy { super_seed: true, ..Default::default() };
    let mut rig = Rig::with_policy(1, 3, 1, SharedPieces::complete(3), 1 << 20, policy);
    let key = rig.join(0, 1);
    assert_eq!(greeted_with(&rig.heard(key)).upload_only, None);
}
