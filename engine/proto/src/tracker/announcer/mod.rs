//! When to announce what to which tracker: the tiers of BEP 12, the events of BEP 3, intervals and back-off.
//! Speaks to nobody: it asks for announces and is told how they went. Peers that come back never pass through.

mod tiers;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::tiers::{Tiers, TrackerIndex};
use super::{AnnounceEvent, AnnounceRequest, AnnounceResponse, Retry};
use crate::id::{InfoHash, PeerId};
use crate::limits::PEERS_PER_TORRENT;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// How long a tracker may take. Overloaded ones answer after ten seconds and more.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long leaving may take: a person waits for it, and a tracker that misses it forgets us by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Names one announce, so that a late answer is not taken for that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnounceId(u64);

/// What the announcer is told.
#[derive(Clone, Copy, Debug)]
pub enum AnnouncerInput<'a> {
    /// The torrent runs: announce it.
    Start,
    /// The last piece that is wanted has come in. Not for a torrent that was complete when it started.
    Completed,
    /// More peers would be welcome: announce sooner than planned, as far as the tracker's minimum allows.
    WantPeers,
    /// A tracker has answered.
    Answered {
        /// Which announce.
        id: AnnounceId,
        /// With what.
        response: &'a AnnounceResponse,
    },
    /// An announce has come to nothing: no connection, no sensible answer, or a refusal.
    Failed {
        /// Which announce.
        id: AnnounceId,
        /// [`TrackerError::retry`](super::TrackerError::retry), where the tracker could say it.
        retry: Option<Retry>,
    },
    /// The torrent stops: take leave of the trackers.
    Stop,
}

/// What the announcer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnounceAction {
    /// Send this and report how it went.
    Announce(Announce),
    /// Leave has been taken, or the time for it is over; nothing follows.
    Finished,
}

/// An announce to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// To be given back with the outcome.
    pub id: AnnounceId,
    /// The tracker, as it stands in the torrent.
    pub tracker: String,
    /// What has happened.
    pub event: AnnounceEvent,
    /// How many peers to ask for.
    pub numwant: u32,
    /// By which the tracker knows us.
    pub key: u32,
    /// What this tracker wants back.
    pub tracker_id: Option<Vec<u8>>,
    /// After which there is no use in waiting.
    pub timeout: Duration,
}

/// How far the transfer is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Sent to peers.
    pub uploaded: u64,
    /// Received from peers.
    pub downloaded: u64,
    /// Still missing.
    pub left: u64,
    /// All that is wanted is there, though something is missing (BEP 21).
    pub partial_seed: bool,
}

impl Announce {
    /// What to tell the tracker. BEP 21: a partial seed says so in every announce, in place of what else there is to say, so
    /// that any tracker knows it however it comes; but one that leaves is none any more.
    fn event_of(&self, transfer: Transfer) -> AnnounceEvent {
        match self.event {
            AnnounceEvent::Stopped => AnnounceEvent::Stopped,
            _ if transfer.partial_seed => AnnounceEvent::Paused,
            event => event,
        }
    }

    /// The whole request, with what only the caller knows.
    pub fn request(
        &self,
        info_hash: InfoHash,
        peer_id: PeerId,
        port: u16,
        transfer: Transfer,
    ) -> AnnounceRequest {
        AnnounceRequest {
            info_hash,
            peer_id,
            port,
            uploaded: transfer.uploaded,
            downloaded: transfer.downloaded,
            left: transfer.left,
            event: self.event_of(transfer),
            numwant: self.numwant,
            key: self.key,
            compact: true,
            tracker_id: self.tracker_id.clone(),
            ip: None,
        }
    }
}

/// Announces one torrent under one info hash.
///
/// After every `handle_*`, take actions until there are none, then call [`Self::handle_timeout`] no later
/// than [`Self::poll_timeout`] says. Every announce is answered with [`AnnouncerInput::Answered`] or
/// [`AnnouncerInput::Failed`]; one that is not counts as failed after its timeout.
#[derive(Debug)]
pub struct Announcer {
    tiers: Tiers,
    rng: Rng,
    key: u32,
    phase: Phase,
    /// When the next regular announce is due.
    next_at: Instant,
    /// The last announce failed: the next tracker's turn comes as soon as there is one.
    failing_over: bool,
    wants_peers: bool,
    /// `completed` has still to be told to somebody.
    completed_due: bool,
    /// At most one while running, one per tracker while stopping.
    in_flight: Vec<InFlight>,
    actions: VecDeque<AnnounceAction>,
    /// When something has to be looked at, as of the last call.
    timeout: Option<Instant>,
    last_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Running,
    /// `stopped` is on its way to all who know us.
    Stopping,
    Stopped,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    id: AnnounceId,
    tracker: TrackerIndex,
    event: AnnounceEvent,
    deadline: Instant,
}

impl Announcer {
    /// For the trackers of a torrent, in tiers; each tier is shuffled (BEP 12).
    pub fn new(tiers: &[Vec<String>], mut rng: Rng) -> Self {
        Self {
            tiers: Tiers::new(tiers, &mut rng),
            key: rng.bits() as u32,
            rng,
            phase: Phase::New,
            next_at: Instant::ZERO,
            failing_over: false,
            wants_peers: false,
            completed_due: false,
            in_flight: Vec::new(),
            actions: VecDeque::new(),
            timeout: None,
            last_id: 0,
        }
    }

    /// Takes in a fact.
    pub fn handle_input(&mut self, now: Instant, input: AnnouncerInput<'_>) {
        match input {
            AnnouncerInput::Start => self.start(now),
            AnnouncerInput::Completed => self.on_completed(now),
            AnnouncerInput::WantPeers => self.wants_peers = true,
            AnnouncerInput::Answered { id, response } => {
                if let Some(announce) = self.take_in_flight(id) {
                    self.on_answer(now, announce, response);
                }
            }
            AnnouncerInput::Failed { id, retry } => {
                if let Some(announce) = self.take_in_flight(id) {
                    self.on_failure(now, announce, retry);
                }
            }
            AnnouncerInput::Stop => self.stop(now),
        }
        self.advance(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(late) = self.in_flight.iter().find(|announce| announce.deadline <= now) {
            let late = *late;
            self.take_in_flight(late.id);
            self.on_failure(now, late, None);
        }
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<AnnounceAction> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] must be called; `None`: not before the next input.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn start(&mut self, now: Instant) {
        if self.phase == Phase::New {
            self.phase = Phase::Running;
            self.next_at = now;
        }
    }

    fn on_completed(&mut self, now: Instant) {
        self.completed_due = true;
        // BEP 3: told when it happens, whatever the interval.
        self.next_at = now;
    }

    fn stop(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Stopping | Phase::Stopped) {
            return;
        }
        self.phase = Phase::Stopping;
        for abandoned in std::mem::take(&mut self.in_flight) {
            // Its answer may be on the way: that tracker may well know us.
            self.tiers[abandoned.tracker].started = true;
        }
        for tracker in self.tiers.started() {
            self.launch(now, tracker, AnnounceEvent::Stopped, STOP_TIMEOUT);
        }
    }

    fn on_answer(&mut self, now: Instant, announce: InFlight, response: &AnnounceResponse) {
        let tracker = &mut self.tiers[announce.tracker];
        tracker.succeeded(now, response);
        match announce.event {
            AnnounceEvent::Started => tracker.started = true,
            AnnounceEvent::Completed => self.completed_due = false,
            AnnounceEvent::Stopped => tracker.started = false,
            AnnounceEvent::None | AnnounceEvent::Paused => {}
        }
        // BEP 12: who can be reached moves to the front of its tier.
        self.tiers.move_to_front(announce.tracker);
        self.failing_over = false;
        self.wants_peers = false;
        self.next_at = if self.completed_due { now } else { now + response.interval };
    }

    fn on_failure(&mut self, now: Instant, announce: InFlight, retry: Option<Retry>) {
        self.tiers[announce.tracker].failed(now, retry, &mut self.rng);
        self.failing_over = true;
    }

    /// Sends what is due and works out when to look again.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Running if self.in_flight.is_empty() => self.plan(now),
            Phase::Stopping if self.in_flight.is_empty() => {
                self.phase = Phase::Stopped;
                self.actions.push_back(AnnounceAction::Finished);
            }
            _ => {}
        }
        if !self.in_flight.is_empty() || self.phase != Phase::Running {
            self.timeout = self.in_flight.iter().map(|announce| announce.deadline).min();
        }
    }

    fn plan(&mut self, now: Instant) {
        let Some(tracker) = self.tiers.first_usable(now) else {
            self.timeout = self.tiers.next_usable_at();
            return;
        };
        let event = self.event_for(tracker);
        let due = self.due(now, tracker, event);
        if due <= now {
            self.launch(now, tracker, event, ANNOUNCE_TIMEOUT);
        } else {
            self.timeout = Some(due);
        }
    }

    /// When it is the tracker's turn, should it be its turn next.
    fn due(&self, now: Instant, tracker: TrackerIndex, event: AnnounceEvent) -> Instant {
        let not_before = self.tiers[tracker].not_before;
        if self.failing_over {
            return if event == AnnounceEvent::None { not_before } else { now };
        }
        if self.wants_peers { self.next_at.min(not_before) } else { self.next_at }
    }

    /// What the tracker has still to hear.
    fn event_for(&self, tracker: TrackerIndex) -> AnnounceEvent {
        if !self.tiers[tracker].started {
            return AnnounceEvent::Started;
        }
        if self.completed_due { AnnounceEvent::Completed } else { AnnounceEvent::None }
    }

    fn launch(&mut self, now: Instant, tracker: TrackerIndex, event: AnnounceEvent, timeout: Duration) {
        self.last_id += 1;
        let id = AnnounceId(self.last_id);
        self.in_flight.push(InFlight { id, tracker, event, deadline: now + timeout });
        let leaving = event == AnnounceEvent::Stopped;
        self.actions.push_back(AnnounceAction::Announce(Announce {
            id,
            tracker: self.tiers[tracker].url.clone(),
            event,
            numwant: if leaving { 0 } else { PEERS_PER_TORRENT as u32 },
            key: self.key,
            tracker_id: self.tiers[tracker].tracker_id.clone(),
            timeout,
        }));
    }

    fn take_in_flight(&mut self, id: AnnounceId) -> Option<InFlight> {
        let at = self.in_flight.iter().position(|announce| announce.id == id)?;
        Some(self.in_flight.swap_remove(at))
    }
}
