//! What must always hold, and what must hold in the end.

use std::net::IpAddr;

use ringtide_proto::layout::Span;
use ringtide_proto::torrent::PartReason;
use ringtide_proto::wire::{Message, RawSpan};

use crate::node::Node;
use crate::outcome::has_to_complete;
use crate::wire::Frame;
use crate::world::{Actor, World, host_at};

/// How often the tables of a shard are recounted, in its own steps.
const RECOUNT_EVERY: u64 = 4;

/// Of how many hosts that are not done it is told what they lack.
const MOST_TOLD: usize = 8;

impl World<'_> {
    /// Cheap after each step of a shard: only verified pieces are had, and no more memory is used than leased.
    pub(crate) fn check_shard(&mut self, host: usize, shard: usize, steps: u64) -> Result<(), String> {
        let layout = self.scenario.layout;
        let node = self.node(host);
        if steps.is_multiple_of(RECOUNT_EVERY) {
            node.shards[shard].machine.check_invariants();
            check_disk(node).map_err(|what| format!("node {host}: {what}"))?;
        }
        let buffers: u64 = node.shards.iter().map(|shard| shard.buffers.bytes(&layout)).sum();
        if buffers > node.budget.used() || node.budget.used() > node.budget.limit() {
            return Err(format!("node {host}: buffers of {buffers} bytes, {:?}", node.budget));
        }
        Ok(())
    }

    pub(crate) fn check_all(&mut self) -> Result<(), String> {
        for host in &self.hosts {
            if let Actor::Node(node) = &host.actor {
                node.core.check_invariants();
                node.shards.iter().for_each(|shard| shard.machine.check_invariants());
                check_disk(node)?;
            }
        }
        Ok(())
    }

    /// An honest node uploads what is on its disk and right, and nothing else.
    pub(crate) fn check_upload(&mut self, host: usize, span: Span) -> Result<(), String> {
        let there = self.node(host).disk[span.piece().index()];
        if there { Ok(()) } else { Err(format!("node {host} uploads {span:?}, which is not on its disk")) }
    }

    /// Only who gave wrong data is banned.
    pub(crate) fn check_ban(&mut self, host: usize, addr: IpAddr) -> Result<(), String> {
        match host_at(self.scenario, addr) {
            Some(id) if self.scenario.hosts[id].role.poisons() => Ok(()),
            _ => Err(format!("node {host} bans {addr}, which is honest")),
        }
    }

    /// Only who broke the rules is parted with for that.
    pub(crate) fn check_parting(&self, host: usize, from: usize, why: PartReason) -> Result<(), String> {
        if why == PartReason::Misbehaved && !self.scenario.hosts[from].role.misbehaves() {
            return Err(format!("node {host} calls {from} a villain: {:?}", self.scenario.hosts[from].role));
        }
        Ok(())
    }

    pub(crate) fn check_completion(&mut self, host: usize) -> Result<(), String> {
        let whole = self.node(host).disk.iter().all(|&there| there);
        if whole { Ok(()) } else { Err(format!("node {host} says it has everything")) }
    }

    /// Follows what a side asks for and takes back.
    pub(crate) fn check_sent(&mut self, conn: usize, side: usize, message: &Message) {
        let fast = self.conns[conn].fast;
        let open = &mut self.conns[conn].ends[side].open_requests;
        match message {
            _ if !self.scenario.checks => {}
            Message::Request(span) => *open.entry(*span).or_default() += 1,
            // BEP 6: with the fast extension a cancel is answered as well.
            Message::Cancel(span) if !fast => drop(open.remove(span)),
            _ => {}
        }
    }

    /// Follows the answers that a side gets. Between honest nodes that speak BEP 6, each request has exactly one.
    pub(crate) fn check_heard(&mut self, conn: usize, side: usize, frame: &Frame) -> Result<(), String> {
        match frame {
            _ if !self.scenario.checks => Ok(()),
            Frame::Message(message) => self.check_told(conn, side, message),
            Frame::Messages(messages) => {
                messages.iter().try_for_each(|message| self.check_told(conn, side, message))
            }
            Frame::Begin(span) | Frame::Block(span, _) => self.check_answer(conn, side, *span),
            Frame::Part(_) | Frame::End(..) => Ok(()),
        }
    }

    fn check_told(&mut self, conn: usize, side: usize, message: &Message) -> Result<(), String> {
        match message {
            Message::RejectRequest(span) => self.check_answer(conn, side, *span),
            Message::Choke if !self.conns[conn].fast => {
                self.conns[conn].ends[side].open_requests.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_answer(&mut self, conn: usize, side: usize, span: RawSpan) -> Result<(), String> {
        let fast = self.conns[conn].fast;
        let other = self.conns[conn].ends[1 - side].host;
        let honest = self.scenario.hosts[other].role.is_honest();
        let open = &mut self.conns[conn].ends[side].open_requests;
        match open.get_mut(&span) {
            Some(1) => drop(open.remove(&span)),
            Some(count) => *count -= 1,
            None if honest && fast => return Err(format!("{other} answers {span:?}, which nobody asked")),
            None => {}
        }
        Ok(())
    }

    pub(crate) fn who_is_not_done(&self) -> String {
        let late = self.those_who_stay().filter(|(_, node)| !node.pieces.is_complete());
        let describe = |(id, node): (usize, &Node)| {
            let lacks = self.scenario.layout.pieces().filter(|&piece| !node.pieces.has(piece));
            let states: Vec<String> =
                lacks.take(8).map(|piece| format!("{piece:?} {:?}", node.pieces.state(piece))).collect();
            let have = node.pieces.have_count();
            format!(
                "node {id} has {have} pieces, {:?}, {:?}: {}",
                node.core.stats(),
                node.budget,
                states.join(", ")
            )
        };
        format!("not done: {}", late.take(MOST_TOLD).map(describe).collect::<Vec<_>>().join("; "))
    }

    /// No claim, memory, buffer or request is left behind.
    pub(crate) fn check_the_end(&mut self) -> Result<(), String> {
        self.check_all()?;
        let layout = self.scenario.layout;
        for (id, node) in self.those_who_stay() {
            let open: usize = node.shards.iter().map(|shard| shard.machine.open_count()).sum();
            let bytes: u64 = node.shards.iter().map(|shard| shard.buffers.bytes(&layout)).sum();
            if (open, bytes, node.budget.used()) != (0, 0, 0) {
                return Err(format!(
                    "node {id} is done with {open} open pieces, {bytes} bytes, {:?}",
                    node.budget
                ));
            }
        }
        for (id, node) in self.those_who_stay() {
            let known = node.shards.iter().map(|shard| shard.machine.have_count()).min();
            if known != Some(layout.piece_count()) {
                return Err(format!(
                    "node {id} has everything, and one of its shards knows of {known:?} pieces"
                ));
            }
        }
        for (number, conn) in self.conns.iter().enumerate() {
            let stays = |side: usize| self.stays(conn.ends[side].host) && conn.ends[side].up;
            let left = conn.ends.iter().map(|end| end.open_requests.len()).sum::<usize>();
            let quiet = conn.ends.iter().all(|end| end.under_way == 0 && end.backlog.is_empty());
            if stays(0) && stays(1) && quiet && left > 0 {
                return Err(format!("connection {number}: requests never answered: {:?}", conn.ends));
            }
        }
        Ok(())
    }

    pub(crate) fn wasted(&self) -> u64 {
        let wasted = |(_, node): (usize, &Node)| -> u64 {
            node.shards.iter().map(|shard| shard.machine.wasted()).sum()
        };
        self.those_who_stay().map(wasted).sum()
    }

    fn stays(&self, host: usize) -> bool {
        has_to_complete(&self.scenario.hosts[host])
    }

    fn those_who_stay(&self) -> impl Iterator<Item = (usize, &Node)> {
        let node = |(id, host): (usize, &'_ crate::world::Host)| match &host.actor {
            Actor::Node(_) if self.stays(id) => Some(id),
            _ => None,
        };
        let ids: Vec<usize> = self.hosts.iter().enumerate().filter_map(node).collect();
        ids.into_iter().filter_map(|id| match &self.hosts[id].actor {
            Actor::Node(node) => Some((id, &**node)),
            Actor::Villain(_) => None,
        })
    }
}

/// Nothing is said to be there that is not on the disk and right.
fn check_disk(node: &Node) -> Result<(), String> {
    let had = node.disk.iter().filter(|&&there| there).count() as u32;
    if node.pieces.have_count() > had {
        return Err(format!("{} pieces are had, {had} are on the disk", node.pieces.have_count()));
    }
    Ok(())
}
