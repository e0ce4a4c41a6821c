//! The end of a connection: who is told, what is under way, and when its place is free again.

use ringtide_proto::time::Instant;
use ringtide_proto::torrent::ShardInput;

use super::connection::{Connection, Stage};
use super::token::{Purpose, token};
use super::{Shard, ToControl};

impl Shard {
    /// The connection ended from the other side, or cannot go on: whoever waits for it is told.
    pub(super) fn close(&mut self, now: Instant, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let addr = connection.addr;
        match std::mem::replace(&mut connection.stage, Stage::Closed) {
            Stage::Open(open) => {
                self.end_operations(index);
                self.input(now, open.torrent, ShardInput::Closed(open.peer));
            }
            Stage::Dialling(torrent) | Stage::Greeting { torrent: Some(torrent), .. } => {
                let outgoing = connection.outgoing;
                self.end_operations(index);
                if outgoing {
                    self.report(ToControl::DialFailed(torrent, addr));
                }
            }
            Stage::Greeting { torrent: None, .. } | Stage::Closed => self.end_operations(index),
        }
    }

    /// The machine parted with the peer and knows.
    pub(super) fn drop_connection(&mut self, index: usize) {
        if let Some(connection) = self.connections[index].as_mut() {
            connection.stage = Stage::Closed;
            self.end_operations(index);
        }
    }

    /// Shuts the socket and asks what is under way to end. With an armed receive, closing alone sends no FIN.
    fn end_operations(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        if let Some(socket) = connection.socket.take() {
            socket.shutdown();
        }
        for purpose in [Purpose::Connect, Purpose::Greet, Purpose::Receive, Purpose::Send] {
            self.driver.cancel(token(purpose, index, 0));
        }
        self.release_if_over(index, Purpose::Receive);
    }

    /// Frees the place of a connection that is over.
    pub(super) fn release_if_over(&mut self, index: usize, purpose: Purpose) {
        if matches!(purpose, Purpose::Accept | Purpose::Write) {
            return;
        }
        let over = self.connections[index].as_ref().is_some_and(|connection| {
            connection.operations == 0 && matches!(connection.stage, Stage::Closed)
        });
        if over {
            self.connections[index] = None;
            self.vacant.push(index);
            self.counters().peers.subtract(1);
        }
    }

    /// Closes what took too long to connect, to greet or to take what it was sent.
    pub(super) fn close_overdue(&mut self, now: Instant) {
        for index in 0..self.connections.len() {
            let overdue =
                self.connections[index].as_ref().is_some_and(|connection| connection.is_overdue(now));
            if overdue {
                self.close(now, index);
            } else if self.connections[index].as_mut().is_some_and(Connection::rest) {
                self.leave_doorstep(index);
            }
        }
    }
}
