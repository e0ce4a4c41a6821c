//! Driving a shard: its actions in order, what its sockets take, and what comes for it, from peers, from the other
//! shards, from the hasher and the disk. What crosses between the machines of a node takes a while, and overtakes
//! nothing on its channel.

use ringtide_proto::layout::PieceIndex;
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::{
    CoreInput, CoreToShard, Outgoing, PartReason, PeerKey, ShardAction, ShardId, ShardInput, ShardMessage,
    ShardToCore, Sink, TorrentShard, Verdict,
};
use ringtide_proto::wire::{Message, RawSpan};

use crate::disk::Marker;
use crate::wire::{Frame, raw};
use crate::world::{Event, Machine, Parcel, World};

impl World<'_> {
    /// Does what a shard wants done, in order, and then sends what its sockets take.
    pub(crate) fn drive_shard(&mut self, host: usize, shard: usize) -> Result<(), String> {
        let mut ready = Vec::new();
        while let Some(action) = self.node(host).shards[shard].machine.poll_action() {
            if let ShardAction::Ready(peer) = action {
                ready.push(peer);
            } else {
                self.do_for_shard(host, shard, action)?;
            }
        }
        for peer in ready {
            if let Some((conn, side)) = self.node(host).shards[shard].peer(peer) {
                self.conns[conn].ends[side].ready = true;
                self.pump(conn, side)?;
            }
        }
        let wanted = self.node(host).shards[shard].machine.poll_timeout();
        self.set_timer(host, Machine::Shard(shard), wanted);
        // One that crashed takes no more notice of time.
        if self.scenario.checks && self.hosts[host].here {
            self.check_shard(host, shard)?;
        }
        Ok(())
    }

    fn do_for_shard(&mut self, host: usize, shard: usize, action: ShardAction) -> Result<(), String> {
        let core = self.node(host).shards.len();
        match action {
            ShardAction::Ready(_) => {}
            ShardAction::Disconnect(peer, reason) => self.disconnect(host, shard, peer, reason)?,
            ShardAction::Verify { piece, digests } => {
                let node = self.node(host);
                node.liars.extend(node.shards[shard].buffers.liars(piece));
                let verdict = node.shards[shard].buffers.verdict(piece, digests)?;
                let slowest = self.node(host).disk_spec.verify;
                let delay = self.some_time(slowest);
                self.after(delay, Event::Verified { host, shard, piece, verdict });
            }
            ShardAction::Drop(piece) => drop(self.node(host).shards[shard].buffers.take(piece)),
            ShardAction::Send(to, message) => {
                let parcel = match &message {
                    ShardMessage::Handover(open) => {
                        self.node(host).handovers.insert(open.piece(), usize::from(to.0));
                        let buffer = self.node(host).shards[shard].buffers.take(open.piece());
                        Parcel::Handover(message, buffer)
                    }
                    _ => Parcel::FromShard(message),
                };
                self.mail(host, shard, usize::from(to.0), parcel);
            }
            ShardAction::SendBlock(to, message, peer) => {
                let marker = self.node(host).shards[shard].lent.remove(&peer);
                let marker = marker.ok_or(format!("{peer:?} gave no block to send on"))?;
                self.mail(host, shard, usize::from(to.0), Parcel::LentBlock(message, marker));
            }
            ShardAction::Report(message) => self.report(host, shard, core, message),
        }
        Ok(())
    }

    fn disconnect(
        &mut self,
        host: usize,
        shard: usize,
        peer: PeerKey,
        why: PartReason,
    ) -> Result<(), String> {
        let end = self.node(host).shards[shard].forget_peer(peer);
        let (conn, side) = end.ok_or(format!("disconnects {peer:?}, which is gone"))?;
        self.check_parting(host, self.conns[conn].ends[1 - side].host, why)?;
        self.close(conn, side);
        Ok(())
    }

    /// When a message over the channel arrives: later than what was sent before.
    fn channel(&mut self, host: usize, from: usize, to: usize) -> Instant {
        let at = self.now + self.some_time(self.scenario.channel_delay);
        let last = self.node(host).channels.entry((from, to)).or_insert(at);
        *last = at.max(*last);
        *last
    }

    pub(crate) fn mail(&mut self, host: usize, from: usize, to: usize, parcel: Parcel) {
        let at = self.channel(host, from, to);
        self.at(at, Event::ToShard { host, from, to, parcel: Box::new(parcel) });
    }

    fn report(&mut self, host: usize, from: usize, core: usize, message: ShardToCore) {
        let at = self.channel(host, from, core);
        self.at(at, Event::ToCore { host, from, message: Box::new(message) });
    }

    pub(crate) fn on_report(&mut self, host: usize, from: usize, message: ShardToCore) -> Result<(), String> {
        if !self.hosts[host].here {
            return Ok(());
        }
        if let ShardToCore::PeerDown(rates) = &message {
            self.node(host).parting.remove(&rates.peer);
        }
        self.core_input(host, CoreInput::FromShard(ShardId(from as u8), message))
    }

    pub(crate) fn on_parcel(
        &mut self,
        host: usize,
        from: usize,
        to: usize,
        parcel: Parcel,
    ) -> Result<(), String> {
        if !self.hosts[host].here {
            return Ok(());
        }
        let sender = ShardId(from as u8);
        match parcel {
            Parcel::FromShard(message) => self.shard_input(host, to, ShardInput::FromShard(sender, message)),
            Parcel::LentBlock(message, marker) => self.on_lent_block(host, sender, to, &message, marker),
            Parcel::Handover(message, buffer) => {
                if let ShardMessage::Handover(open) = &message {
                    let node = self.node(host);
                    node.handovers.remove(&open.piece());
                    buffer.map_or(Ok(()), |buffer| node.shards[to].buffers.put(open.piece(), buffer))?;
                }
                self.shard_input(host, to, ShardInput::FromShard(sender, message))
            }
            // One that gives nothing goes through all the motions, and unchokes nobody.
            Parcel::FromCore(CoreToShard::Slots { .. }) if !self.scenario.hosts[host].gives => Ok(()),
            Parcel::FromCore(message) => self.shard_input(host, to, ShardInput::FromCore(message)),
            Parcel::Dial(addr) => {
                let latency = self.latency(host, host);
                self.after(latency, Event::Connect { from: host, shard: to, addr });
                Ok(())
            }
        }
    }

    fn on_lent_block(
        &mut self,
        host: usize,
        from: ShardId,
        to: usize,
        message: &ShardMessage,
        marker: Marker,
    ) -> Result<(), String> {
        let ShardMessage::LentBlock(block, giver) = *message else {
            return Err(format!("sent on with a block: {message:?}"));
        };
        let (now, layout) = (self.now, self.scenario.layout);
        let shard = &mut self.node(host).shards[to];
        match shard.machine.store_lent(now, from, block, giver) {
            Sink::Piece(block) => shard.buffers.store(&layout, block, marker)?,
            Sink::Discard => {}
            Sink::Lent(_) => return Err(format!("{block:?} was lent on")),
        }
        self.drive_shard(host, to)
    }

    /// Sends while the machine has something and the socket takes it: messages that come together as one.
    pub(crate) fn pump(&mut self, conn: usize, side: usize) -> Result<(), String> {
        let mut messages = Vec::new();
        while self.conns[conn].ends[side].ready && self.conns[conn].ends[side].up && self.has_room(conn, side)
        {
            let end = &self.conns[conn].ends[side];
            let (host, shard) = (end.host, end.shard);
            let (Some(key), now) = (end.key, self.now) else { break };
            match self.node(host).shards[shard].machine.poll_message(now, key) {
                Some(Outgoing::Message(message)) => {
                    self.check_sent(conn, side, &message)?;
                    messages.push(message);
                }
                Some(Outgoing::Block(span)) => {
                    self.check_upload(host, span)?;
                    self.note_answer(conn, side)?;
                    self.check_rate(host, u64::from(span.len()))?;
                    self.send_messages(conn, side, std::mem::take(&mut messages))?;
                    self.send_block(conn, side, raw(span), Marker::GOOD)?;
                }
                None => self.conns[conn].ends[side].ready = false,
            }
        }
        self.send_messages(conn, side, messages)
    }

    fn send_messages(&mut self, conn: usize, side: usize, mut messages: Vec<Message>) -> Result<(), String> {
        match messages.len() {
            0 => Ok(()),
            1 => messages.pop().map_or(Ok(()), |only| self.send(conn, side, Frame::Message(only))),
            _ => self.send(conn, side, Frame::Messages(messages)),
        }
    }

    /// Sends a block, whole or in parts.
    pub(crate) fn send_block(
        &mut self,
        conn: usize,
        side: usize,
        span: RawSpan,
        marker: Marker,
    ) -> Result<(), String> {
        if !self.scenario.parts {
            return self.send(conn, side, Frame::Block(span, marker));
        }
        self.send_all(conn, side, Frame::parts(span, marker, self.part(conn)))
    }

    /// Something came for that side of the connection.
    pub(crate) fn on_arrival(&mut self, conn: usize, side: usize, frame: Frame) -> Result<(), String> {
        if !frame.is_control() {
            self.on_acknowledged(conn, 1 - side, frame.len())?;
        }
        let end = &self.conns[conn].ends[side];
        if !end.up {
            return Ok(());
        }
        let (host, shard, key) = (end.host, end.shard, end.key);
        self.check_codec(conn, side, &frame)?;
        let Some(key) = key else { return self.villain_hears(conn, side, frame) };
        self.check_heard(conn, side, &frame)?;
        let now = self.now;
        let machine = &mut self.node(host).shards[shard].machine;
        match frame {
            Frame::Message(_) | Frame::Messages(_) => hear(now, machine, key, frame),
            Frame::Begin(span) => drop(machine.begin_block(now, key, span)),
            Frame::Part(_) => drop(machine.arriving_sink(now, key)),
            Frame::Block(span, marker) => {
                machine.begin_block(now, key, span);
                self.end_block(host, shard, key, marker)?;
            }
            Frame::End(_, marker, _) => self.end_block(host, shard, key, marker)?,
        }
        self.drive_shard(host, shard)
    }

    /// News came, with other such. The machine is driven when it has heard all of it.
    pub(crate) fn take_news(&mut self, conn: usize, side: usize, frame: Frame) -> Result<(), String> {
        let end = &self.conns[conn].ends[side];
        let (host, shard, key, now) = (end.host, end.shard, end.key, self.now);
        if !end.up {
            return Ok(());
        }
        self.check_codec(conn, side, &frame)?;
        match key {
            None => self.villain_hears(conn, side, frame),
            Some(key) => {
                self.check_heard(conn, side, &frame)?;
                hear(now, &mut self.node(host).shards[shard].machine, key, frame);
                Ok(())
            }
        }
    }

    fn end_block(&mut self, host: usize, shard: usize, key: PeerKey, marker: Marker) -> Result<(), String> {
        let (now, layout) = (self.now, self.scenario.layout);
        let driver = &mut self.node(host).shards[shard];
        match driver.machine.arriving_sink(now, key) {
            Sink::Piece(block) => driver.buffers.store(&layout, block, marker)?,
            Sink::Lent(_) => drop(driver.lent.insert(key, marker)),
            Sink::Discard => {}
        }
        driver.machine.handle_input(now, ShardInput::BlockEnd(key));
        Ok(())
    }

    pub(crate) fn on_verified(
        &mut self,
        host: usize,
        shard: usize,
        piece: PieceIndex,
        verdict: Verdict,
    ) -> Result<(), String> {
        if !self.hosts[host].here {
            return Ok(());
        }
        let right = matches!(verdict, Verdict::Right(_));
        self.shard_input(host, shard, ShardInput::Verified(piece, verdict))?;
        if right {
            let slowest = self.node(host).disk_spec.write;
            let delay = self.some_time(slowest);
            self.after(delay, Event::Written { host, shard, piece });
        }
        Ok(())
    }

    pub(crate) fn on_written(&mut self, host: usize, shard: usize, piece: PieceIndex) -> Result<(), String> {
        if !self.hosts[host].here {
            return Ok(());
        }
        let fails = self.node(host).disk_spec.fails_one_in as usize;
        let written = fails == 0 || !self.rng.one_in(fails);
        if written {
            self.node(host).disk[piece.index()] = true;
        }
        self.shard_input(host, shard, ShardInput::Written(piece, written))?;
        if written {
            self.note_piece(host, piece);
            self.note_completion(host);
        }
        Ok(())
    }
}

/// The machine hears messages of a peer, in order.
fn hear(now: Instant, machine: &mut TorrentShard, key: PeerKey, frame: Frame) {
    let mut hear = |message| machine.handle_input(now, ShardInput::Message(key, message));
    match frame {
        Frame::Message(message) => hear(message),
        Frame::Messages(messages) => messages.into_iter().for_each(hear),
        _ => {}
    }
}
