//! What peers ask of us, and what is sent to them.

use super::super::PeerKey;
use super::TorrentShard;
use crate::layout::Span;
use crate::limits::{MAX_PENDING_REPLIES, MAX_QUEUED_REQUESTS, MAX_REQUEST_LEN};
use crate::time::Instant;
use crate::wire::{Message, RawSpan};

/// Something to send to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A message.
    Message(Message),
    /// A block: a header and these bytes, which are on disk and right.
    Block(Span),
}

impl TorrentShard {
    /// The next thing to send to the peer; to be called when its socket can take more. Once it gives nothing, the
    /// next [`ShardAction::Ready`](crate::torrent::ShardAction::Ready) tells when there is more.
    pub fn poll_message(&mut self, now: Instant, key: PeerKey) -> Option<Outgoing> {
        let next = self.next_outgoing(now, key);
        self.note_polled(now, key, next.is_some());
        next
    }

    /// The next message to send to the peer, and no block: while blocks that were given before are still being read. Once it
    /// gives nothing, [`ShardAction::Ready`](crate::torrent::ShardAction::Ready) tells of the next message; of blocks it may
    /// not, so [`poll_message`](Self::poll_message) has to be called when those are sent.
    pub fn poll_control(&mut self, now: Instant, key: PeerKey) -> Option<Message> {
        let message = self.next_control(key);
        self.note_polled(now, key, message.is_some());
        message
    }

    /// The peer was given something, or there is nothing until it is ready again.
    fn note_polled(&mut self, now: Instant, key: PeerKey, given: bool) {
        match self.peer_mut(key) {
            Some(peer) if given => peer.last_sent = now,
            Some(peer) => peer.ready = false,
            None => {}
        }
    }

    /// The blocks that the peer is to get after those it was given, in their order.
    pub fn queued_uploads(&self, key: PeerKey) -> impl Iterator<Item = Span> + '_ {
        self.peer(key).into_iter().flat_map(|peer| peer.uploads.iter().copied())
    }

    /// How many answers the peer is still to get: blocks that are queued, and rejects.
    pub fn owes(&self, key: PeerKey) -> usize {
        self.peer(key).map_or(0, |peer| peer.uploads.len() + peer.pending_rejects)
    }

    fn next_outgoing(&mut self, now: Instant, key: PeerKey) -> Option<Outgoing> {
        if let Some(message) = self.next_control(key) {
            return Some(Outgoing::Message(message));
        }
        let bytes = self.peer(key)?.uploads.front()?.len();
        if !self.pacing_up.take(now, key, bytes) {
            return None;
        }
        let span = self.peer_mut(key)?.uploads.pop_front()?;
        self.note_leaving(now, key, span.piece(), bytes);
        self.note_given(now, key, span.piece(), bytes);
        Some(Outgoing::Block(span))
    }

    fn next_control(&mut self, key: PeerKey) -> Option<Message> {
        let Self { slots, have_log, .. } = self;
        let slot = slots.get_mut(key.slot()).filter(|slot| slot.generation == key.generation)?;
        let peer = slot.peer.as_deref_mut()?;
        if let Some(message) = peer.next_queued() {
            return Some(message);
        }
        if let Some(piece) = peer.next_to_tell(have_log) {
            peer.haves_told += 1;
            return Some(Message::Have { piece: piece.number() });
        }
        let id = peer.upload_only_due.take()?;
        Some(Message::Extended { id, payload: vec![1] })
    }

    pub(super) fn on_sent(&mut self, now: Instant, key: PeerKey, bytes: u64) {
        if let Some(peer) = self.peer_mut(key) {
            peer.uploaded += bytes;
            peer.last_sent = now;
        }
    }

    pub(super) fn on_request(&mut self, now: Instant, key: PeerKey, raw: RawSpan) {
        let span = self.config.layout.span(raw.piece, raw.begin, raw.length);
        // A simulated torrent may have coarser blocks than any peer would ask for on a wire.
        let longest = MAX_REQUEST_LEN.max(self.config.layout.block_len());
        let Some(span) = span.filter(|span| span.len() <= longest) else {
            return self.offend(now, key);
        };
        let have = self.have.contains(span.piece());
        let Some(peer) = self.peer_mut(key) else { return };
        let allowed = !peer.am_choking || peer.allowed_by_us.contains(&span.piece());
        if have && allowed && peer.uploads.len() < MAX_QUEUED_REQUESTS {
            peer.uploads.push_back(span);
            self.make_ready(key);
            self.note_taken(now, key, span.piece());
        } else {
            self.reject(now, key, raw);
        }
    }

    pub(super) fn on_cancel(&mut self, now: Instant, key: PeerKey, raw: RawSpan) {
        let Some(span) = self.config.layout.span(raw.piece, raw.begin, raw.length) else { return };
        let Some(peer) = self.peer_mut(key) else { return };
        let Some(at) = peer.uploads.iter().position(|&queued| queued == span) else { return };
        peer.uploads.remove(at);
        self.note_dropped(now, key, span.piece());
        // BEP 6: a cancel is answered by the block or by a reject.
        self.reject(now, key, raw);
    }

    /// BEP 6: a reject answers every request that will not be served. Without the extension, silence does.
    fn reject(&mut self, now: Instant, key: PeerKey, raw: RawSpan) {
        let Some(peer) = self.peer(key).filter(|peer| peer.fast) else { return };
        if peer.pending_rejects >= MAX_PENDING_REPLIES {
            return self.offend(now, key);
        }
        self.say(key, Message::RejectRequest(raw));
    }

    pub(super) fn unchoke(&mut self, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        if std::mem::replace(&mut peer.am_choking, false) {
            // First, or it would ask for what comes to its mind.
            self.suggest(key);
            self.say(key, Message::Unchoke);
        }
    }

    pub(super) fn choke(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peer_mut(key) else { return };
        if std::mem::replace(&mut peer.am_choking, true) {
            return;
        }
        let allowed = &peer.allowed_by_us;
        let (kept, dropped): (Vec<Span>, Vec<Span>) =
            peer.uploads.drain(..).partition(|span| allowed.contains(&span.piece()));
        peer.uploads.extend(kept);
        let suggested = peer.courier.rest();
        self.take_suggestions_back(suggested);
        self.say(key, Message::Choke);
        for span in dropped {
            self.note_dropped(now, key, span.piece());
            self.reject(now, key, raw(span));
        }
    }
}

fn raw(span: Span) -> RawSpan {
    RawSpan { piece: span.piece().number(), begin: span.begin(), length: span.len() }
}
