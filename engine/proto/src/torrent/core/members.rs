//! The connected peers of a torrent, all shards together: who may stay.

use std::net::SocketAddr;

use super::super::PeerKey;
use super::super::message::{PartReason, PeerRates, PeerUp};
use super::TorrentCore;
use crate::id::PeerId;
use crate::time::Instant;

/// Two connections between the same two peers that come up this close together are one crossing another, and both
/// sides must drop the same one.
const CROSSING: crate::time::Duration = crate::time::Duration::from_secs(5);

/// A connected peer.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) addr: SocketAddr,
    pub(super) id: PeerId,
    pub(super) outgoing: bool,
    /// It stands in our rack.
    pub(super) near: bool,
    /// Its shard was told to part with it.
    pub(super) parting: bool,
    pub(super) connected_at: Instant,
    pub(super) interested: bool,
    pub(super) unchoked: bool,
    /// It has its slot by chance.
    pub(super) optimistic: bool,
    /// When it got its slot last.
    pub(super) unchoked_at: Instant,
    pub(super) snubbed: bool,
    /// It takes what is suggested to it, or nothing is.
    pub(super) heeds: bool,
    /// It keeps what is new for itself.
    pub(super) keeps: bool,
    /// What it gave and took up to the last two rounds, the older first.
    pub(super) downloaded: [u64; 2],
    pub(super) uploaded: [u64; 2],
    /// Bytes in the round before last and the last.
    pub(super) recent_down: [u64; 2],
    pub(super) recent_up: [u64; 2],
    /// What it had given, taken and passed on at the last review.
    pub(super) reviewed: [u64; 3],
    /// What it gave and took between the last two.
    pub(super) given: u64,
    pub(super) taken: u64,
    /// What it passed on, fading: half is forgotten in a round.
    pub(super) spread: u64,
    pub(super) misbehaved: bool,
    /// Where it listens, as far as it said: not dialled while it is connected.
    pub(super) listens_on: Option<SocketAddr>,
}

impl Member {
    /// It has a slot and makes use of it.
    pub(super) const fn is_served(&self) -> bool {
        self.unchoked && self.interested
    }
}

/// How many members there are of each kind, so that nobody has to count them for each that joins or changes its mind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) unchoked: usize,
    pub(super) interested: usize,
    /// Both.
    pub(super) served: usize,
}

impl Tally {
    pub(super) fn add(&mut self, member: &Member) {
        self.unchoked += usize::from(member.unchoked);
        self.interested += usize::from(member.interested);
        self.served += usize::from(member.is_served());
    }

    pub(super) fn subtract(&mut self, member: &Member) {
        self.unchoked -= usize::from(member.unchoked);
        self.interested -= usize::from(member.interested);
        self.served -= usize::from(member.is_served());
    }
}

impl TorrentCore {
    pub(super) fn on_peer_up(&mut self, now: Instant, up: PeerUp) {
        let PeerUp { peer, addr, id, outgoing } = up;
        if outgoing {
            self.dial_ended(addr);
        }
        self.load[usize::from(peer.shard.0)] += 1;
        if self.members.is_empty() && self.rounds.next_at() < now {
            self.rounds.restart(now);
        }
        let refused = self.reason_to_refuse(now, &up);
        let member = Member {
            addr,
            id,
            outgoing,
            near: self.config.policy.lan.is_some() && self.is_near(addr),
            parting: false,
            connected_at: now,
            interested: false,
            unchoked: false,
            optimistic: false,
            unchoked_at: now,
            snubbed: false,
            heeds: false,
            keeps: false,
            downloaded: [0; 2],
            uploaded: [0; 2],
            recent_down: [0; 2],
            recent_up: [0; 2],
            reviewed: [0; 3],
            given: 0,
            taken: 0,
            spread: 0,
            misbehaved: false,
            listens_on: None,
        };
        let near = member.near;
        self.members.insert(peer, member);
        *self.ids.entry(id).or_default() += 1;
        if let Some((reason, parted)) = refused {
            self.part(parted, reason);
        }
        let stays = refused.is_none_or(|(_, parted)| parted != peer);
        let replaced = refused.and_then(|(_, parted)| self.members.get(&parted));
        if stays && (near || replaced.is_some_and(|replaced| replaced.near)) {
            self.rack_changed(now);
        }
    }

    /// Why one connection cannot stay, and which: the new one, or an older one that it crosses.
    fn reason_to_refuse(&mut self, now: Instant, up: &PeerUp) -> Option<(PartReason, PeerKey)> {
        if up.id == self.config.our_id {
            if up.outgoing {
                self.list.is_ourselves(up.addr);
            }
            return Some((PartReason::OurselvesDialled, up.peer));
        }
        if self.leaving {
            return Some((PartReason::Leaving, up.peer));
        }
        if self.list.is_banned(up.addr.ip()) {
            return Some((PartReason::Banned, up.peer));
        }
        if self.ids.contains_key(&up.id)
            && let Some((&older, member)) = self.members.iter().find(|(_, member)| member.id == up.id)
        {
            return Some((PartReason::Duplicate, self.redundant(now, up, older, member)));
        }
        let near = self.config.policy.lan.is_some() && self.is_near(up.addr);
        if self.members.len() < self.config.max_peers || near && self.staying() < self.config.max_peers {
            return None;
        }
        Some((PartReason::TooMany, self.gives_way_to(near).unwrap_or(up.peer)))
    }

    /// How many peers there are that need not go.
    fn staying(&self) -> usize {
        self.members.values().filter(|member| !member.parting).count()
    }

    /// Of two connections to the same peer, the one to part with. Where they crossed, both sides keep the one
    /// that the larger id dialled; else the newer one goes.
    fn redundant(&self, now: Instant, up: &PeerUp, older: PeerKey, member: &Member) -> PeerKey {
        let crossed = member.outgoing != up.outgoing && now.since(member.connected_at) < CROSSING;
        let keep_outgoing = self.config.our_id > up.id;
        if crossed && up.outgoing == keep_outgoing { older } else { up.peer }
    }

    pub(super) fn on_peer_down(&mut self, now: Instant, rates: PeerRates) {
        let Some(member) = self.members.remove(&rates.peer) else { return };
        self.load[usize::from(rates.peer.shard.0)] -= 1;
        self.tally.subtract(&member);
        let twin = self.forget_id(member.id);
        let useful = rates.downloaded + rates.uploaded > 0 && !member.misbehaved;
        let dialled = member.outgoing.then_some(member.addr);
        let addr = dialled.or(member.listens_on);
        // A second connection to the same peer keeps its address from being dialled.
        let others = twin.then(|| self.members.values_mut()).into_iter().flatten();
        let other = { others }.find(|other| other.id == member.id);
        match (addr, other) {
            // Two seeds have nothing to say to each other.
            (Some(addr), None) if self.completed && rates.is_seed => self.list.rest(now, addr),
            (Some(addr), None) => self.list.disconnected(now, addr, useful, &mut self.config.rng),
            (Some(addr), Some(other)) if !other.outgoing => {
                other.listens_on = other.listens_on.or(Some(addr))
            }
            _ => {}
        }
        if member.unchoked {
            self.fill_slots(now);
        }
        if member.near && !member.parting {
            self.rack_changed(now);
        }
    }

    /// One connection fewer to the peer of that id; whether there is another.
    fn forget_id(&mut self, id: PeerId) -> bool {
        let left = self.ids.get_mut(&id).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            self.ids.remove(&id);
        }
        left > 0
    }

    pub(super) fn note_misbehaviour(&mut self, peer: PeerKey) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.misbehaved = true;
        }
    }

    /// A peer that came to us can be dialled once it is gone, and not while it is here: that would only make a
    /// second connection to drop.
    pub(super) fn on_listens_on(&mut self, now: Instant, peer: PeerKey, addr: SocketAddr) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let dialled = member.outgoing && member.addr == addr;
        if dialled || member.listens_on.is_some() || self.dialling.contains_key(&addr) {
            return;
        }
        member.listens_on = Some(addr);
        let near = self.is_near(addr);
        self.list.add_at(now, addr, near, crate::peer_list::PeerSource::Itself, &mut self.config.rng);
        self.list.engage(addr);
    }

    /// A slot that is free is given at once, not at the next round.
    pub(super) fn on_interest(&mut self, now: Instant, peer: PeerKey, interested: bool) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        self.tally.subtract(member);
        member.interested = interested;
        self.tally.add(member);
        self.rounds.wake(now);
        self.fill_slots(now);
    }
}
