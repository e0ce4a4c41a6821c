//! The choke rounds: every ten seconds the slots are given out anew, and every second it is looked at what those who
//! have one take. Both begin with asking the shards what each peer gave and took. Who gets a slot is the
//! [`Choker`](crate::choker::Choker)'s to say, how many there are [`SlotCount`](super::slots::SlotCount)'s.

use super::super::message::{CoreToShard, PeerRates};
use super::super::{PeerKey, Rule, Seeding, ShardId};
use super::members::{Member, Tally};
use super::slots::LEAST;
use super::{CoreAction, TorrentCore};
use crate::choker::{Candidate, Choker};
use crate::limits::{
    BLOCK_LEN, CHOKE_INTERVAL, NEWCOMER_FOR, OPTIMISTIC_FOR, RATE_REPORT_TIMEOUT, REVIEW_INTERVAL, keep,
};
use crate::time::{Duration, Instant};

/// How long a peer has its slot before it is looked at what it takes: a request has to come, and TCP to get going.
const GRACE: Duration = Duration::from_millis(2_500);

/// What a peer passed on is forgotten by one in so many parts at each review.
const SPREAD_FADES: u64 = 16;

/// A slot by chance goes to another where its peer takes less than one in so many parts of what slots carry that carry
/// anything.
const IDLE_SHARE: u64 = 4;

/// While there is something to spread, there are so many slots for each peer that heeds what is suggested to it: from the
/// first few to all there are in two reviews.
const ASSURED_EACH: usize = 4;

/// How late a check may find what falls due: a timer rings when its thread is free.
const SLACK: Duration = Duration::from_millis(5);

/// Where the round stands.
#[derive(Debug)]
pub(super) struct Rounds {
    /// Of the reports that were asked for last.
    number: u64,
    /// When the next review begins, or the one under way is decided without the missing reports.
    next_at: Instant,
    /// The first review from then on is a round.
    round_at: Instant,
    /// When what peers gave and took was asked for last.
    reviewed_at: Instant,
    /// Shards whose reports are missing; none between reviews.
    missing: Vec<ShardId>,
}

impl Rounds {
    pub(super) fn new(now: Instant) -> Self {
        let round_at = now + CHOKE_INTERVAL;
        Self { number: 0, next_at: round_at, round_at, reviewed_at: now, missing: Vec::new() }
    }

    pub(super) const fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Somebody came where nobody was, and no round went on: the first begins after the usual time.
    pub(super) fn restart(&mut self, now: Instant) {
        self.round_at = self.round_at.max(now + CHOKE_INTERVAL);
        self.next_at = self.round_at;
    }

    /// Somebody wants something, and has a slot or waits for one: there is something to review.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.missing.is_empty() && self.next_at > now + REVIEW_INTERVAL {
            (self.reviewed_at, self.next_at) = (now, now + REVIEW_INTERVAL);
        }
    }
}

impl Rounds {
    /// Panics with the name of a bound that is not kept.
    pub(super) fn check_bounds(&self, now: Instant) {
        keep("CHOKE_INTERVAL", self.next_at.max(self.round_at), now + CHOKE_INTERVAL);
        if self.missing.is_empty() {
            keep("CHOKE_INTERVAL, overdue", now.since(self.next_at), SLACK);
        } else {
            keep("RATE_REPORT_TIMEOUT", self.next_at, now + RATE_REPORT_TIMEOUT);
            keep("RATE_REPORT_TIMEOUT, overdue", now.since(self.next_at), SLACK);
        }
        // A review that is decided just before goes first, and then the reports are waited for.
        let review = REVIEW_INTERVAL + RATE_REPORT_TIMEOUT;
        keep("CHOKE_INTERVAL of a round", now.since(self.round_at), review + 2 * SLACK);
    }
}

impl TorrentCore {
    pub(super) fn advance_round(&mut self, now: Instant) {
        if now < self.rounds.next_at || self.members.is_empty() {
            return;
        }
        if self.rounds.missing.is_empty() {
            self.begin_review(now);
        } else {
            self.decide(now);
        }
    }

    fn begin_review(&mut self, now: Instant) {
        self.rounds.number += 1;
        self.rounds.missing = (0..self.config.shards).map(ShardId).collect();
        self.rounds.next_at = now + RATE_REPORT_TIMEOUT;
        self.tell_shards(&CoreToShard::ReportRates(self.rounds.number));
    }

    pub(super) fn on_rates(&mut self, now: Instant, from: ShardId, review: u64, rates: Vec<PeerRates>) {
        if review != self.rounds.number || !self.rounds.missing.contains(&from) {
            return;
        }
        for report in rates {
            self.note_rates(now, report);
        }
        self.rounds.missing.retain(|&shard| shard != from);
        if self.rounds.missing.is_empty() {
            self.decide(now);
        }
    }

    fn note_rates(&mut self, now: Instant, report: PeerRates) {
        let round = self.is_round(now);
        let Some(member) = self.members.get_mut(&report.peer) else { return };
        let PeerRates { downloaded, uploaded, passed_on, .. } = report;
        (member.given, member.taken) = (downloaded - member.reviewed[0], uploaded - member.reviewed[1]);
        let spread = passed_on - member.reviewed[2];
        member.spread = member.spread - member.spread.div_ceil(SPREAD_FADES) + spread;
        member.reviewed = [downloaded, uploaded, passed_on];
        member.given += spread;
        (member.snubbed, member.heeds, member.keeps) = (report.snubbed, report.heeds, report.keeps);
        // Whoever keeps what is new has a slot by chance only.
        member.optimistic |= report.keeps && member.unchoked;
        if round {
            member.recent_down = [member.recent_down[1], report.downloaded - member.downloaded[1]];
            member.recent_up = [member.recent_up[1], report.uploaded - member.uploaded[1]];
            member.downloaded = [member.downloaded[1], report.downloaded];
            member.uploaded = [member.uploaded[1], report.uploaded];
        }
    }

    fn is_round(&self, now: Instant) -> bool {
        now >= self.rounds.round_at
    }

    fn decide(&mut self, now: Instant) {
        self.rounds.missing.clear();
        let elapsed = now.since(self.rounds.reviewed_at).max(Duration::from_millis(1));
        if self.completed {
            self.pardon();
        }
        self.count_slots(elapsed);
        let round = self.is_round(now);
        if round {
            self.rounds.round_at = now + CHOKE_INTERVAL;
            self.decide_round(now);
        } else {
            self.take_idle_slots(now);
        }
        self.rounds.reviewed_at = now;
        let wanted = self.tally.interested > 0;
        self.rounds.next_at = if wanted { now + REVIEW_INTERVAL } else { self.rounds.round_at };
    }

    /// Where only those are left who keep what is new, there is nobody that slots could be held back for.
    fn pardon(&mut self) {
        if !self.members.values().any(|member| member.interested && !member.keeps) {
            self.members.values_mut().for_each(|member| (member.keeps, member.heeds) = (false, true));
        }
    }

    fn count_slots(&mut self, elapsed: Duration) {
        let taken: u64 = self.members.values().map(|member| member.taken).sum();
        let rate = u128::from(taken) * 1_000_000_000 / elapsed.as_nanos().max(1);
        let wanted =
            self.tally.served >= self.choker.slot_count() && self.tally.interested > self.tally.served;
        self.slots.review(u64::try_from(rate).unwrap_or(u64::MAX), wanted);
        let assured = if self.completed { self.assured() } else { LEAST };
        let slots = if self.follows(Rule::MoreSlots) { self.slots.count() } else { LEAST };
        self.choker = Choker::with_slots(slots, assured.min(slots));
    }

    /// A seed has nothing to gain: all its slots are given to whoever wants them and does not keep what is new. While it has
    /// something to spread, they grow with those who heed what it suggests: the others ask it for what it gave already.
    fn assured(&self) -> usize {
        let count = |which: fn(&Member) -> bool| {
            let interested = self.members.values().filter(|member| member.interested && !member.keeps);
            interested.filter(|member| which(member)).count()
        };
        let heeding = count(|member| member.heeds) * ASSURED_EACH;
        count(|_| true).min(heeding).clamp(LEAST, self.slots.count())
    }

    fn decide_round(&mut self, now: Instant) {
        let candidates = self.candidates(now);
        let turn = self.turn();
        let stays = |member: &Member| member.optimistic && now.since(member.unchoked_at) < turn;
        let kept = self.keys(stays);
        let slots = self.choker.decide(&candidates, &kept, &mut self.config.rng);
        let unchoked: Vec<PeerKey> = slots.all().collect();
        self.apply(now, &unchoked, &slots.optimistic);
    }

    /// How long a peer has its slot by chance. The more slots there are, the faster the line, and the sooner it shows whether
    /// somebody gives something in return; those who never do are not to take the turns of those who fell behind.
    fn turn(&self) -> Duration {
        OPTIMISTIC_FOR * LEAST as u32 / self.slots.count() as u32
    }

    /// Whether we are the seed of a swarm in which peers get new pieces of each other.
    fn is_spreading(&self) -> bool {
        self.completed && self.members.values().any(|member| member.spread > 0)
    }

    /// By what they gave us in the last twenty seconds; once we have everything, by what they took (BEP 3), or by what
    /// they passed on to others while they do: else the first copies of pieces went to those who keep them.
    fn candidates(&self, now: Instant) -> Vec<Candidate> {
        let spreading = self.is_spreading();
        let in_turn = self.completed && self.config.policy.seeding == Seeding::RoundRobin;
        let rate = |member: &Member| {
            if in_turn || !self.completed && !self.follows(Rule::TitForTat) {
                return turn(now, member);
            }
            if spreading {
                return member.spread;
            }
            let recent = if self.completed { member.recent_up } else { member.recent_down };
            recent.iter().sum()
        };
        let candidate = |(&peer, member): (&PeerKey, &Member)| Candidate {
            peer,
            interested: member.interested,
            snubbed: if self.completed { member.keeps } else { self.is_snubbed(member) },
            keeps: self.completed && member.keeps,
            newcomer: now.since(member.connected_at) < NEWCOMER_FOR && self.follows(Rule::Newcomers),
            rate: rate(member),
        };
        self.members.iter().map(candidate).collect()
    }

    /// Slots by chance whose peers take next to nothing go to others that wait, a few at a time; so do those that were
    /// given while fewer peers by rate wanted something.
    fn take_idle_slots(&mut self, now: Instant) {
        if !self.follows(Rule::FreeSlots) {
            return;
        }
        self.promote();
        let mut dropped = self.idle_by_chance(now);
        let surplus = self.surplus_by_chance();
        dropped.retain(|peer| !surplus.contains(peer));
        dropped.extend(surplus);
        if dropped.is_empty() {
            return self.fill_slots(now);
        }
        let mut stay = self.keys(|member| member.unchoked);
        stay.retain(|peer| !dropped.contains(peer));
        self.give_slots(now, &stay, &dropped);
    }

    /// Who got its slot by chance and gave something since has earned it.
    fn promote(&mut self) {
        let by_chance = self.keys(|member| member.unchoked && member.optimistic);
        let by_rate = self.members.values().filter(|member| member.is_served() && !member.optimistic).count();
        let mut earners = self.earners(&by_chance);
        earners.truncate(self.choker.rate_slots.saturating_sub(by_rate));
        for peer in earners {
            if let Some(member) = self.members.get_mut(&peer) {
                member.optimistic = false;
            }
        }
    }

    fn idle_by_chance(&self, now: Instant) -> Vec<PeerKey> {
        let Tally { served, interested, .. } = self.tally;
        let least = self.usual_take() / IDLE_SHARE;
        let old = |member: &Member| now.since(member.unchoked_at) >= GRACE;
        let idle = |member: &Member| member.optimistic && old(member) && member.taken < least;
        let mut idle = self.keys(|member| member.is_served() && idle(member));
        idle.truncate((interested - served).min(served.div_ceil(4)));
        idle
    }

    /// What the one in the middle takes of those who take anything, and a block at least: one that is far faster makes no
    /// idlers of all others, nor do many that take next to nothing pass for the usual. Not more than what they take on average.
    fn usual_take(&self) -> u64 {
        let served = self.members.values().filter(|member| member.is_served());
        let mut taken: Vec<u64> = served.map(|member| member.taken).filter(|&taken| taken > 0).collect();
        if taken.is_empty() {
            return 0;
        }
        let average = taken.iter().sum::<u64>() / taken.len() as u64;
        let middle = (taken.len() - 1) / 2;
        average.min((*taken.select_nth_unstable(middle).1).max(u64::from(BLOCK_LEN)))
    }

    /// Those that had their slot for the longest.
    fn surplus_by_chance(&self) -> Vec<PeerKey> {
        let mut by_chance = self.keys(|member| member.is_served() && member.optimistic);
        let room = self.choker.room_for_chance(self.tally.served - by_chance.len());
        let key = |member: &Member| (!member.keeps, member.unchoked_at);
        by_chance.sort_by_key(|peer| (self.members.get(peer).map(key), *peer));
        by_chance.truncate(by_chance.len().saturating_sub(room));
        by_chance
    }

    fn apply(&mut self, now: Instant, unchoked: &[PeerKey], optimistic: &[PeerKey]) {
        let mut changes: Vec<(Vec<PeerKey>, Vec<PeerKey>)> =
            vec![Default::default(); usize::from(self.config.shards)];
        let mut tally = Tally::default();
        for (&peer, member) in &mut self.members {
            let (to_unchoke, to_choke) = &mut changes[usize::from(peer.shard.0)];
            let slot = unchoked.contains(&peer);
            member.optimistic = optimistic.contains(&peer);
            if std::mem::replace(&mut member.unchoked, slot) != slot {
                if slot {
                    to_unchoke.push(peer)
                } else {
                    to_choke.push(peer)
                }
                member.unchoked_at = now;
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
    pub(super) fn fill_slots(&mut self, now: Instant) {
        let Tally { served, interested, .. } = self.tally;
        let idle = served == interested && served <= self.choker.slot_count();
        if self.leaving || served == self.choker.slot_count() || idle || !self.follows(Rule::FreeSlots) {
            return;
        }
        let stay = self.keys(|member| member.unchoked);
        self.give_slots(now, &stay, &[]);
    }

    /// Those who `stay` keep their slots as far as there are enough, those by chance last. Others get what is left, those
    /// who gave something lately first and then whoever wants it, but none of the `dropped`.
    fn give_slots(&mut self, now: Instant, stay: &[PeerKey], dropped: &[PeerKey]) {
        let is = |peer: &PeerKey, what: fn(&Member) -> bool| self.members.get(peer).is_some_and(what);
        let by_chance = |peer: &PeerKey| is(peer, |member| member.optimistic);
        let (mut served, idle): (Vec<PeerKey>, Vec<PeerKey>) =
            stay.iter().partition(|peer| is(peer, |member| member.interested));
        served.sort_by_key(|peer| (by_chance(peer), *peer));
        served.truncate(self.choker.slot_count());
        let chance = served.iter().filter(|peer| by_chance(peer)).count();
        let mut optimistic: Vec<PeerKey> = served.iter().chain(&idle).copied().filter(by_chance).collect();

        let mut waiting = self.keys(|member| member.interested);
        waiting.retain(|peer| !stay.contains(peer) && !dropped.contains(peer));
        let room = self.choker.slot_count() - served.len();
        let mut earned = self.earners(&waiting);
        earned.truncate(room);
        waiting.retain(|peer| !earned.contains(peer));
        self.config.rng.shuffle(&mut waiting);
        waiting.sort_by_key(|peer| is(peer, |member| member.keeps));
        let by_rate = served.len() - chance + earned.len();
        let left = self.choker.room_for_chance(by_rate).saturating_sub(chance);
        waiting.truncate(left.min(room - earned.len()));
        optimistic.extend(&waiting);
        let unchoked: Vec<PeerKey> = served.into_iter().chain(idle).chain(earned).chain(waiting).collect();
        self.apply(now, &unchoked, &optimistic);
    }

    fn is_snubbed(&self, member: &Member) -> bool {
        member.snubbed && self.follows(Rule::AntiSnubbing)
    }

    /// Those who gave something lately, the most first: they need not wait for the next round.
    fn earners(&self, of: &[PeerKey]) -> Vec<PeerKey> {
        let earns = |member: &Member| {
            if self.is_snubbed(member) || member.keeps { 0 } else { member.given }
        };
        let given = |peer: &PeerKey| self.members.get(peer).map_or(0, earns);
        let mut earners: Vec<PeerKey> = of.iter().copied().filter(|peer| given(peer) > 0).collect();
        earners.sort_by_key(|peer| (std::cmp::Reverse(given(peer)), *peer));
        earners
    }

    fn keys(&self, which: impl Fn(&Member) -> bool) -> Vec<PeerKey> {
        self.members.iter().filter(|(_, member)| which(member)).map(|(&peer, _)| peer).collect()
    }
}

/// Round robin: a slot is kept for a while, and then goes to whoever waited longest.
fn turn(now: Instant, member: &Member) -> u64 {
    let since = now.since(member.unchoked_at);
    match member.unchoked {
        true if since < OPTIMISTIC_FOR => u64::MAX,
        true => 1,
        false => 2 + since.as_millis() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "CHOKE_INTERVAL: ")]
    fn a_round_too_late() {
        Rounds::new(Instant::ZERO + Duration::from_secs(1)).check_bounds(Instant::ZERO);
    }

    #[test]
    #[should_panic(expected = "CHOKE_INTERVAL, overdue: ")]
    fn a_review_that_does_not_begin() {
        let rounds = Rounds::new(Instant::ZERO);
        rounds.check_bounds(rounds.next_at + SLACK);
        rounds.check_bounds(rounds.next_at + SLACK + Duration::from_millis(1));
    }

    #[test]
    #[should_panic(expected = "RATE_REPORT_TIMEOUT, overdue: ")]
    fn a_review_that_does_not_end() {
        let rounds = Rounds { missing: vec![ShardId(0)], ..Rounds::new(Instant::ZERO) };
        rounds.check_bounds(rounds.next_at + SLACK + Duration::from_millis(1));
    }

    #[test]
    #[should_panic(expected = "CHOKE_INTERVAL of a round: ")]
    fn reviews_without_a_round() {
        let now = Instant::ZERO + 2 * CHOKE_INTERVAL;
        Rounds { next_at: now, ..Rounds::new(Instant::ZERO) }.check_bounds(now);
    }

    #[test]
    #[should_panic(expected = "RATE_REPORT_TIMEOUT: ")]
    fn reports_waited_for_too_long() {
        let rounds = Rounds { missing: vec![ShardId(0)], ..Rounds::new(Instant::ZERO) };
        rounds.check_bounds(Instant::ZERO);
    }
}
