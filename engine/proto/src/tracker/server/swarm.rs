//! The peers of one torrent. What they are told, and in which form, is not decided here but for whom.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::query::AnnounceQuery;
use crate::id::PeerId;
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// One peer, known by its address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) is_seed: bool,
    /// It lacks something that it does not want (BEP 21).
    pub(super) is_partial_seed: bool,
    /// When it last announced.
    pub(super) seen: Instant,
}

impl Peer {
    const fn wants_nothing(&self) -> bool {
        self.is_seed || self.is_partial_seed
    }

    fn is_alive(&self, now: Instant, lifetime: Duration) -> bool {
        now < self.seen + lifetime
    }
}

/// Living peers of a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// With everything.
    pub(super) complete: u32,
    /// Without.
    pub(super) incomplete: u32,
    /// Of these, those that want more (BEP 21).
    pub(super) downloaders: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    peers: BTreeMap<(IpAddr, u16), Peer>,
    downloaded: u32,
}

impl Swarm {
    /// Takes in a peer that announced at `peer.seen`; refuses it where the swarm, or its address, has all the
    /// entries of `bounds` in peers that still live.
    pub(super) fn announce(
        &mut self,
        endpoint: (IpAddr, u16),
        peer: Peer,
        completed: bool,
        lifetime: Duration,
        bounds: (usize, usize),
    ) -> Result<(), String> {
        let (max_peers, max_per_address) = bounds;
        let before = self.peers.get(&endpoint).copied();
        if before.is_none() {
            if self.peers.len() >= max_peers {
                self.sweep(peer.seen, lifetime);
            }
            if self.peers.len() >= max_peers {
                return Err("this torrent has as many peers as the tracker takes".into());
            }
            let (ip, _) = endpoint;
            if self.peers.range((ip, 0)..=(ip, u16::MAX)).count() >= max_per_address {
                return Err("your address has as many peers as the tracker takes".into());
            }
        }
        // Counted only for one that was seen without everything: a number anybody can raise tells nothing.
        if completed && before.is_some_and(|before| !before.is_seed) {
            self.downloaded = self.downloaded.saturating_add(1);
        }
        self.peers.insert(endpoint, peer);
        Ok(())
    }

    /// Forgets the peer.
    pub(super) fn remove(&mut self, endpoint: (IpAddr, u16)) {
        self.peers.remove(&endpoint);
    }

    /// Forgets those not seen for a lifetime.
    pub(super) fn sweep(&mut self, now: Instant, lifetime: Duration) {
        self.peers.retain(|_, peer| peer.is_alive(now, lifetime));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// How many downloads came to their end under our eyes.
    pub(super) fn downloaded(&self) -> u32 {
        self.downloaded
    }

    /// How many living peers there are.
    pub(super) fn counts(&self, now: Instant, lifetime: Duration) -> Counts {
        let mut counts = Counts::default();
        for peer in self.peers.values().filter(|peer| peer.is_alive(now, lifetime)) {
            counts.complete += u32::from(peer.is_seed);
            counts.incomplete += u32::from(!peer.is_seed);
            counts.downloaders += u32::from(!peer.wants_nothing());
        }
        counts
    }

    /// A random choice of living peers for the one who announces: not itself, and nobody who wants nothing for one who
    /// does not either.
    pub(super) fn sample(
        &self,
        now: Instant,
        lifetime: Duration,
        source: IpAddr,
        announce: &AnnounceQuery,
        rng: &mut Rng,
    ) -> Vec<(IpAddr, u16, Peer)> {
        if announce.numwant == 0 {
            return Vec::new();
        }
        let itself = (source, announce.port);
        let useful = self.peers.iter().filter(|&(&endpoint, peer)| {
            endpoint != itself
                && peer.is_alive(now, lifetime)
                && !(announce.wants_nothing() && peer.wants_nothing())
        });
        let mut chosen: Vec<_> = useful.map(|(&(ip, port), &peer)| (ip, port, peer)).collect();
        let count = announce.numwant.min(chosen.len());
        // The first steps of a shuffle: each set of `count` is as likely as any other.
        for i in 0..count {
            let j = i + rng.below(chosen.len() - i);
            chosen.swap(i, j);
        }
        chosen.truncate(count);
        chosen
    }
}
