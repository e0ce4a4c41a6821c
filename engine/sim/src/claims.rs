//! What the shards of a node hold, against the state that they share: after every step each claim is somebody's, and
//! nobody holds what is not claimed. Changes nothing.

use ringtide_proto::layout::{PieceIndex, PieceLayout};
use ringtide_proto::torrent::PieceState;

use crate::node::Node;

impl Node {
    /// Each claimed piece is assembled by the shard that claimed it, or on its way there; no shard assembles another, or has
    /// a buffer of another. Memory is leased for these and for nothing else.
    pub(crate) fn check_claims(&self, layout: &PieceLayout) -> Result<(), String> {
        let (mut here, mut leased) = (0, 0);
        for piece in layout.pieces() {
            let Some(owner) = self.owner(piece) else { continue };
            let held = self.shards[owner].machine.begun_at(piece).is_some();
            let travels = self.handovers.get(&piece) == Some(&owner);
            if held == travels {
                return Err(format!(
                    "shard {owner} claims {piece:?}, which is held: {held}, handed over: {travels}"
                ));
            }
            here += usize::from(held);
            leased += u64::from(layout.piece_len(piece));
        }
        let open: usize = self.shards.iter().map(|shard| shard.machine.open_count()).sum();
        if open != here {
            return Err(format!("{open} pieces are open, {here} of them claimed by who has them"));
        }
        if leased != self.budget.used() {
            return Err(format!("{leased} bytes of pieces are claimed, {:?} is leased", self.budget));
        }
        self.check_buffers()
    }

    fn check_buffers(&self) -> Result<(), String> {
        for (number, shard) in self.shards.iter().enumerate() {
            let stray = shard.buffers.pieces().find(|&piece| shard.machine.begun_at(piece).is_none());
            if let Some(piece) = stray {
                return Err(format!("shard {number} has a buffer for {piece:?}, which it does not assemble"));
            }
        }
        Ok(())
    }

    fn owner(&self, piece: PieceIndex) -> Option<usize> {
        match self.pieces.state(piece) {
            PieceState::Claimed(owner) | PieceState::Verifying(owner) | PieceState::Writing(owner) => {
                Some(usize::from(owner.0))
            }
            PieceState::Unchecked | PieceState::Free | PieceState::Have | PieceState::Unwanted => None,
        }
    }
}
