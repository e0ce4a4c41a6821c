//! From accepting or dialling to a peer. Its end is in `parting`.

use std::io;
use std::net::SocketAddr;

use ringtide_proto::limits::{BLOCK_LEN, HANDSHAKE_TIMEOUT, MAX_EXTENDED_LEN};
use ringtide_proto::time::Instant;
use ringtide_proto::torrent::NewPeer;
use ringtide_proto::wire::{Bounds, Decoder, HANDSHAKE_LEN, Handshake, Reserved};

use super::connection::{Connection, Open, Stage};
use super::landing::Lane;
use super::message::Adopted;
use super::seats::Seat;
use super::token::{Purpose, token};
use super::{Shard, SharedTorrent, ToControl, ToShard};
use crate::driver::{Op, Socket};
use crate::event::TorrentId;

impl Shard {
    pub(super) fn accept(&mut self, listener: usize) {
        let socket = self.listeners[listener].clone();
        self.driver.push(token(Purpose::Accept, listener, 0), Op::Accept { listener: socket });
    }

    pub(super) fn on_accepted(
        &mut self,
        now: Instant,
        listener: usize,
        result: io::Result<(Socket, SocketAddr)>,
        last: bool,
    ) {
        match result {
            // Without a place for it the connection closes as it is dropped.
            Ok((socket, addr)) => {
                if let Some(seat) = self.common.seats.take() {
                    self.welcome(now, socket, addr, seat);
                }
            }
            Err(error) => tracing::warn!(%error, "accepting peers"),
        }
        if last {
            self.deaf.push(listener);
        }
    }

    /// Awaits the handshake of one who dialled us.
    fn welcome(&mut self, now: Instant, socket: Socket, addr: SocketAddr, seat: Seat) {
        let (stage, deadline) = (Connection::greeting(None), now + HANDSHAKE_TIMEOUT);
        let index = self.add_connection(Connection::new(addr, false, stage, deadline, seat));
        self.with_socket(index, socket);
        self.greet_more(index);
    }

    pub(super) fn dial(&mut self, now: Instant, torrent: TorrentId, addr: SocketAddr) {
        let refused = self.refuses(torrent);
        let Some(seat) = self.common.seats.take().filter(|_| !refused) else {
            return self.report(ToControl::DialFailed(torrent, addr));
        };
        let (stage, deadline) = (Stage::Dialling(torrent), now + HANDSHAKE_TIMEOUT);
        let connection = Connection::new(addr, true, stage, deadline, seat);
        let index = self.add_connection(connection);
        self.start(index, Purpose::Connect, 0, Op::Connect { addr, bind: None });
    }

    pub(super) fn on_connected(&mut self, now: Instant, index: usize, result: io::Result<Socket>) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let Stage::Dialling(torrent) = connection.stage else { return };
        let Ok(socket) = result else { return self.close(now, index) };
        connection.stage = Connection::greeting(Some(torrent));
        connection.deadline = now + HANDSHAKE_TIMEOUT;
        self.with_socket(index, socket);
        self.push_handshake(index, torrent);
        self.send_batch(now, index, 0);
        self.greet_more(index);
    }

    /// Receives what is missing of the handshake, and not a byte of what follows.
    fn greet_more(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let Stage::Greeting { received, .. } = &connection.stage else { return };
        let (max, Some(socket)) = (HANDSHAKE_LEN - received.len(), connection.socket.clone()) else { return };
        self.start(index, Purpose::Greet, 0, Op::RecvSome { socket, max });
    }

    pub(super) fn on_greeting(&mut self, now: Instant, index: usize, bytes: &[u8]) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let Stage::Greeting { torrent, received } = &mut connection.stage else { return };
        received.extend_from_slice(bytes);
        if let Err(error) = Handshake::check_prefix(received) {
            tracing::debug!(addr = %connection.addr, %error, "no handshake");
            return self.close(now, index);
        }
        let Ok(whole) = <&[u8; HANDSHAKE_LEN]>::try_from(received.as_slice()) else {
            return self.greet_more(index);
        };
        let (expected, Ok(handshake)) = (*torrent, Handshake::parse(whole)) else {
            return self.close(now, index);
        };
        let found = self.by_hash.get(&handshake.info_hash).copied();
        match found {
            Some(found) if expected.is_none_or(|expected| expected == found) => {
                self.on_handshake(now, index, found, handshake);
            }
            _ => self.close(now, index),
        }
    }

    /// The handshake is here: an incoming connection may go to another shard that has fewer peers.
    fn on_handshake(&mut self, now: Instant, index: usize, torrent: TorrentId, handshake: Handshake) {
        let outgoing = self.connections[index].as_ref().is_some_and(|connection| connection.outgoing);
        if outgoing {
            return self.open(now, index, torrent, handshake);
        }
        match self.idlest_shard() {
            shard if shard == usize::from(self.id.0) => {
                self.push_handshake(index, torrent);
                self.open(now, index, torrent, handshake);
            }
            shard => self.hand_over(index, shard, torrent, handshake),
        }
    }

    /// The shard with the fewest peers; this one where it is as good as any.
    fn idlest_shard(&self) -> usize {
        let own = usize::from(self.id.0);
        let load = |shard: &usize| (self.common.counters[*shard].peers.value(), *shard != own);
        // This connection counts here already, and would not if it went.
        let adjusted = |shard: &usize| {
            let (peers, other) = load(shard);
            (peers - u64::from(!other && peers > 0), other)
        };
        (0..self.links.len()).min_by_key(adjusted).unwrap_or(own)
    }

    fn hand_over(&mut self, index: usize, shard: usize, torrent: TorrentId, handshake: Handshake) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let (addr, socket) = (connection.addr, connection.socket.take());
        connection.stage = Stage::Closed;
        let Some(seat) = connection.seat.take() else { return };
        match socket.map(Socket::into_fd) {
            Some(Ok(fd)) => {
                // It counts there from now on, so that the next one that comes is spread by what is decided.
                self.common.counters[shard].peers.add(1);
                self.links[shard].send(ToShard::Adopt(Adopted { torrent, fd, addr, handshake, seat }));
            }
            Some(Err(_)) => tracing::debug!(%addr, "a connection that is still in use was not handed over"),
            None => {}
        }
    }

    /// A connection that another shard accepted. It was counted as ours when it was sent.
    pub(super) fn adopt(&mut self, now: Instant, adopted: Adopted) {
        let Adopted { torrent, fd, addr, handshake, seat } = adopted;
        self.counters().peers.subtract(1);
        let Ok(socket) = self.driver.adopt(fd) else { return };
        let (stage, deadline) = (Connection::greeting(Some(torrent)), now + HANDSHAKE_TIMEOUT);
        let index = self.add_connection(Connection::new(addr, false, stage, deadline, seat));
        self.with_socket(index, socket);
        self.push_handshake(index, torrent);
        self.open(now, index, torrent, handshake);
    }

    /// The peer and we know each other: from here on its machine decides.
    fn open(&mut self, now: Instant, index: usize, torrent: TorrentId, handshake: Handshake) {
        let refuses = self.refuses(torrent);
        let Some(connection) = self.connections[index].as_ref().filter(|_| !refuses) else {
            return self.close(now, index);
        };
        let (addr, outgoing) = (connection.addr, connection.outgoing);
        let new = NewPeer {
            addr,
            id: handshake.peer_id,
            outgoing,
            fast: handshake.reserved.fast(),
            extended: handshake.reserved.extended(),
        };
        let Some(peer) = self.machine(torrent).map(|machine| machine.add_peer(now, new)) else { return };
        let Some(local) = self.torrent(torrent) else { return };
        local.connect(peer, index);
        let decoder = Decoder::new(Bounds {
            bitfield_len: ringtide_proto::bitfield::wire_len(local.shared.layout.piece_count()),
            max_block: BLOCK_LEN,
            max_extended: MAX_EXTENDED_LEN,
        });
        let open = Open {
            torrent,
            peer,
            decoder,
            lane: Lane::Shared(0),
            arriving: None,
            scratch: Vec::new(),
            wants_send: false,
            upload: None,
            ahead: None,
            sending: None,
            upload_rate: 0,
        };
        if let Some(connection) = self.connections[index].as_mut() {
            connection.stage = Stage::Open(Box::new(open));
        }
        self.receive(index);
        self.run_actions(now, torrent);
        self.make_ready(index);
    }

    /// Whether there are no peers of the torrent: its disk failed, or it is to be super-seeded and it is not known yet whether
    /// all of it is there. What peers were told before that could not be taken back.
    fn refuses(&mut self, torrent: TorrentId) -> bool {
        let Some(local) = self.torrent(torrent) else { return true };
        let SharedTorrent { policy, pieces, .. } = &*local.shared;
        local.failed || policy.super_seed && !pieces.is_complete() && !pieces.are_checked()
    }

    fn push_handshake(&mut self, index: usize, torrent: TorrentId) {
        let Some(local) = self.torrent(torrent) else { return };
        let handshake = Handshake {
            reserved: Reserved::OURS,
            info_hash: local.shared.info_hash,
            peer_id: local.shared.our_id,
        };
        if let Some(batch) = self.connections[index].as_mut().and_then(|connection| connection.batch.as_mut())
        {
            batch.push_bytes(&handshake.encode());
        }
    }

    fn add_connection(&mut self, connection: Connection) -> usize {
        self.counters().peers.add(1);
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[index] = Some(connection);
        index
    }

    fn with_socket(&mut self, index: usize, socket: Socket) {
        if let Some(connection) = self.connections[index].as_mut() {
            connection.socket = Some(socket);
        }
    }

    pub(super) fn addr_of(&self, index: usize) -> SocketAddr {
        let connection = self.connections[index].as_ref();
        connection.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |connection| connection.addr)
    }

    /// Starts an operation that belongs to the connection.
    pub(super) fn start(&mut self, index: usize, purpose: Purpose, part: usize, op: Op) {
        if let Some(connection) = self.connections[index].as_mut() {
            connection.operations += 1;
            if purpose == Purpose::Send {
                connection.quiet = 0;
            }
            self.driver.push(token(purpose, index, part), op);
        }
    }

    pub(super) fn operation_ended(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].as_mut() {
            connection.operations -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use ringtide_proto::id::PeerId;
    use ringtide_proto::torrent::SharedPieces;

    use super::super::testing::{TORRENT, shard};
    use super::*;

    #[test]
    fn a_connection_on_its_way_to_another_shard_takes_one_place() {
        let mut shard = shard(SharedPieces::complete);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(addr).expect("it listens");
        let socket = shard.driver.adopt(stream.into()).expect("a socket");
        let seat = shard.common.seats.take().expect("the first of two");
        let connection = Connection::new(addr, false, Connection::greeting(None), Instant::ZERO, seat);
        let index = shard.add_connection(connection);
        shard.with_socket(index, socket);
        let handshake = Handshake {
            reserved: Reserved::OURS,
            info_hash: shard.torrent(TORRENT).expect("it is there").shared.info_hash,
            peer_id: PeerId([2; 20]),
        };
        shard.hand_over(index, 1, TORRENT, handshake);
        let second = shard.common.seats.take();
        assert!(second.is_some(), "the second place is free while the first changes shards");
        assert!(shard.common.seats.take().is_none(), "the first is taken all the while");
    }
}
