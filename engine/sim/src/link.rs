//! Lines: bandwidth up and down per host, latency, and a window per connection and direction, so that a receiver
//! that is slow holds its senders back.

use ringtide_proto::time::{Duration, Instant};

use crate::connect::End;
use crate::wire::Frame;
use crate::world::{Event, World};

/// A connection holds as much under way as its line carries in this time and a round trip: what the congestion
/// control of TCP comes to.
const AHEAD: Duration = Duration::from_millis(250);

impl World<'_> {
    /// Whether the socket takes more.
    pub(crate) fn has_room(&self, conn: usize, side: usize) -> bool {
        self.conns[conn].ends[side].backlog.is_empty()
    }

    /// Sends a part of the stream from that side of the connection, as soon as the line allows.
    pub(crate) fn send(&mut self, conn: usize, side: usize, frame: Frame) {
        self.conns[conn].ends[side].backlog.push_back(frame);
        self.flush(conn, side);
    }

    /// What waits in the socket goes out as far as the window allows.
    pub(crate) fn flush(&mut self, conn: usize, side: usize) {
        let round_trip = self.conns[conn].latency * 2;
        let window = self.rate(conn) * (AHEAD + round_trip).as_millis() as u64 / 1_000;
        while self.conns[conn].ends[side].under_way < window.max(2_048) {
            let Some(frame) = self.conns[conn].ends[side].backlog.pop_front() else { return };
            self.transmit(conn, side, frame);
        }
    }

    /// Bytes of a block that travel as one: what the slower line carries in an eighth of a second.
    pub(crate) fn part(&self, conn: usize) -> u64 {
        (self.rate(conn) / 8).max(1_024)
    }

    /// Bytes a second of the slower of the two lines.
    fn rate(&self, conn: usize) -> u64 {
        let rate = |end: &End| self.scenario.hosts[end.host].up.min(self.scenario.hosts[end.host].down);
        self.conns[conn].ends.iter().map(rate).min().unwrap_or(0)
    }

    fn transmit(&mut self, conn: usize, side: usize, frame: Frame) {
        let (bytes, payload) = (frame.len(), frame.payload());
        let (from, to) = (self.conns[conn].ends[side].host, self.conns[conn].ends[1 - side].host);
        let sent = occupy(&mut self.hosts[from].up_free, self.now, bytes, self.scenario.hosts[from].up);
        let there = sent + self.conns[conn].latency;
        let arrived = occupy(&mut self.hosts[to].down_free, there, bytes, self.scenario.hosts[to].down);
        self.conns[conn].ends[side].under_way += bytes;
        self.at(arrived, Event::Arrives { conn, side: 1 - side, frame });
        let taken = arrived + self.conns[conn].latency;
        self.at(taken, Event::Taken { conn, side, bytes, payload });
    }
}

/// A line serves one frame after the other.
fn occupy(free_at: &mut Instant, from: Instant, bytes: u64, bytes_per_second: u64) -> Instant {
    let nanos = bytes * 1_000_000_000 / bytes_per_second.max(1);
    *free_at = (*free_at).max(from) + Duration::from_nanos(nanos);
    *free_at
}
