//! Who of the connected peers stands in our rack (`--lan`), and what of the content it is on us to bring there.
//!
//! Between racks the way is narrow: a piece should cross it once and then go round within the rack. Hosts of a rack cannot
//! see what the others are fetching, so each has a part of the pieces that it alone brings in: hosts and pieces have places
//! on a ring, and a piece is brought in by the host that comes next (D. Karger et al., "Consistent hashing and random trees",
//! 1997). All hosts of a rack know each other, so that they agree without a message. What becomes of it is the shards'
//! [`rack`](super::super::shard)'s.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::super::message::CoreToShard;
use super::super::{Errands, PeerKey, ShardId};
use super::TorrentCore;
use crate::peer_list::Whom;

/// Beside those of our rack, so many in a hundred of the peers that a torrent may have are dialled in others.
const FAR_PERCENT: usize = 15;

/// Where there are few in our rack, others are dialled until there are so many in all.
const FEW: usize = 30;

impl TorrentCore {
    /// An address of ours: whose subnet it is of stands in our rack.
    pub(super) fn on_own_addr(&mut self, addr: IpAddr) {
        if self.config.policy.lan.is_none() || self.own_addrs.contains(&addr) {
            return;
        }
        self.own_addrs.push(addr);
        let (lan, own) = (self.config.policy.lan, self.own_addrs.clone());
        let is_near =
            |addr: SocketAddr| lan.is_some_and(|lan| own.iter().any(|&own| lan.is_near(own, addr.ip())));
        self.members.values_mut().for_each(|member| member.near = is_near(member.addr));
        self.list.sort_out(is_near);
        self.share_out();
    }

    /// Whether the address is of our rack; all are where racks make no difference.
    pub(super) fn is_near(&self, addr: SocketAddr) -> bool {
        self.config.policy.lan.is_none_or(|lan| self.own_addrs.iter().any(|&own| lan.is_near(own, addr.ip())))
    }

    /// Whom to dial next: neighbours, and so many others that what is not in the rack comes here; some of all places are
    /// theirs where there are neighbours for more.
    pub(super) fn whom_to_dial(&self) -> Whom {
        if self.config.policy.lan.is_none() {
            return Whom::NearFirst;
        }
        let near_members = self.members.values().filter(|member| member.near).count();
        let near_dialled = self.dialling.keys().filter(|&&addr| self.is_near(addr)).count();
        let far = self.members.len() + self.dialling.len() - near_members - near_dialled;
        let share = (self.config.max_peers * FAR_PERCENT / 100).max(1);
        if far >= share.max(FEW.saturating_sub(near_members)) {
            Whom::Near
        } else if near_members + near_dialled + share >= self.config.max_peers {
            Whom::FarFirst
        } else {
            Whom::NearFirst
        }
    }

    /// Who is of our rack changed: every shard hears what it has to bring in.
    pub(super) fn share_out(&mut self) {
        let near = self.members.iter().filter(|(_, member)| member.near);
        let near: Vec<(PeerKey, _)> = near.map(|(&peer, member)| (peer, member.id)).collect();
        let errands = Arc::new(Errands::new(self.config.our_id, near.iter().map(|&(_, id)| id)));
        for shard in (0..self.config.shards).map(ShardId) {
            let near = near.iter().map(|&(peer, _)| peer).filter(|peer| peer.shard == shard).collect();
            self.act(super::CoreAction::Send(
                shard,
                CoreToShard::Rack { near, errands: Arc::clone(&errands) },
            ));
        }
    }
}
