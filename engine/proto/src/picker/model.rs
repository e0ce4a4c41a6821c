//! The picker against the most obvious one: count the peers that have each piece, take the smallest.

use proptest::prelude::*;

use super::{Order, Picker, Priority, Selection};
use crate::bitfield::Bitfield;
use crate::layout::PieceLayout;
use crate::peer::PeerPieces;
use crate::rng::Rng;

#[derive(Clone, Debug)]
enum Step {
    Join(u64),
    Leave(usize),
    Have(usize, u32),
    Release(u32),
    TakenElsewhere(u32),
    Pick(usize),
    PickForSeed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<u64>().prop_map(Step::Join),
        1 => any::<usize>().prop_map(Step::Leave),
        4 => (any::<usize>(), any::<u32>()).prop_map(|(peer, piece)| Step::Have(peer, piece)),
        1 => any::<u32>().prop_map(Step::Release),
        1 => any::<u32>().prop_map(Step::TakenElsewhere),
        4 => any::<usize>().prop_map(Step::Pick),
        1 => Just(Step::PickForSeed),
    ]
}

struct Model {
    layout: PieceLayout,
    peers: Vec<Bitfield>,
    free: Vec<bool>,
    priorities: Vec<Priority>,
}

impl Model {
    /// The rarest free pieces of the highest priority that the peer has: any of them is right.
    fn best(&self, pieces: &PeerPieces) -> Vec<u32> {
        let count = |number: u32| {
            let piece = self.layout.piece(number).unwrap();
            self.peers.iter().filter(|peer| peer.contains(piece)).count()
        };
        let has = |number: &u32| pieces.contains(self.layout.piece(*number).unwrap());
        let free: Vec<u32> =
            (0..self.layout.piece_count()).filter(|&n| self.free[n as usize]).filter(has).collect();
        let priority = |number: u32| self.priorities[number as usize];
        let highest = free.iter().map(|&number| priority(number)).max();
        let wanted = |number: &u32| Some(priority(*number)) == highest && highest != Some(Priority::Skip);
        let free: Vec<u32> = free.into_iter().filter(wanted).collect();
        let rarest = free.iter().map(|&number| count(number)).min();
        free.into_iter().filter(|&number| Some(count(number)) == rarest).collect()
    }
}

fn run(priorities: Vec<Priority>, seed: u64, steps: Vec<Step>) {
    let count = priorities.len() as u32;
    let layout = PieceLayout::with_block_len(u64::from(count), 1, 1).unwrap();
    let mut rng = Rng::new(seed);
    let mut picker = if priorities.iter().all(|&priority| priority == Priority::Normal) {
        Picker::new(layout, &mut rng)
    } else {
        let files = priorities.iter().map(|&priority| (1, priority));
        Picker::selecting(layout, &Selection::of_files(&layout, files), &mut rng)
    };
    let mut model = Model { layout, peers: vec![], free: vec![true; count as usize], priorities };
    for step in steps {
        let peers = model.peers.len();
        match step {
            Step::Join(bits) => {
                let mut set = Bitfield::empty(count);
                layout.pieces().filter(|piece| bits >> (piece.number() % 64) & 1 == 1).for_each(|piece| {
                    set.insert(piece);
                    picker.adjust(piece, 1, &mut rng);
                });
                model.peers.push(set);
            }
            Step::Leave(at) if peers > 0 => {
                let gone = model.peers.swap_remove(at % peers);
                gone.pieces(&layout).for_each(|piece| picker.adjust(piece, -1, &mut rng));
            }
            Step::Have(at, number) if peers > 0 => {
                let piece = layout.piece(number % count).unwrap();
                if model.peers[at % peers].insert(piece) {
                    picker.adjust(piece, 1, &mut rng);
                }
            }
            Step::Release(number) => {
                model.free[(number % count) as usize] = true;
                picker.restore(layout.piece(number % count).unwrap(), &mut rng);
            }
            // Another shard claimed it: this picker learns of it only when its own claim fails.
            Step::TakenElsewhere(number) => model.free[(number % count) as usize] = false,
            Step::Pick(at) if peers > 0 => {
                let pieces = PeerPieces::Some(model.peers[at % peers].clone());
                pick(&mut picker, &mut model, &pieces, &mut rng);
            }
            Step::PickForSeed => pick(&mut picker, &mut model, &PeerPieces::All, &mut rng),
            _ => {}
        }
        let begins: Vec<_> = layout.pieces().filter(|piece| picker.contains(*piece)).collect();
        assert!(begins.iter().all(|piece| model.priorities[piece.index()] != Priority::Skip));
        assert_eq!(picker.is_empty(), begins.is_empty());
    }
}

fn pick(picker: &mut Picker, model: &mut Model, pieces: &PeerPieces, rng: &mut Rng) {
    let best = model.best(pieces);
    let free = &mut model.free;
    let picked =
        picker.pick(pieces, &[], Order::RarestFirst, rng, |piece| std::mem::take(&mut free[piece.index()]));
    match picked {
        Some(piece) => assert!(best.contains(&piece.number()), "{piece:?} is not among the rarest, {best:?}"),
        None => assert!(best.is_empty(), "nothing picked of {best:?}"),
    }
}

proptest! {
    #[test]
    fn picks_are_the_rarest(count in 1usize..100, seed: u64, steps in prop::collection::vec(step(), 0..200)) {
        run(vec![Priority::Normal; count], seed, steps);
    }

    #[test]
    fn picks_are_the_rarest_of_what_is_wanted_most(
        priorities in prop::collection::vec(prop_oneof![Just(Priority::Skip), Just(Priority::Normal), Just(Priority::High)], 1..100),
        seed: u64, steps in prop::collection::vec(step(), 0..200),
    ) {
        run(priorities, seed, steps);
    }
}

#[test]
fn a_peer_that_lacks_almost_everything_is_served() {
    let layout = PieceLayout::with_block_len(100_000, 1, 1).unwrap();
    let mut rng = Rng::new(3);
    let mut picker = Picker::new(layout, &mut rng);
    let mut only = Bitfield::empty(100_000);
    let piece = layout.piece(77_777).unwrap();
    only.insert(piece);
    picker.adjust(piece, 1, &mut rng);
    let pieces = PeerPieces::Some(only);
    assert_eq!(picker.pick(&pieces, &[], Order::RarestFirst, &mut rng, |_| true), Some(piece));
    assert_eq!(picker.pick(&pieces, &[], Order::Random, &mut rng, |_| true), None);
}
