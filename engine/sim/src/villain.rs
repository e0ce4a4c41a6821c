//! Hosts that do not run our machines: each breaks one rule, or only our hopes.

use std::collections::BTreeMap;

use ringtide_proto::bitfield::Bitfield;
use ringtide_proto::layout::PieceIndex;
use ringtide_proto::time::Duration;
use ringtide_proto::wire::{Message, RawSpan};

use crate::disk::Marker;
use crate::scenario::Role;
use crate::wire::{Frame, raw};
use crate::world::{Actor, Event, World};

/// How often a villain looks for somebody to connect to.
const DIAL_EVERY: Duration = Duration::from_secs(20);

/// Parts in which a trickler sends a block.
const TRICKLE_PARTS: u32 = 10;

/// Blocks that a free rider takes from one peer, so that a swarm ends.
const MOST_TAKEN: u32 = 300;

/// Most blocks that a flooder asks for at once: more than a node rejects before it parts with whoever asks.
const MOST_FLOODED: usize = 6_000;

/// What a villain remembers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    served: u32,
    choking: bool,
    stopped: bool,
    /// What waits to be trickled.
    waiting: Vec<RawSpan>,
    /// What the other side has.
    theirs: Vec<u32>,
    taken: u32,
}

/// A villain.
#[derive(Debug)]
pub(crate) struct Villain {
    id: usize,
    talks: BTreeMap<usize, Talk>,
}

impl Villain {
    pub(crate) const fn new(id: usize) -> Self {
        Self { id, talks: BTreeMap::new() }
    }
}

impl World<'_> {
    fn talk(&mut self, conn: usize, side: usize) -> &mut Talk {
        let host = self.conns[conn].ends[side].host;
        match &mut self.hosts[host].actor {
            Actor::Villain(villain) => villain.talks.entry(conn).or_default(),
            Actor::Node(_) => unreachable!("host {host} is honest"),
        }
    }

    /// Which side of the connection the villain is.
    fn villain_side(&self, conn: usize) -> usize {
        usize::from(self.is_node(self.conns[conn].ends[0].host))
    }

    fn is_node(&self, host: usize) -> bool {
        matches!(self.hosts[host].actor, Actor::Node(_))
    }

    pub(crate) fn villain_dials(&mut self, host: usize, left: u32) -> Result<(), String> {
        if !self.hosts[host].here || left == 0 {
            return Ok(());
        }
        self.after(DIAL_EVERY, Event::VillainDials { host, left: left - 1 });
        let honest: Vec<usize> = (0..self.hosts.len()).filter(|&id| self.is_node(id)).collect();
        let Some(&target) = self.rng.pick(&honest) else { return Ok(()) };
        let Actor::Villain(villain) = &self.hosts[host].actor else { return Ok(()) };
        let busy = villain.talks.keys().map(|&conn| &self.conns[conn].ends);
        let busy =
            { busy }.any(|ends| ends.iter().any(|end| end.host == target) && ends.iter().any(|end| end.up));
        if !busy {
            let addr = self.hosts[target].addr;
            self.after(self.latency(host, target), Event::Connect { from: host, shard: 0, addr });
        }
        Ok(())
    }

    pub(crate) fn villain_greets(&mut self, conn: usize, side: usize) -> Result<(), String> {
        let host = self.conns[conn].ends[side].host;
        self.talk(conn, side);
        let count = self.scenario.layout.piece_count();
        if self.scenario.hosts[host].role == Role::Flooder {
            self.say(conn, side, Message::Bitfield(Bitfield::full(count).to_wire()))?;
            self.say(conn, side, Message::Interested)?;
            return self.flood(conn, side);
        }
        if self.scenario.hosts[host].role == Role::FreeRider {
            self.say(conn, side, Message::Interested)
        } else if self.conns[conn].fast {
            self.say(conn, side, Message::HaveAll)?;
            self.say(conn, side, Message::Unchoke)
        } else {
            self.say(conn, side, Message::Bitfield(Bitfield::full(count).to_wire()))?;
            self.say(conn, side, Message::Unchoke)
        }
    }

    pub(crate) fn villain_hears(&mut self, conn: usize, side: usize, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Message(message) => self.villain_is_told(conn, side, message),
            Frame::Messages(messages) => {
                messages.into_iter().try_for_each(|message| self.villain_is_told(conn, side, message))
            }
            Frame::End(..) | Frame::Block(..) => self.villain_asks(conn, side),
            Frame::Begin(_) | Frame::Part(_) => Ok(()),
        }
    }

    fn villain_is_told(&mut self, conn: usize, side: usize, message: Message) -> Result<(), String> {
        let layout = self.scenario.layout;
        let takes = self.villain_takes(conn, side);
        let host = self.conns[conn].ends[side].host;
        match message {
            Message::Request(span) => self.villain_is_asked(conn, side, span)?,
            Message::Bitfield(bits) if takes => {
                if let Ok(set) = Bitfield::from_wire(&bits, &layout) {
                    self.talk(conn, side).theirs = set.numbers().collect();
                }
            }
            Message::HaveAll if takes => {
                self.talk(conn, side).theirs = layout.pieces().map(PieceIndex::number).collect();
            }
            Message::Have { piece } if takes => self.talk(conn, side).theirs.push(piece),
            Message::RejectRequest(_) => self.villain_asks(conn, side)?,
            Message::Unchoke if self.scenario.hosts[host].role == Role::Flooder => self.flood(conn, side)?,
            Message::Unchoke => (0..8).try_for_each(|_| self.villain_asks(conn, side))?,
            _ => {}
        }
        Ok(())
    }

    fn villain_takes(&self, conn: usize, side: usize) -> bool {
        let host = self.conns[conn].ends[side].host;
        self.scenario.hosts[host].role == Role::FreeRider
    }

    fn say(&mut self, conn: usize, side: usize, message: Message) -> Result<(), String> {
        self.send(conn, side, Frame::Message(message))
    }

    fn villain_is_asked(&mut self, conn: usize, side: usize, span: RawSpan) -> Result<(), String> {
        let host = self.conns[conn].ends[side].host;
        match self.scenario.hosts[host].role {
            Role::Poisoner(one_in) => {
                let bad = self.rng.one_in(one_in as usize);
                let marker = if bad { self.bad_marker(host) } else { Marker::GOOD };
                self.send_block(conn, side, span, marker)
            }
            Role::Staller(after) => self.stall(conn, side, span, after),
            Role::Trickler(_) => self.trickle(conn, side, span),
            Role::Rejecter if self.conns[conn].fast => self.say(conn, side, Message::RejectRequest(span)),
            Role::Flapper(after) => self.flap(conn, side, span, after),
            Role::Stutterer => {
                self.send_block(conn, side, span, Marker::GOOD)?;
                self.send_block(conn, side, span, Marker::GOOD)
            }
            Role::Garbler => self.say(conn, side, Message::Have { piece: u32::MAX }),
            Role::Liar | Role::Rejecter | Role::FreeRider | Role::Flooder | Role::Honest { .. } => Ok(()),
        }
    }

    /// A wrong block of this villain: the same each time, or ever another.
    fn bad_marker(&mut self, host: usize) -> Marker {
        let Actor::Villain(villain) = &self.hosts[host].actor else { return Marker::GOOD };
        let id = villain.id;
        let kind = if id.is_multiple_of(2) { self.rng.below(Marker::KINDS as usize) as u64 } else { 0 };
        Marker::bad(villain.id, kind)
    }

    fn stall(&mut self, conn: usize, side: usize, span: RawSpan, after: u32) -> Result<(), String> {
        let talk = self.talk(conn, side);
        if talk.stopped {
            return Ok(());
        }
        talk.served += 1;
        if talk.served <= after {
            return self.send_block(conn, side, span, Marker::GOOD);
        }
        talk.stopped = true;
        self.send_all(conn, side, [Frame::Begin(span), Frame::Part(u64::from(span.length) / 2)])
    }

    fn flap(&mut self, conn: usize, side: usize, span: RawSpan, after: u32) -> Result<(), String> {
        let fast = self.conns[conn].fast;
        let talk = self.talk(conn, side);
        if talk.choking {
            return if fast { self.say(conn, side, Message::RejectRequest(span)) } else { Ok(()) };
        }
        talk.served += 1;
        let enough = talk.served.is_multiple_of(after);
        talk.choking = enough;
        self.send_block(conn, side, span, Marker::GOOD)?;
        if enough {
            self.say(conn, side, Message::Choke)?;
            self.after(Duration::from_secs(1), Event::VillainUnchokes { conn });
        }
        Ok(())
    }

    pub(crate) fn villain_unchokes(&mut self, conn: usize) -> Result<(), String> {
        let side = self.villain_side(conn);
        if self.conns[conn].ends[side].up {
            self.talk(conn, side).choking = false;
            self.say(conn, side, Message::Unchoke)?;
        }
        Ok(())
    }

    fn trickle(&mut self, conn: usize, side: usize, span: RawSpan) -> Result<(), String> {
        let talk = self.talk(conn, side);
        talk.waiting.push(span);
        if talk.waiting.len() == 1 {
            self.send(conn, side, Frame::Begin(span))?;
            self.after(Duration::ZERO, Event::VillainTrickles { conn, parts: TRICKLE_PARTS });
        }
        Ok(())
    }

    pub(crate) fn villain_trickles(&mut self, conn: usize, parts: u32) -> Result<(), String> {
        let side = self.villain_side(conn);
        let host = self.conns[conn].ends[side].host;
        let Role::Trickler(per_block) = self.scenario.hosts[host].role else { return Ok(()) };
        let Some(&span) = self.talk(conn, side).waiting.first() else { return Ok(()) };
        if !self.conns[conn].ends[side].up {
            return Ok(());
        }
        let bytes = u64::from(span.length / TRICKLE_PARTS);
        let last = u64::from(span.length) - bytes * u64::from(TRICKLE_PARTS - 1);
        let left = if parts > 1 {
            self.send(conn, side, Frame::Part(bytes))?;
            parts - 1
        } else {
            self.send(conn, side, Frame::End(span, Marker::GOOD, last))?;
            let talk = self.talk(conn, side);
            talk.waiting.remove(0);
            if let Some(&next) = talk.waiting.first() {
                self.send(conn, side, Frame::Begin(next))?;
            } else {
                // The next request begins anew.
                return Ok(());
            }
            TRICKLE_PARTS
        };
        self.after(per_block / TRICKLE_PARTS, Event::VillainTrickles { conn, parts: left });
        Ok(())
    }

    /// Asks for up to thousands of blocks at once.
    fn flood(&mut self, conn: usize, side: usize) -> Result<(), String> {
        let layout = self.scenario.layout;
        let count = self.rng.below(MOST_FLOODED);
        let spans =
            layout.pieces().flat_map(|piece| layout.blocks(piece)).map(|block| layout.block_span(block));
        let requests = { spans }.map(|span| Message::Request(raw(span))).collect::<Vec<_>>();
        let requests: Vec<Message> = requests.into_iter().cycle().take(count).collect();
        if requests.is_empty() { Ok(()) } else { self.send(conn, side, Frame::Messages(requests)) }
    }

    /// A free rider asks for some block, mostly one that the other side has.
    fn villain_asks(&mut self, conn: usize, side: usize) -> Result<(), String> {
        let layout = self.scenario.layout;
        let all = self.rng.one_in(4);
        let any = self.rng.below(layout.piece_count() as usize) as u32;
        let host = self.conns[conn].ends[side].host;
        // Nothing can be said in the middle of a block.
        if matches!(self.scenario.hosts[host].role, Role::Staller(_) | Role::Trickler(_)) {
            return Ok(());
        }
        let Actor::Villain(villain) = &mut self.hosts[host].actor else { return Ok(()) };
        let talk = villain.talks.entry(conn).or_default();
        let number = if all { Some(any) } else { self.rng.pick(&talk.theirs).copied() };
        let Some(piece) = number.and_then(|number| layout.piece(number)) else { return Ok(()) };
        talk.taken += 1;
        if talk.taken > MOST_TAKEN {
            return Ok(());
        }
        let number = self.rng.below(layout.block_count(piece) as usize) as u32;
        let Some(block) = layout.block(piece, number) else { return Ok(()) };
        self.say(conn, side, Message::Request(raw(layout.block_span(block))))
    }
}
