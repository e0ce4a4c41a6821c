//! What the tests of whole transfers have in common: content, adding torrents, and waiting for their end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringtide_engine::{AddTorrent, Engine, Event, Purpose, TorrentId, TorrentStats};
use ringtide_proto::metainfo::Metainfo;

/// For telling a hang, never for judging speed.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// Bytes that differ from block to block.
pub(crate) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

pub(crate) fn add(
    engine: &Engine,
    metainfo: &Arc<Metainfo>,
    dir: &Path,
    purpose: Purpose,
    peers: &[SocketAddr],
) -> TorrentId {
    let (metainfo, target) = (Arc::clone(metainfo), dir.to_owned());
    let add = AddTorrent { metainfo, target, purpose, peers: peers.to_vec(), files: Vec::new() };
    engine.add(add).expect("a torrent is added")
}

pub(crate) fn wait_complete(engine: &Engine, torrent: TorrentId) -> TorrentStats {
    let until = Instant::now() + HANG;
    while Instant::now() < until {
        match engine.events().recv_timeout(Duration::from_secs(1)) {
            Ok(Event::Completed(found)) if found == torrent => return engine.stats(torrent),
            Ok(event @ (Event::StorageFailed(..) | Event::Failed(_))) => panic!("{event:?}"),
            _ => {}
        }
    }
    panic!("a download hangs: {:?}", engine.stats(torrent));
}
