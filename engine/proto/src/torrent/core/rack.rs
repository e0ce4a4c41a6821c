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
use super::members::Member;
use crate::limits::HALF_OPEN;
use crate::peer_list::Whom;
use crate::time::{Duration, Instant};

/// Beside those of our rack, so many in a hundred of the peers that a torrent may have are dialled in others.
const FAR_PERCENT: usize = 15;

/// Where there are few in our rack, others are dialled until there are so many in all.
const FEW: usize = 30;

/// Shards are told of comings and goings in our rack so often at most: each time they look at all pieces.
const SHARE_EVERY: Duration = Duration::from_millis(200);

/// When the shards hear what they have to bring in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sharing {
    /// When they are told of what changed; none where nothing did.
    at: Option<Instant>,
    /// When they were told last.
    told_at: Option<Instant>,
}

impl Sharing {
    /// When it is due.
    pub(super) const fn at(self) -> Option<Instant> {
        self.at
    }

    fn change(&mut self, now: Instant) {
        let next = self.told_at.map_or(now, |told| told + SHARE_EVERY);
        self.at.get_or_insert(now.max(next));
    }
}

impl TorrentCore {
    /// An address of ours: whose subnet it is of stands in our rack.
    pub(super) fn on_own_addr(&mut self, now: Instant, addr: IpAddr) {
        if self.config.policy.lan.is_none() || self.own_addrs.contains(&addr) {
            return;
        }
        self.own_addrs.push(addr);
        self.list.spare_subnet_of(addr);
        let (lan, own) = (self.config.policy.lan, self.own_addrs.clone());
        let is_near =
            |addr: SocketAddr| lan.is_some_and(|lan| own.iter().any(|&own| lan.is_near(own, addr.ip())));
        self.members.values_mut().for_each(|member| member.near = is_near(member.addr));
        self.list.sort_out(is_near);
        self.sharing.change(now);
    }

    /// Whether the address is of our rack; all are where racks make no difference.
    pub(super) fn is_near(&self, addr: SocketAddr) -> bool {
        self.config.policy.lan.is_none_or(|lan| self.own_addrs.iter().any(|&own| lan.is_near(own, addr.ip())))
    }

    /// Whom to dial next, if anybody: neighbours, and so many others that what is not in the rack comes here; some of all
    /// places are theirs where there are neighbours for more. A neighbour takes the place of one of more others than that.
    pub(super) fn whom_to_dial(&self) -> Option<Whom> {
        let engaged = self.members.len() + self.dialling.len();
        if self.leaving || self.dialling.len() >= HALF_OPEN {
            return None;
        }
        let has_room = engaged < self.config.max_peers;
        if self.config.policy.lan.is_none() {
            return has_room.then_some(Whom::NearFirst);
        }
        let near_members = self.members.values().filter(|member| member.near).count();
        let near = near_members + self.dialling.keys().filter(|&&addr| self.is_near(addr)).count();
        let share = self.far_share();
        if !has_room {
            // As many are dialled at most as there are places to make.
            return (engaged - near > share && engaged < self.config.max_peers + share).then_some(Whom::Near);
        }
        Some(if engaged - near >= share.max(FEW.saturating_sub(near_members)) {
            Whom::Near
        } else if near + share >= self.config.max_peers {
            Whom::FarFirst
        } else {
            Whom::NearFirst
        })
    }

    /// How many places are for those of other racks, however many neighbours there are.
    fn far_share(&self) -> usize {
        (self.config.max_peers * FAR_PERCENT / 100).max(1)
    }

    /// There is no place left: whoever of other racks goes for a neighbour, if more of them are here than their share. It is
    /// the one that gave and took the least.
    pub(super) fn gives_way_to(&self, near: bool) -> Option<PeerKey> {
        let far = || self.members.iter().filter(|(_, member)| !member.near && !member.parting);
        let moved = |member: &Member| member.recent_down.iter().chain(&member.recent_up).sum::<u64>();
        if !near || far().count() <= self.far_share() {
            return None;
        }
        far()
            .min_by_key(|(_, member)| (moved(member), std::cmp::Reverse(member.connected_at)))
            .map(|(&key, _)| key)
    }

    /// Somebody of our rack came or went: the shards hear of it, soon.
    pub(super) fn rack_changed(&mut self, now: Instant) {
        self.sharing.change(now);
    }

    /// Every shard hears what it has to bring in, if who is of our rack changed.
    pub(super) fn share_out(&mut self, now: Instant) {
        if self.sharing.at.is_none_or(|at| at > now) {
            return;
        }
        self.sharing = Sharing { at: None, told_at: Some(now) };
        let near = self.members.iter().filter(|(_, member)| member.near && !member.parting);
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
