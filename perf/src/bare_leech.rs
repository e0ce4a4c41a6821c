//! `BareLeech`: fetches an image as cheaply as the machine can, to know the floor under every client.
//!
//! Each of its peers must be a seed; the pieces are split evenly among them, so equal seeds are presumed. There is no
//! picker, no choking, no time-out of requests and no second try: it is a yardstick and must not face strangers.
//!
//! Threads receive, as many as there are peers or cores, whichever is less; one more hashes batches of pieces in lanes and
//! writes them. This file owns the threads and the memory; `connection` what is said to a peer, `asks` what is asked
//! of it, `frames` how its stream is cut, `pieces` the buffers, `verify` hashing and writing.

mod asks;
mod connection;
mod frames;
mod pieces;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use crossbeam::channel::unbounded;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::connection::{Connection, Place};
use self::pieces::Pieces;
pub use self::verify::Output;
use self::verify::Verifier;
use crate::memory;
use crate::one_file::OneFile;

/// Bytes received with one system call where blocks are discarded: they stay in the L2 cache.
const RECEIVE_LEN: usize = 256 << 10;

/// Pieces hashed together: the lanes of AVX-512.
const BATCH: usize = 16;

/// Bytes hashed together, unless a single piece has more. Above the largest caches it brings nothing to have more.
const BATCH_BYTES: usize = 64 << 20;

/// Batches that there is memory for: one is filled, one is emptied, and two make up for a thread that has to wait for a core.
/// Each peer may be in the middle of one more piece.
const BATCHES: usize = 4;

/// How long all peers may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done with the pieces.
#[derive(Debug)]
pub enum Work {
    /// Nothing: blocks are received and discarded.
    Receive,
    /// They are verified.
    Hash,
    /// They are verified and written.
    Write(Output),
}

/// A leech of one torrent.
#[derive(Debug)]
pub struct BareLeech {
    /// The torrent.
    pub torrent: OneFile,
    /// Most blocks to have asked of a peer at a time.
    pub depth: usize,
    /// What is done with the pieces.
    pub work: Work,
}

/// Why a leech failed.
#[derive(Debug)]
pub enum Failure {
    /// A peer cannot be reached, said nonsense, or closed the connection.
    Peer(SocketAddr, io::Error),
    /// A piece does not have its digest.
    Corrupt {
        /// Number of the piece.
        piece: u32,
    },
    /// A piece cannot be written.
    Write(io::Error),
    /// There is no memory for the pieces.
    Memory(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer, error) => write!(f, "peer {peer}: {error}"),
            Self::Corrupt { piece } => write!(f, "piece {piece} is corrupt: does the image fit the torrent?"),
            Self::Write(error) => write!(f, "cannot write a piece: {error}"),
            Self::Memory(error) => write!(f, "no memory for pieces: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl BareLeech {
    /// Fetches all pieces and does the work. Returns the payload that was received, in bytes.
    ///
    /// # Errors
    /// The first failure; a corrupt piece goes before what follows from it.
    pub fn run(&self, peers: &[SocketAddr]) -> Result<u64, Failure> {
        let groups = self.groups(peers);
        match &self.work {
            Work::Receive => thread::scope(|scope| {
                let receivers: Vec<_> =
                    groups.iter().map(|group| scope.spawn(|| self.receive(group, None))).collect();
                receivers.into_iter().map(join).sum()
            }),
            Work::Hash => self.receive_and_verify(&groups, None),
            Work::Write(output) => self.receive_and_verify(&groups, Some(output)),
        }
    }

    fn receive_and_verify(&self, groups: &[Vec<Share>], output: Option<&Output>) -> Result<u64, Failure> {
        let layout = &self.torrent.layout;
        let piece_len = layout.nominal_piece_len() as usize;
        let batch_len = (BATCH_BYTES / piece_len).clamp(1, BATCH);
        let buffers = |group: &Vec<Share>| BATCHES * batch_len + group.len();
        let mut buffer_memory =
            memory::huge(groups.iter().map(buffers).sum::<usize>() * piece_len).map_err(Failure::Memory)?;
        let mut unused = buffer_memory.chunks_mut(piece_len);
        let (filled, batches) = unbounded();
        thread::scope(|scope| {
            let (mut back, mut receivers) = (Vec::new(), Vec::new());
            for (number, group) in groups.iter().enumerate() {
                let (emptied, returned) = unbounded();
                back.push(emptied);
                let free = unused.by_ref().take(buffers(group)).collect();
                let pieces = Pieces::new(number, *layout, batch_len, free, filled.clone(), returned);
                receivers.push(scope.spawn(|| self.receive(group, Some(pieces))));
            }
            drop(filled);
            let verifier = Verifier { layout, hashes: &self.torrent.hashes, output };
            let verified = verifier.run(&batches, &back);
            drop((batches, back));
            let received = receivers.into_iter().map(join).sum();
            verified.and(received)
        })
    }

    /// One thread's receiving.
    fn receive(&self, group: &[Share], pieces: Option<Pieces<'_>>) -> Result<u64, Failure> {
        let mut connections = Vec::with_capacity(group.len());
        for (peer, pieces) in group {
            let opened = Connection::open(*peer, &self.torrent, pieces.clone(), self.depth);
            connections.push((*peer, opened.map_err(|error| Failure::Peer(*peer, error))?));
        }
        let mut place = Place { pieces, buffer: vec![0; RECEIVE_LEN] };
        let bytes = match &mut connections[..] {
            [(peer, only)] => receive_from_one(only, &mut place).map_err(|error| Failure::Peer(*peer, error)),
            _ => receive_from_many(connections, &mut place),
        }?;
        if let Some(pieces) = &mut place.pieces {
            // Refused only where verifying has failed, which is told instead.
            let _ = pieces.send_off();
        }
        Ok(bytes)
    }

    /// Splits the pieces among the peers, and the peers among as many threads as there are cores.
    fn groups(&self, peers: &[SocketAddr]) -> Vec<Vec<Share>> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(peers.len());
        let mut groups = vec![Vec::new(); threads];
        for (number, &peer) in peers.iter().enumerate() {
            let bound = |number| {
                (u64::from(self.torrent.layout.piece_count()) * number as u64 / peers.len() as u64) as u32
            };
            let share = bound(number)..bound(number + 1);
            if !share.is_empty() {
                groups[number % threads].push((peer, share));
            }
        }
        groups
    }
}

/// A peer and the pieces that are asked of it.
type Share = (SocketAddr, Range<u32>);

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
}

fn receive_from_one(connection: &mut Connection, place: &mut Place<'_>) -> io::Result<u64> {
    connection.stream().set_read_timeout(Some(PATIENCE))?;
    while !connection.is_done() {
        match connection.receive(place) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(silent()),
            other => other?,
        }
    }
    Ok(connection.bytes())
}

fn receive_from_many(
    mut connections: Vec<(SocketAddr, Connection)>,
    place: &mut Place<'_>,
) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some((first, _)) = connections.first() {
        let ready = wait(&connections).map_err(|error| Failure::Peer(*first, error))?;
        for ((peer, connection), _) in connections.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            match connection.receive(place) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => other.map_err(|error| Failure::Peer(*peer, error))?,
            }
        }
        connections.retain(|(_, connection)| {
            bytes += if connection.is_done() { connection.bytes() } else { 0 };
            !connection.is_done()
        });
    }
    Ok(bytes)
}

/// Waits until there is something to read; tells of each connection whether there is.
fn wait(connections: &[(SocketAddr, Connection)]) -> io::Result<Vec<bool>> {
    let mut fds: Vec<_> =
        connections.iter().map(|(_, connection)| PollFd::new(connection.stream(), PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut fds, Some(&patience)) {
        Ok(0) => Err(silent()),
        Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
        _ => Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
    }
}

fn silent() -> io::Error {
    io::Error::new(
        ErrorKind::TimedOut,
        format!("it has said nothing for {} s: does it choke us?", PATIENCE.as_secs()),
    )
}
