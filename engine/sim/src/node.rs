//! An honest node: a core and its shards, driven as the engine drives them. What the machines say is done in order;
//! what crosses between them takes a while, and overtakes nothing on its channel.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ringtide_proto::id::InfoHash;
use ringtide_proto::layout::PieceIndex;
use ringtide_proto::peer_list::PeerSource;
use ringtide_proto::rng::Rng;
use ringtide_proto::time::{Duration, Instant};
use ringtide_proto::torrent::{
    Budget, CoreAction, CoreConfig, CoreInput, Outgoing, PartReason, PeerKey, ShardAction, ShardConfig,
    ShardId, ShardInput, ShardMessage, ShardToCore, SharedPieces, Sink, TorrentCore, TorrentShard, Verdict,
};

use crate::connect::peer_id;
use crate::disk::{Buffers, Marker};
use crate::scenario::{Disk, Role, Scenario};
use crate::wire::{Frame, frames};
use crate::world::{Actor, Event, Machine, Parcel, World, address};

/// How often the tracker is asked.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);

/// How late a timer may be: a busy thread comes to it when it can.
const TIMER_SLACK: Duration = Duration::from_micros(500);

/// A shard and what its driver holds for it.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) machine: TorrentShard,
    /// Which connection, and which side of it, each peer is.
    pub(crate) peers: BTreeMap<PeerKey, (usize, usize)>,
    pub(crate) buffers: Buffers,
    /// Blocks that came for another shard and were not sent on yet.
    lent: BTreeMap<PeerKey, Marker>,
    timer: Option<Instant>,
    steps: u64,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) core: TorrentCore,
    pub(crate) shards: Vec<Shard>,
    pub(crate) pieces: Arc<SharedPieces>,
    pub(crate) budget: Arc<Budget>,
    /// What is on the disk and right.
    pub(crate) disk: Vec<bool>,
    disk_spec: Disk,
    /// Pieces that are still to be looked for.
    unchecked: Vec<u32>,
    has: Vec<u32>,
    core_timer: Option<Instant>,
    /// When the last message on each channel arrives: from, to; the core is the one after the shards.
    channels: BTreeMap<(usize, usize), Instant>,
}

impl Node {
    pub(crate) fn new(scenario: &Scenario, id: usize, rng: &mut Rng) -> Self {
        let Role::Honest { shards, has, checks, budget, disk } = &scenario.hosts[id].role else {
            unreachable!("a villain is no node")
        };
        let layout = scenario.layout;
        let pieces = Arc::new(SharedPieces::unchecked(layout.piece_count()));
        let unchecked = if *checks { layout.pieces().map(PieceIndex::number).collect() } else { Vec::new() };
        if !checks {
            for piece in layout.pieces() {
                pieces.checked(piece, has.contains(&piece.number()));
            }
        }
        let limit = u64::from(*budget) * u64::from(layout.nominal_piece_len());
        let budget = Arc::new(Budget::new(limit));
        let config = |shard: u8, rng: &mut Rng| ShardConfig {
            id: ShardId(shard),
            shards: *shards,
            info_hash: InfoHash([9; 20]),
            layout,
            pieces: Arc::clone(&pieces),
            budget: Arc::clone(&budget),
            listen_port: Some(address(id).port()),
            rng: rng.fork(),
        };
        let shard = |number: u8| Shard {
            machine: TorrentShard::new(config(number, rng)),
            peers: BTreeMap::new(),
            buffers: Buffers::default(),
            lent: BTreeMap::new(),
            timer: None,
            steps: 0,
        };
        let made: Vec<Shard> = (0..*shards).map(shard).collect();
        let core = CoreConfig {
            our_id: peer_id(id),
            shards: *shards,
            max_peers: 50,
            pieces: Arc::clone(&pieces),
            rng: rng.fork(),
        };
        Self {
            core: TorrentCore::new(Instant::ZERO + scenario.hosts[id].joins_at, core),
            shards: made,
            pieces,
            budget,
            disk: layout.pieces().map(|piece| has.contains(&piece.number())).collect(),
            disk_spec: *disk,
            unchecked,
            has: has.clone(),
            core_timer: None,
            channels: BTreeMap::new(),
        }
    }
}

impl World<'_> {
    pub(crate) fn node(&mut self, host: usize) -> &mut Node {
        match &mut self.hosts[host].actor {
            Actor::Node(node) => node,
            Actor::Villain(_) => unreachable!("host {host} is a villain"),
        }
    }

    pub(crate) fn node_joins(&mut self, host: usize) -> Result<(), String> {
        if !self.node(host).unchecked.is_empty() {
            self.after(Duration::from_millis(300), Event::Check(host));
        }
        self.on_tracker(host)
    }

    /// The tracker names some of those who are or were there, the node itself among them.
    pub(crate) fn on_tracker(&mut self, host: usize) -> Result<(), String> {
        if !self.hosts[host].here {
            return Ok(());
        }
        self.after(ANNOUNCE_EVERY, Event::Tracker(host));
        let dead = (0..self.scenario.dead_addresses).map(|n| SocketAddr::from(([10, 200, 1, n], 6881)));
        let mut addrs: Vec<SocketAddr> = self.hosts.iter().map(|host| host.addr).chain(dead).collect();
        self.rng.shuffle(&mut addrs);
        addrs.truncate(50);
        self.core_input(host, CoreInput::Candidates(addrs, PeerSource::Tracker))
    }

    /// Some more pieces were looked for on disk.
    pub(crate) fn on_check(&mut self, host: usize) -> Result<(), String> {
        let (layout, batch) = (self.scenario.layout, 1 + self.rng.below(8));
        let node = self.node(host);
        let (mut found, mut lacking) = (Vec::new(), Vec::new());
        for _ in 0..batch.min(node.unchecked.len()) {
            let number = node.unchecked.remove(0);
            let Some(piece) = layout.piece(number) else { continue };
            let good = node.has.contains(&number);
            if node.pieces.checked(piece, good) {
                if good { found.push(piece) } else { lacking.push(piece) }
            }
        }
        if !node.unchecked.is_empty() {
            let delay = self.some_time(Duration::from_millis(500));
            self.after(delay, Event::Check(host));
        }
        self.core_input(host, CoreInput::Checked { found, lacking })
    }

    pub(crate) fn core_input(&mut self, host: usize, input: CoreInput) -> Result<(), String> {
        let now = self.now;
        self.node(host).core.handle_input(now, input);
        self.drive_core(host)
    }

    pub(crate) fn shard_input(&mut self, host: usize, shard: usize, input: ShardInput) -> Result<(), String> {
        let now = self.now;
        self.node(host).shards[shard].machine.handle_input(now, input);
        self.drive_shard(host, shard)
    }

    pub(crate) fn on_timer(&mut self, host: usize, machine: Machine) -> Result<(), String> {
        let (now, here) = (self.now, self.hosts[host].here);
        let node = self.node(host);
        let timer = match machine {
            Machine::Core => &mut node.core_timer,
            Machine::Shard(shard) => &mut node.shards[shard].timer,
        };
        if !here || timer.is_none_or(|at| at > now) {
            return Ok(());
        }
        *timer = None;
        match machine {
            Machine::Core => {
                node.core.handle_timeout(now);
                self.drive_core(host)
            }
            Machine::Shard(shard) => {
                node.shards[shard].machine.handle_timeout(now);
                self.drive_shard(host, shard)
            }
        }
    }

    fn drive_core(&mut self, host: usize) -> Result<(), String> {
        while let Some(action) = self.node(host).core.poll_action() {
            self.do_for_core(host, action)?;
        }
        self.node(host).core.check_invariants();
        let wanted = self.node(host).core.poll_timeout();
        let slack = self.some_time(TIMER_SLACK);
        let timer = &mut self.node(host).core_timer;
        if let Some(at) = sooner(timer, wanted, slack) {
            self.at(at, Event::Timer(host, Machine::Core));
        }
        Ok(())
    }

    fn do_for_core(&mut self, host: usize, action: CoreAction) -> Result<(), String> {
        let core = self.node(host).shards.len();
        match action {
            CoreAction::Send(to, message) => {
                self.mail(host, core, usize::from(to.0), Parcel::FromCore(message));
            }
            CoreAction::Dial(to, addr) => self.mail(host, core, usize::from(to.0), Parcel::Dial(addr)),
            CoreAction::Banned(addr) => {
                self.bans += 1;
                self.check_ban(host, addr)?;
            }
            CoreAction::Completed => self.check_completion(host)?,
            CoreAction::HashFailed(_) => {}
        }
        Ok(())
    }

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
            if let Some(&(conn, side)) = self.node(host).shards[shard].peers.get(&peer) {
                self.conns[conn].ends[side].ready = true;
                self.pump(conn, side)?;
            }
        }
        let wanted = self.node(host).shards[shard].machine.poll_timeout();
        let slack = self.some_time(TIMER_SLACK);
        if let Some(at) = sooner(&mut self.node(host).shards[shard].timer, wanted, slack) {
            self.at(at, Event::Timer(host, Machine::Shard(shard)));
        }
        self.node(host).shards[shard].steps += 1;
        let steps = self.node(host).shards[shard].steps;
        self.check_shard(host, shard, steps)
    }

    fn do_for_shard(&mut self, host: usize, shard: usize, action: ShardAction) -> Result<(), String> {
        let core = self.node(host).shards.len();
        match action {
            ShardAction::Ready(_) => {}
            ShardAction::Disconnect(peer, reason) => self.disconnect(host, shard, peer, reason)?,
            ShardAction::Verify { piece, digests } => {
                let verdict = self.node(host).shards[shard].buffers.verdict(piece, digests)?;
                let slowest = self.node(host).disk_spec.verify;
                let delay = self.some_time(slowest);
                self.after(delay, Event::Verified { host, shard, piece, verdict });
            }
            ShardAction::Drop(piece) => drop(self.node(host).shards[shard].buffers.take(piece)),
            ShardAction::Send(to, message) => {
                let parcel = match &message {
                    ShardMessage::Handover(open) => {
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
        let end = self.node(host).shards[shard].peers.remove(&peer);
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

    fn mail(&mut self, host: usize, from: usize, to: usize, parcel: Parcel) {
        let at = self.channel(host, from, to);
        self.at(at, Event::ToShard { host, from, to, parcel });
    }

    fn report(&mut self, host: usize, from: usize, core: usize, message: ShardToCore) {
        let at = self.channel(host, from, core);
        self.at(at, Event::ToCore { host, from, message });
    }

    pub(crate) fn on_report(&mut self, host: usize, from: usize, message: ShardToCore) -> Result<(), String> {
        if !self.hosts[host].here {
            return Ok(());
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
                if let (ShardMessage::Handover(open), Some(buffer)) = (&message, buffer) {
                    self.node(host).shards[to].buffers.put(open.piece(), buffer)?;
                }
                self.shard_input(host, to, ShardInput::FromShard(sender, message))
            }
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

    /// Sends while the machine has something and the socket takes it.
    pub(crate) fn pump(&mut self, conn: usize, side: usize) -> Result<(), String> {
        while self.conns[conn].ends[side].ready && self.conns[conn].ends[side].up && self.has_room(conn, side)
        {
            let end = &self.conns[conn].ends[side];
            let (host, shard) = (end.host, end.shard);
            let (Some(key), now) = (end.key, self.now) else { return Ok(()) };
            let Some(outgoing) = self.node(host).shards[shard].machine.poll_message(now, key) else {
                self.conns[conn].ends[side].ready = false;
                return Ok(());
            };
            if let Outgoing::Block(span) = &outgoing {
                self.check_upload(host, *span)?;
            }
            for frame in frames(outgoing, self.part(conn)) {
                self.check_sent(conn, side, &frame)?;
                self.send(conn, side, frame);
            }
        }
        Ok(())
    }

    /// The socket has room again.
    pub(crate) fn on_taken(
        &mut self,
        conn: usize,
        side: usize,
        bytes: u64,
        payload: u64,
    ) -> Result<(), String> {
        let end = &mut self.conns[conn].ends[side];
        end.under_way -= bytes;
        if end.up {
            self.flush(conn, side);
        }
        let end = &self.conns[conn].ends[side];
        let (Some(key), host, shard) = (end.key.filter(|_| end.up), end.host, end.shard) else {
            return Ok(());
        };
        if payload > 0 {
            self.shard_input(host, shard, ShardInput::Sent(key, payload))?;
        }
        self.pump(conn, side)
    }

    /// Something came for that side of the connection.
    pub(crate) fn on_arrival(&mut self, conn: usize, side: usize, frame: Frame) -> Result<(), String> {
        let end = &self.conns[conn].ends[side];
        if !end.up {
            return Ok(());
        }
        let (host, shard) = (end.host, end.shard);
        let Some(key) = end.key else { return self.villain_hears(conn, side, frame) };
        self.check_heard(conn, side, &frame)?;
        let (now, layout) = (self.now, self.scenario.layout);
        let driver = &mut self.node(host).shards[shard];
        match frame {
            Frame::Message(message) => self.shard_input(host, shard, ShardInput::Message(key, message)),
            Frame::Begin(span) => {
                driver.machine.begin_block(now, key, span);
                self.drive_shard(host, shard)
            }
            Frame::Part(_) => {
                driver.machine.arriving_sink(now, key);
                self.drive_shard(host, shard)
            }
            Frame::End(_, marker, _) => {
                match driver.machine.arriving_sink(now, key) {
                    Sink::Piece(block) => driver.buffers.store(&layout, block, marker)?,
                    Sink::Lent(_) => drop(driver.lent.insert(key, marker)),
                    Sink::Discard => {}
                }
                self.shard_input(host, shard, ShardInput::BlockEnd(key))
            }
        }
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
        self.shard_input(host, shard, ShardInput::Written(piece, written))
    }
}

/// Sets the timer where it is wanted sooner than it is set; when it is to ring then.
fn sooner(timer: &mut Option<Instant>, wanted: Option<Instant>, slack: Duration) -> Option<Instant> {
    let at = wanted.filter(|&at| timer.is_none_or(|set| at < set))? + slack;
    *timer = Some(timer.map_or(at, |set| set.min(at)));
    *timer
}
