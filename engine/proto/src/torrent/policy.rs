//! Where a torrent has a choice, what it does: the settings of picker and choker. Each has a default that the
//! simulator shows to be the best; the others are there to be measured against it, or because a user asks.

use crate::picker::Order;

/// How a torrent chooses. All its shards and its core have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which piece to begin next.
    pub order: Order,
    /// A seed that is the only one tells each peer of one piece at a time, until all are elsewhere (BEP 16). For whoever
    /// has everything at the start.
    pub super_seed: bool,
}
