//! The choke rounds: every ten seconds the shards are asked what each peer gave and took, and the slots are given
//! out anew. Who gets one is the [`Choker`](crate::choker::Choker)'s to say.

use super::super::message::{CoreToShard, PeerRates};
use super::super::{PeerKey, ShardId};
use super::members::Tally;
use super::{CoreAction, TorrentCore};
use crate::choker::Candidate;
use crate::limits::{CHOKE_INTERVAL, NEWCOMER_FOR, OPTIMISTIC_ROUNDS, RATE_REPORT_TIMEOUT};
use crate::time::Instant;

/// Where the round stands.
#[derive(Debug)]
pub(super) struct Rounds {
    number: u64,
    /// When the next round begins, or the one under way is decided without the missing reports.
    next_at: Instant,
    /// Shards whose reports are missing; none between rounds.
    missing: Vec<ShardId>,
}

impl Rounds {
    pub(super) fn new(now: Instant) -> Self {
        Self { number: 0, next_at: now + CHOKE_INTERVAL, missing: Vec::new() }
    }

    pub(super) const fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Somebody came where nobody was, and no round went on: the first begins after the usual time.
    pub(super) fn restart(&mut self, now: Instant) {
        self.next_at = self.next_at.max(now + CHOKE_INTERVAL);
    }
}

impl TorrentCore {
    pub(super) fn advance_round(&mut self, now: Instant) {
        if now < self.rounds.next_at || self.members.is_empty() {
            return;
        }
        if self.rounds.missing.is_empty() {
            self.begin_round(now);
        } else {
            self.decide_round(now);
        }
    }

    fn begin_round(&mut self, now: Instant) {
        self.rounds.number += 1;
        self.rounds.missing = (0..self.config.shards).map(ShardId).collect();
        self.rounds.next_at = now + RATE_REPORT_TIMEOUT;
        self.tell_shards(&CoreToShard::ReportRates(self.rounds.number));
    }

    pub(super) fn on_rates(&mut self, now: Instant, from: ShardId, round: u64, rates: Vec<PeerRates>) {
        if round != self.rounds.number || !self.rounds.missing.contains(&from) {
            return;
        }
        for report in rates {
            self.note_rates(report);
        }
        self.rounds.missing.retain(|&shard| shard != from);
        if self.rounds.missing.is_empty() {
            self.decide_round(now);
        }
    }

    fn note_rates(&mut self, report: PeerRates) {
        let Some(member) = self.members.get_mut(&report.peer) else { return };
        member.recent_down = [member.recent_down[1], report.downloaded - member.downloaded[1]];
        member.recent_up = [member.recent_up[1], report.uploaded - member.uploaded[1]];
        member.downloaded = [member.downloaded[1], report.downloaded];
        member.uploaded = [member.uploaded[1], report.uploaded];
        member.snubbed = report.snubbed;
    }

    fn decide_round(&mut self, now: Instant) {
        self.rounds.missing.clear();
        self.rounds.next_at = now + CHOKE_INTERVAL;
        let candidates = self.candidates(now);
        let rotate = self.rounds.number.is_multiple_of(u64::from(OPTIMISTIC_ROUNDS));
        let optimistic = self.members.iter().filter(|(_, member)| member.optimistic && !rotate);
        let kept: Vec<PeerKey> = optimistic.map(|(&peer, _)| peer).collect();
        let slots = self.choker.decide(&candidates, &kept, &mut self.config.rng);
        let unchoked: Vec<PeerKey> = slots.all().collect();
        self.apply(&unchoked, &slots.optimistic);
    }

    /// By what they gave us in the last twenty seconds; once we have everything, by what they took (BEP 3).
    fn candidates(&self, now: Instant) -> Vec<Candidate> {
        let rate = |member: &super::Member| {
            let recent = if self.completed { member.recent_up } else { member.recent_down };
            recent.iter().sum()
        };
        let candidate = |(&peer, member): (&PeerKey, &super::Member)| Candidate {
            peer,
            interested: member.interested,
            snubbed: member.snubbed && !self.completed,
            newcomer: now.since(member.connected_at) < NEWCOMER_FOR,
            rate: rate(member),
        };
        self.members.iter().map(candidate).collect()
    }

    fn apply(&mut self, unchoked: &[PeerKey], optimistic: &[PeerKey]) {
        let mut changes: Vec<(Vec<PeerKey>, Vec<PeerKey>)> =
            vec![Default::default(); usize::from(self.config.shards)];
        let mut tally = Tally::default();
        for (&peer, member) in &mut self.members {
            let (to_unchoke, to_choke) = &mut changes[usize::from(peer.shard.0)];
            let slot = unchoked.contains(&peer);
            member.optimistic = optimistic.contains(&peer);
            if std::mem::replace(&mut member.unchoked, slot) != slot {
                if slot { to_unchoke.push(peer) } else { to_choke.push(peer) }
            }
            tally.add(member);
        }
        self.tally = tally;
        for (shard, (unchoke, choke)) in changes.into_iter().enumerate() {
            if !unchoke.is_empty() || !choke.is_empty() {
                self.act(CoreAction::Send(ShardId(shard as u8), CoreToShard::Slots { unchoke, choke }));
            }
        }
    }

    /// Gives free slots to interested peers by chance, and takes back what is one too many.
    pub(super) fn fill_slots(&mut self) {
        let Tally { served, interested, .. } = self.tally;
        let idle = served == interested && served <= self.choker.slot_count();
        if self.leaving || served == self.choker.slot_count() || idle {
            return;
        }
        let served: Vec<PeerKey> = self.keys(|member| member.unchoked && member.interested);
        let mut waiting: Vec<PeerKey> = self.keys(|member| !member.unchoked && member.interested);
        self.config.rng.shuffle(&mut waiting);
        let room = self.choker.slot_count().saturating_sub(served.len());
        let extra = served.len().saturating_sub(self.choker.slot_count());
        waiting.truncate(room);
        let choke = &served[served.len() - extra..];
        if !waiting.is_empty() || extra > 0 {
            let idle = self.keys(|member| member.unchoked && !member.interested);
            let stays = served.iter().copied().filter(|peer| !choke.contains(peer));
            let unchoked: Vec<PeerKey> = stays.chain(idle).chain(waiting.iter().copied()).collect();
            let optimistic: Vec<PeerKey> = self.keys(|member| member.optimistic);
            self.apply(&unchoked, &optimistic);
        }
    }

    fn keys(&self, which: impl Fn(&super::Member) -> bool) -> Vec<PeerKey> {
        self.members.iter().filter(|(_, member)| which(member)).map(|(&peer, _)| peer).collect()
    }
}
