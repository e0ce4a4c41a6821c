//! Connections: how they come up, who is at their ends, and how they end.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use ringtide_proto::id::PeerId;
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{CoreInput, NewPeer, PeerKey, ShardInput};
use ringtide_proto::wire::{Decoder, RawSpan};

use crate::node::Node;
use crate::scenario::Departure;
use crate::wire::Frame;
use crate::world::{Actor, Event, World, host_at};

/// How long a dial to nobody takes to fail.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: usize,
    pub(crate) shard: usize,
    /// What a node calls it; none for villains.
    pub(crate) key: Option<PeerKey>,
    /// It sees the connection.
    pub(crate) up: bool,
    /// The machine said that it has something to send.
    pub(crate) ready: bool,
    /// Bytes of blocks that left and did not arrive, or are leaving.
    pub(crate) under_way: u64,
    /// What waits in the socket.
    pub(crate) backlog: VecDeque<Frame>,
    /// It has a turn on the line up.
    pub(crate) waiting: bool,
    /// The line up is at a frame of it.
    pub(crate) sending: bool,
    /// Frames of it on the link between racks.
    pub(crate) on_trunk: u32,
    /// When the last of what it sent arrives.
    pub(crate) last_arrival: Instant,
    /// What it has read, where bytes travel.
    pub(crate) decoder: Option<Box<Decoder>>,
    /// Requests sent from this side that were neither answered nor taken back.
    pub(crate) open_requests: BTreeMap<RawSpan, u32>,
    /// Requests that this side heard and did not answer. Of use only with the fast extension: silence is an answer without.
    pub(crate) owes: usize,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The dialler first.
    pub(crate) ends: [End; 2],
    pub(crate) latency: Duration,
    pub(crate) fast: bool,
    pub(crate) extended: bool,
}

impl World<'_> {
    /// A dial reaches its address.
    pub(crate) fn on_connect(&mut self, from: usize, shard: usize, addr: SocketAddr) -> Result<(), String> {
        let target = host_at(self.scenario, addr.ip()).filter(|&host| self.hosts[host].addr == addr);
        let Some(to) = target.filter(|&to| self.hosts[to].here && self.hosts[from].here) else {
            let silent = target.is_none_or(|to| self.hosts[to].vanished);
            let delay = if silent { DIAL_TIMEOUT } else { self.latency(from, from) };
            self.after(delay, Event::DialFailed { host: from, addr });
            return Ok(());
        };
        let accepting = match &self.hosts[to].actor {
            Actor::Node(node) => self.rng.below(node.shards.len()),
            Actor::Villain(_) => 0,
        };
        let end = |host, shard| End {
            host,
            shard,
            key: None,
            up: false,
            ready: false,
            under_way: 0,
            backlog: VecDeque::new(),
            waiting: false,
            sending: false,
            on_trunk: 0,
            last_arrival: Instant::ZERO,
            decoder: None,
            open_requests: BTreeMap::new(),
            owes: 0,
        };
        let (a, b) = (&self.scenario.hosts[from], &self.scenario.hosts[to]);
        self.conns.push(Conn {
            ends: [end(from, shard), end(to, accepting)],
            latency: a.latency + b.latency,
            fast: a.fast && b.fast,
            extended: a.extended && b.extended,
        });
        let conn = self.conns.len() - 1;
        self.after(self.conns[conn].latency, Event::DialerUp { conn });
        self.come_up(conn, 1)
    }

    pub(crate) fn on_dialer_up(&mut self, conn: usize) -> Result<(), String> {
        // Though the other side may have closed it: its half of the handshake was sent before.
        if self.hosts[self.conns[conn].ends[0].host].here { self.come_up(conn, 0) } else { Ok(()) }
    }

    pub(crate) fn on_dial_failed(&mut self, host: usize, addr: SocketAddr) -> Result<(), String> {
        if let (Actor::Node(_), true) = (&self.hosts[host].actor, self.hosts[host].here) {
            return self.core_input(host, CoreInput::DialFailed(addr));
        }
        Ok(())
    }

    /// One side sees the connection.
    fn come_up(&mut self, conn: usize, side: usize) -> Result<(), String> {
        let Conn { ends, fast, extended, .. } = &self.conns[conn];
        let (us, them) = (ends[side].host, ends[1 - side].host);
        let (shard, fast, extended) = (ends[side].shard, *fast, *extended);
        self.conns[conn].ends[side].up = true;
        // Who connects to us does so from a port of its own; whom we dial is at its listening port.
        let mut addr = self.hosts[them].addr;
        if side == 1 {
            addr.set_port(40_000 + (conn % 20_000) as u16);
        }
        let new = NewPeer { addr, id: peer_id(them), outgoing: side == 0, fast, extended };
        match &mut self.hosts[us].actor {
            Actor::Node(node) => {
                let key = node.shards[shard].machine.add_peer(self.now, new);
                node.shards[shard].note_peer(key, conn, side);
                self.conns[conn].ends[side].key = Some(key);
                self.drive_shard(us, shard)
            }
            Actor::Villain(_) => self.villain_greets(conn, side),
        }
    }

    /// One side closes the connection; the other hears of it, unless this one vanished.
    pub(crate) fn close(&mut self, conn: usize, side: usize) {
        if !self.conns[conn].ends[side].up {
            return;
        }
        self.conns[conn].ends[side].up = false;
        self.conns[conn].ends[side].backlog = VecDeque::new();
        let host = self.conns[conn].ends[side].host;
        if !self.hosts[host].vanished {
            // Behind what was sent before.
            let at = (self.now + self.conns[conn].latency).max(self.conns[conn].ends[side].last_arrival);
            self.at(at, Event::Closed { conn, side: 1 - side });
        }
    }

    /// The other side closed the connection.
    pub(crate) fn on_closed(&mut self, conn: usize, side: usize) -> Result<(), String> {
        let end = &mut self.conns[conn].ends[side];
        if !std::mem::take(&mut end.up) {
            return Ok(());
        }
        end.backlog = VecDeque::new();
        let (host, shard, key) = (end.host, end.shard, end.key);
        match (&mut self.hosts[host].actor, key) {
            (Actor::Node(node), Some(key)) => {
                node.shards[shard].forget_peer(key);
                self.shard_input(host, shard, ShardInput::Closed(key))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn join(&mut self, host: usize) -> Result<(), String> {
        self.hosts[host].here = true;
        match &self.hosts[host].actor {
            Actor::Node(_) => self.node_joins(host),
            Actor::Villain(_) => {
                self.after(Duration::from_millis(500), Event::VillainDials { host, left: 20 });
                Ok(())
            }
        }
    }

    pub(crate) fn leave(&mut self, host: usize) -> Result<(), String> {
        let how = self.scenario.hosts[host].leaves.map(|(_, how)| how);
        if how == Some(Departure::Leaves) && matches!(self.hosts[host].actor, Actor::Node(_)) {
            // It goes on until the connections are closed, which they are; nobody counts on it any more.
            return self.core_input(host, CoreInput::Leave);
        }
        self.hosts[host].here = false;
        self.hosts[host].vanished = how == Some(Departure::Vanishes);
        for conn in 0..self.conns.len() {
            for side in 0..2 {
                if self.conns[conn].ends[side].host == host {
                    self.close(conn, side);
                }
            }
        }
        if let Some(after) = self.scenario.hosts[host].returns {
            self.after(after, Event::Return(host));
            self.note_absence(host);
        }
        Ok(())
    }

    /// It starts again with what is on its disk, and remembers nothing else.
    pub(crate) fn return_to_life(&mut self, host: usize) -> Result<(), String> {
        let (scenario, now) = (self.scenario, self.now);
        let disk = std::mem::take(&mut self.node(host).disk);
        let node = Node::new(now, scenario, host, disk, &mut self.rng);
        self.hosts[host].actor = Actor::Node(Box::new(node));
        self.hosts[host].vanished = false;
        self.join(host)
    }

    pub(crate) fn latency(&self, a: usize, b: usize) -> Duration {
        self.scenario.hosts[a].latency + self.scenario.hosts[b].latency
    }
}

/// What a host calls itself.
pub(crate) fn peer_id(host: usize) -> PeerId {
    let mut id = [b'-'; 20];
    id[16..].copy_from_slice(&(host as u32).to_be_bytes());
    PeerId(id)
}
