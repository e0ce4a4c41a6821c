//! What must always hold, and what must hold in the end.

use std::net::IpAddr;

use ringtide_proto::bitfield::Bitfield;
use ringtide_proto::layout::{PieceLayout, Span};
use ringtide_proto::limits::RATE_BURST;
use ringtide_proto::torrent::{PartReason, Rule};
use ringtide_proto::wire::{Message, RawSpan};

use crate::node::Node;
use crate::outcome::has_to_complete;
use crate::wire::Frame;
use crate::world::{Actor, World, host_at};

/// Of how many hosts that are not done it is told what they lack.
const MOST_TOLD: usize = 8;

impl World<'_> {
    /// After each step of a core: its tables fit, its bounds are kept, and those it did not part with are not too many.
    pub(crate) fn check_core(&mut self, host: usize) -> Result<(), String> {
        let (now, most) = (self.now, self.scenario.max_peers);
        let node = self.node(host);
        node.core.check_invariants();
        node.core.check_bounds(now);
        let staying = node.core.stats().peers - node.parting.len();
        if staying > most {
            return Err(format!("node {host} keeps {staying} peers, at most {most}"));
        }
        Ok(())
    }

    /// After each step of a shard: its tables fit, its bounds are kept, only verified pieces are had, and claims and memory are
    /// what the shards hold.
    pub(crate) fn check_shard(&mut self, host: usize, shard: usize) -> Result<(), String> {
        let layout = self.scenario.layout;
        let now = self.now;
        let node = self.node(host);
        node.shards[shard].machine.check_invariants();
        node.shards[shard].machine.check_bounds(now);
        let checked = check_disk(node, &layout).and_then(|()| node.check_claims(&layout));
        checked.map_err(|what| format!("node {host}: {what}"))?;
        self.check_answers(host, shard)
    }

    /// BEP 6: every request has an answer, or is still to be answered.
    fn check_answers(&mut self, host: usize, shard: usize) -> Result<(), String> {
        let Actor::Node(node) = &self.hosts[host].actor else { return Ok(()) };
        let shard = &node.shards[shard];
        for (key, conn, side) in shard.peers().filter(|(_, conn, _)| self.conns[*conn].fast) {
            let (heard, owes) = (self.conns[conn].ends[side].owes, shard.machine.owes(key));
            if heard != owes {
                return Err(format!(
                    "node {host} has {heard} requests of {key:?} to answer, and means {owes}"
                ));
            }
        }
        Ok(())
    }

    /// A request was answered, with a block or a reject. Without the fast extension what was heard is not followed: a choke
    /// and a cancel take it back.
    pub(crate) fn note_answer(&mut self, conn: usize, side: usize) -> Result<(), String> {
        let followed = self.scenario.checks && self.conns[conn].fast;
        let end = &mut self.conns[conn].ends[side];
        match end.owes.checked_sub(1) {
            Some(left) => end.owes = left,
            None if followed => return Err(format!("node {} answers more than it was asked", end.host)),
            None => {}
        }
        Ok(())
    }

    pub(crate) fn check_all(&mut self) -> Result<(), String> {
        for host in &self.hosts {
            if let Actor::Node(node) = &host.actor {
                node.core.check_invariants();
                node.shards.iter().for_each(|shard| shard.machine.check_invariants());
                check_disk(node, &self.scenario.layout)?;
                // Nothing may happen at it any more, because it waits for what never comes.
                if host.here {
                    node.core.check_bounds(self.now);
                    node.shards.iter().for_each(|shard| shard.machine.check_bounds(self.now));
                }
            }
        }
        Ok(())
    }

    /// An honest node uploads what is on its disk and right, and nothing else.
    pub(crate) fn check_upload(&mut self, host: usize, span: Span) -> Result<(), String> {
        let there = self.node(host).disk[span.piece().index()];
        if there { Ok(()) } else { Err(format!("node {host} uploads {span:?}, which is not on its disk")) }
    }

    /// A limited node gives no more than its limit, but for 5 % and what its shards may have saved up.
    pub(crate) fn check_rate(&mut self, host: usize, bytes: u64) -> Result<(), String> {
        let Some((limit, _)) = self.scenario.hosts[host].limits else { return Ok(()) };
        let (now, block_len) = (self.now, u64::from(self.scenario.layout.block_len()));
        let node = self.node(host);
        node.given += bytes;
        let time = now.since(node.since) + RATE_BURST;
        let allowed = u128::from(limit) * time.as_millis() * 105 / 100_000;
        let saved = (2 * block_len + limit / 100) * node.shards.len() as u64;
        if u128::from(node.given) > allowed + u128::from(saved) {
            return Err(format!(
                "node {host} gave {} bytes in {time:?}, limited to {limit} a second",
                node.given
            ));
        }
        Ok(())
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
        let layout = self.scenario.layout;
        let node = self.node(host);
        let whole = layout.pieces().all(|piece| node.disk[piece.index()] || !node.pieces.wants(piece));
        if whole { Ok(()) } else { Err(format!("node {host} says it has everything")) }
    }

    /// Follows what a side asks for and takes back, and holds what it says to have against its disk.
    pub(crate) fn check_sent(&mut self, conn: usize, side: usize, message: &Message) -> Result<(), String> {
        let fast = self.conns[conn].fast;
        let host = self.conns[conn].ends[side].host;
        let open = &mut self.conns[conn].ends[side].open_requests;
        match message {
            _ if !self.scenario.checks => {}
            Message::Request(span) => {
                *open.entry(*span).or_default() += 1;
                let block = self.scenario.layout.block_at(span.piece, span.begin, span.length);
                return block.map(drop).ok_or(format!("node {host} asks for {span:?}, which is no block"));
            }
            // BEP 6: with the fast extension a cancel is answered as well.
            Message::Cancel(span) if !fast => drop(open.remove(span)),
            Message::RejectRequest(_) => return self.note_answer(conn, side),
            Message::Have { piece } => return self.check_told_pieces(host, [*piece]),
            Message::HaveAll => return self.check_told_pieces(host, 0..self.scenario.layout.piece_count()),
            Message::Bitfield(bits) => {
                let set = Bitfield::from_wire(bits, &self.scenario.layout).map_err(|e| e.to_string())?;
                return self.check_told_pieces(host, set.numbers());
            }
            _ => {}
        }
        Ok(())
    }

    /// What an honest node says to have is on its disk, and right.
    fn check_told_pieces(
        &mut self,
        host: usize,
        numbers: impl IntoIterator<Item = u32>,
    ) -> Result<(), String> {
        let disk = &self.node(host).disk;
        let lie = numbers.into_iter().find(|&number| disk.get(number as usize) != Some(&true));
        lie.map_or(Ok(()), |number| {
            Err(format!("node {host} says it has {number}, which is not on its disk"))
        })
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
            Message::Request(_) => {
                self.conns[conn].ends[side].owes += 1;
                Ok(())
            }
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
        let late = self.those_who_stay().filter(|(_, node)| !node.pieces.is_finished());
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

    /// No claim, memory or buffer is left behind.
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
            let had = node.pieces.have_count();
            if known != Some(had) || !node.pieces.is_finished() {
                return Err(format!(
                    "node {id} has everything, and one of its shards knows of {known:?} pieces"
                ));
            }
        }
        self.check_liars()
    }

    /// Whoever made a piece fail is banned once all of it is right.
    fn check_liars(&self) -> Result<(), String> {
        if !self.scenario.policy.rules.has(Rule::SmartBan) {
            return Ok(());
        }
        for (id, node) in self.those_who_stay() {
            let free = node.liars.iter().find(|&&liar| !node.core.is_banned(self.hosts[liar].addr.ip()));
            if let Some(liar) = free {
                return Err(format!("node {id} never found out that {liar} lied"));
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

/// Nothing counts as had that is not on the disk and right.
fn check_disk(node: &Node, layout: &PieceLayout) -> Result<(), String> {
    let missing = layout.pieces().find(|&piece| node.pieces.has(piece) && !node.disk[piece.index()]);
    missing.map_or(Ok(()), |piece| Err(format!("{piece:?} is had, and is not on the disk")))
}
