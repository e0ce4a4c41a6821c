//! Lines. Each host has one up and one down, of so many bytes a second, full duplex; hosts of a rack may share a narrow
//! link to the other racks. The line up serves its connections in turn, a frame each; what it sent goes behind what came
//! before it at the link out of its rack, that into the other and the receiver's line down. A connection has only so much under
//! way: what its way holds, and no more than one frame while there is a queue ahead, so that those that compete share
//! the line about evenly and none starves.
//!
//! Messages that are not blocks are small: they take their share of the lines, but wait for nothing except what the
//! same connection sent before them.

use std::collections::{BTreeMap, VecDeque};

use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::ShardInput;

use crate::wire::Frame;
use crate::world::{Actor, Event, World};

/// A connection sends as much ahead as its line carries in this time and a round trip, where nothing queues.
const AHEAD: Duration = Duration::from_millis(10);

/// A line whose queue is longer than this has one: what competes for it sends frame by frame. The buffer of a switch.
const QUEUE: Duration = Duration::from_millis(5);

/// How long a connection stalls when something was lost, beside two round trips: the shortest retransmission timer
/// of Linux.
const STALL: Duration = Duration::from_millis(200);

/// How long news is gathered, so that a host takes that of many peers at a time.
const GATHER: Duration = Duration::from_millis(4);

/// A host's line up.
#[derive(Debug, Default)]
pub(crate) struct Uplink {
    /// The connections that have something for it, in the order of their turn: number and side.
    turns: VecDeque<(usize, usize)>,
    busy: bool,
    /// Bytes of messages that went ahead and take their time from what follows.
    debt: u64,
}

/// News for a host that it takes together.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// When it takes them; none where there is nothing.
    due: Option<Instant>,
    /// For which connection and side of it, in order.
    frames: Vec<(usize, usize, Frame)>,
}

/// The links of the racks to the others, by rack, out and in: when each is free again.
pub(crate) type Trunks = BTreeMap<(u8, Way), Instant>;

/// Which way over the link of a rack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Out,
    In,
}

impl World<'_> {
    /// Whether the socket takes more.
    pub(crate) fn has_room(&self, conn: usize, side: usize) -> bool {
        self.conns[conn].ends[side].backlog.is_empty()
    }

    /// Sends a part of the stream from that side of the connection, as soon as the line allows.
    pub(crate) fn send(&mut self, conn: usize, side: usize, frame: Frame) -> Result<(), String> {
        let end = &self.conns[conn].ends[side];
        if frame.is_control() && end.backlog.is_empty() && !end.sending {
            self.send_control(conn, side, frame);
            return Ok(());
        }
        self.send_all(conn, side, [frame])
    }

    /// Sends frames that follow one another, as soon as the line allows.
    pub(crate) fn send_all(
        &mut self,
        conn: usize,
        side: usize,
        frames: impl IntoIterator<Item = Frame>,
    ) -> Result<(), String> {
        self.conns[conn].ends[side].backlog.extend(frames);
        self.take_a_turn(conn, side)
    }

    /// Bytes of a block that travel as one, where it goes in parts: what the slower line carries in an eighth of a
    /// second.
    pub(crate) fn part(&self, conn: usize) -> u64 {
        (self.rate(conn, 0).min(self.rate(conn, 1)) / 8).max(1_024)
    }

    /// Bytes a second of the narrowest on the way from that side to the other.
    fn rate(&self, conn: usize, side: usize) -> u64 {
        let [from, to] = self.way(conn, side);
        let hosts = &self.scenario.hosts;
        let trunk = if self.crosses(from, to) { self.scenario.rack_link } else { None };
        hosts[from].up.min(hosts[to].down).min(trunk.unwrap_or(u64::MAX)).max(1)
    }

    /// Sender and receiver of what that side sends.
    fn way(&self, conn: usize, side: usize) -> [usize; 2] {
        let ends = &self.conns[conn].ends;
        [ends[side].host, ends[1 - side].host]
    }

    fn crosses(&self, from: usize, to: usize) -> bool {
        let hosts = &self.scenario.hosts;
        self.scenario.rack_link.is_some() && hosts[from].rack != hosts[to].rack
    }

    /// The connection waits for its turn on the line, where it has something that may go now.
    fn take_a_turn(&mut self, conn: usize, side: usize) -> Result<(), String> {
        if self.line_up(conn, side) { self.serve(self.conns[conn].ends[side].host) } else { Ok(()) }
    }

    fn line_up(&mut self, conn: usize, side: usize) -> bool {
        let may_send = self.may_send(conn, side);
        if may_send {
            let end = &mut self.conns[conn].ends[side];
            end.waiting = true;
            self.hosts[end.host].up.turns.push_back((conn, side));
        }
        may_send
    }

    fn may_send(&self, conn: usize, side: usize) -> bool {
        let end = &self.conns[conn].ends[side];
        let Some(next) = end.backlog.front().filter(|_| end.up && !end.waiting && !end.sending) else {
            return false;
        };
        if end.under_way == 0 || next.is_control() {
            return true;
        }
        let [from, to] = self.way(conn, side);
        // What is sent now comes there after the latency.
        let ahead = self.hosts[to].down_free.since(self.now + self.conns[conn].latency);
        let trunk = if self.crosses(from, to) { self.way_free(from, to) } else { Instant::ZERO };
        ahead.max(trunk.since(self.now)) <= QUEUE
            && end.under_way + next.len() <= self.window(conn, side).max(2 * next.len())
    }

    /// Bytes that may be under way where nothing queues.
    fn window(&self, conn: usize, side: usize) -> u64 {
        let time = self.conns[conn].latency * 2 + AHEAD;
        self.rate(conn, side) / 1_000 * (time.as_micros() as u64) / 1_000
    }

    /// The host's line takes the next frame, if it is free.
    fn serve(&mut self, host: usize) -> Result<(), String> {
        while !self.hosts[host].up.busy {
            let Some((conn, side)) = self.hosts[host].up.turns.pop_front() else { return Ok(()) };
            self.conns[conn].ends[side].waiting = false;
            if !self.may_send(conn, side) {
                continue;
            }
            let end = &mut self.conns[conn].ends[side];
            let Some(frame) = end.backlog.pop_front() else { continue };
            if frame.is_control() {
                self.send_control(conn, side, frame);
                self.line_up(conn, side);
                continue;
            }
            end.sending = true;
            end.under_way += frame.len();
            let line = &mut self.hosts[host].up;
            line.busy = true;
            let bytes = frame.len() + std::mem::take(&mut line.debt);
            let takes = time_of(bytes, self.scenario.hosts[host].up);
            self.after(takes, Event::Departs { conn, side, frame });
            self.pump(conn, side)?;
        }
        Ok(())
    }

    /// The frame has left the line up.
    pub(crate) fn on_departure(&mut self, conn: usize, side: usize, frame: Frame) -> Result<(), String> {
        let host = self.conns[conn].ends[side].host;
        let payload = frame.payload();
        self.route(conn, side, frame);
        self.hosts[host].up.busy = false;
        self.hosts[host].uploaded += payload;
        let end = &mut self.conns[conn].ends[side];
        end.sending = false;
        // Right behind it.
        while self.conns[conn].ends[side].backlog.front().is_some_and(Frame::is_control) {
            let Some(control) = self.conns[conn].ends[side].backlog.pop_front() else { break };
            self.send_control(conn, side, control);
        }
        let end = &self.conns[conn].ends[side];
        if end.up
            && payload > 0
            && let Some(key) = end.key
        {
            let shard = end.shard;
            self.shard_input(host, shard, ShardInput::Sent(key, payload))?;
        }
        self.pump(conn, side)?;
        self.take_a_turn(conn, side)?;
        self.serve(host)
    }

    /// The frame goes to the receiver's line, through the link between the racks where it must.
    fn route(&mut self, conn: usize, side: usize, frame: Frame) {
        let [from, to] = self.way(conn, side);
        if !self.crosses(from, to) {
            return self.go_down(conn, side, frame, self.scenario.hosts[from].up);
        }
        let takes = time_of(frame.len(), self.scenario.rack_link.unwrap_or(u64::MAX));
        let [out, inward] = self.trunks_between(from, to);
        let left = self.trunk_free(out).max(self.now) + takes;
        // Into the other rack as it comes, where nothing is before it.
        let free = left.max(self.trunk_free(inward) + takes);
        self.trunks.insert(out, left);
        self.trunks.insert(inward, free);
        self.record.crossed += frame.payload();
        self.conns[conn].ends[side].on_trunk += 1;
        self.at(free, Event::OffTrunk { conn, side, frame });
    }

    pub(crate) fn on_off_trunk(&mut self, conn: usize, side: usize, frame: Frame) {
        self.conns[conn].ends[side].on_trunk -= 1;
        if frame.is_control() {
            let at = self.now + self.conns[conn].latency;
            self.arrive(conn, side, frame, at);
        } else {
            self.go_down(conn, side, frame, self.scenario.rack_link.unwrap_or(u64::MAX));
        }
    }

    /// The frame comes over the receiver's line down, as fast as it was sent where nothing is before it.
    fn go_down(&mut self, conn: usize, side: usize, frame: Frame, sent_at: u64) {
        let to = self.way(conn, side)[1];
        let (bytes, down) = (frame.len(), self.scenario.hosts[to].down);
        let takes = time_of(bytes, down);
        let there = self.now + self.conns[conn].latency + takes.saturating_sub(time_of(bytes, sent_at));
        let free = &mut self.hosts[to].down_free;
        *free = there.max(*free + takes);
        let mut at = *free;
        let loss = self.scenario.loss_one_in as usize;
        if loss > 0 && self.rng.one_in(loss) {
            at += STALL + self.conns[conn].latency * 4;
        }
        self.arrive(conn, side, frame, at);
    }

    /// Messages go behind what the connection sent before, and past the queues of others.
    fn send_control(&mut self, conn: usize, side: usize, frame: Frame) {
        let [from, to] = self.way(conn, side);
        let bytes = frame.len();
        self.hosts[from].up.debt += bytes;
        let takes = time_of(bytes, self.scenario.hosts[to].down);
        let free = &mut self.hosts[to].down_free;
        *free = (*free).max(self.now) + takes;
        let end = &mut self.conns[conn].ends[side];
        if end.on_trunk > 0 {
            end.on_trunk += 1;
            let at = self.way_free(from, to).max(self.now);
            return self.at(at, Event::OffTrunk { conn, side, frame });
        }
        let at = self.now + self.conns[conn].latency + takes;
        if self.scenario.gather && frame.is_news() {
            self.gather(conn, side, frame, at);
        } else {
            self.arrive(conn, side, frame, at);
        }
    }

    /// News is taken a few milliseconds later, together with what else came for the host.
    fn gather(&mut self, conn: usize, side: usize, frame: Frame, at: Instant) {
        let to = self.way(conn, side)[1];
        let at = round_up(self.conns[conn].ends[side].last_arrival.max(at), to);
        let inbox = &mut self.hosts[to].inbox;
        match inbox.due {
            // What comes later than the next time goes by itself.
            Some(due) if due != at => return self.arrive(conn, side, frame, at),
            Some(_) => {}
            None => {
                inbox.due = Some(at);
                self.at(at, Event::Gathered(to));
            }
        }
        self.conns[conn].ends[side].last_arrival = at;
        self.hosts[to].inbox.frames.push((conn, 1 - side, frame));
    }

    /// The host takes what was gathered for it.
    pub(crate) fn on_gathered(&mut self, host: usize) -> Result<(), String> {
        self.hosts[host].inbox.due = None;
        let mut frames = std::mem::take(&mut self.hosts[host].inbox.frames);
        for (conn, side, frame) in frames.drain(..) {
            self.trace_hash.frame(21, conn, side, &frame);
            self.take_news(conn, side, frame)?;
        }
        // Its memory serves the next time.
        self.hosts[host].inbox.frames = frames;
        let Actor::Node(node) = &self.hosts[host].actor else { return Ok(()) };
        (0..node.shards.len()).try_for_each(|shard| self.drive_shard(host, shard))
    }

    /// It arrives then, or as soon as all that was sent before it did.
    fn arrive(&mut self, conn: usize, side: usize, frame: Frame, at: Instant) {
        let end = &mut self.conns[conn].ends[side];
        end.last_arrival = end.last_arrival.max(at);
        let at = end.last_arrival;
        self.at(at, Event::Arrives { conn, side: 1 - side, frame });
    }

    /// Something that this side sent has arrived: it may send more.
    pub(crate) fn on_acknowledged(&mut self, conn: usize, side: usize, bytes: u64) -> Result<(), String> {
        self.conns[conn].ends[side].under_way -= bytes;
        self.take_a_turn(conn, side)
    }

    fn trunks_between(&self, from: usize, to: usize) -> [(u8, Way); 2] {
        [(self.scenario.hosts[from].rack, Way::Out), (self.scenario.hosts[to].rack, Way::In)]
    }

    fn trunk_free(&self, trunk: (u8, Way)) -> Instant {
        self.trunks.get(&trunk).copied().unwrap_or(Instant::ZERO)
    }

    /// When both links on the way are free again.
    fn way_free(&self, from: usize, to: usize) -> Instant {
        let [out, inward] = self.trunks_between(from, to);
        self.trunk_free(out).max(self.trunk_free(inward))
    }
}

/// The next time that the host takes news: each has times of its own.
const fn round_up(at: Instant, host: usize) -> Instant {
    let grid = GATHER.as_nanos() as u64;
    let phase = host as u64 * 7_919_000 % grid;
    Instant::from_nanos((at.nanos() + grid - phase).div_ceil(grid) * grid + phase - grid)
}

/// How long so many bytes take.
fn time_of(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_nanos(bytes * 1_000_000_000 / bytes_per_second.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_times_for_news() {
        for host in 0..50 {
            for nanos in [0, 1, 3_999_999, 4_000_000, 7_919_000, 1_000_000_007] {
                let at = round_up(Instant::from_nanos(nanos), host).nanos();
                assert!(at >= nanos && at - nanos < 4_000_000, "{host}: {nanos} is {at}");
                assert_eq!(round_up(Instant::from_nanos(at), host).nanos(), at);
            }
        }
    }
}
