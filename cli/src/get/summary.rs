//! `Summary`: what a download came to, for people and for programs.

use std::sync::Arc;
use std::time::Duration;

use ringtide_engine::driver::IoKind;
use ringtide_engine::{ShardStats, TorrentStats};
use ringtide_proto::metainfo::Metainfo;
use ringtide_proto::picker::Priority;
use serde_json::{Value, json};

use crate::show::numbered_files;
use crate::text::escape;
use crate::units::{Bytes, Span, count, gb_per_s};

/// What a download came to. Where files were selected, pieces and bytes are theirs.
pub(super) struct Summary {
    /// Over all torrents.
    pub(super) totals: TorrentStats,
    pub(super) torrents: Vec<Part>,
    pub(super) shards: Vec<ShardStats>,
    pub(super) io: IoKind,
    /// Most peers that were connected at once.
    pub(super) most_peers: usize,
    /// From the start of the command to the last byte on disk, or to the end without it.
    pub(super) wall: Duration,
}

/// One torrent of a download.
pub(super) struct Part {
    pub(super) torrent: Arc<Metainfo>,
    /// How much each file is wanted; none: all alike.
    pub(super) priorities: Vec<Priority>,
    pub(super) stats: TorrentStats,
}

impl Part {
    /// How many files there are, padding aside, and how many of them are wanted.
    fn files(&self) -> (usize, usize) {
        let all = numbered_files(&self.torrent);
        let wanted = |(_, index, _): &(usize, usize, _)| {
            self.priorities.get(*index).is_none_or(|&priority| priority > Priority::Skip)
        };
        (all.count(), numbered_files(&self.torrent).filter(wanted).count())
    }

    fn json(&self) -> Value {
        let (torrent, stats, (files, selected)) = (&self.torrent, &self.stats, self.files());
        json!({
            "name": torrent.name(),
            "info_hash_v1": torrent.info_hash_v1().map(|hash| hash.to_string()),
            "files": files,
            "selected_files": selected,
            "pieces": stats.pieces,
            "have": stats.have,
            "complete": stats.have == stats.pieces,
        })
    }

    fn line(&self) -> String {
        let (name, stats) = (escape(self.torrent.name()), &self.stats);
        let (files, selected) = self.files();
        let some = if selected < files {
            format!("{selected} of {}, ", count(files as u64, "file"))
        } else {
            String::new()
        };
        if stats.have == stats.pieces {
            return format!("{name}: {some}complete, {}", Bytes(stats.bytes));
        }
        format!("{name}: {some}{} of {}", stats.have, count(stats.pieces.into(), "piece"))
    }
}

impl Summary {
    pub(super) fn is_complete(&self) -> bool {
        self.totals.have == self.totals.pieces
    }

    /// How much is there, never rounded up.
    pub(super) fn percent(&self) -> String {
        let share = self.totals.have_bytes as f64 / self.totals.bytes.max(1) as f64;
        format!("{:.1} %", (share * 1000.0).floor() / 10.0)
    }

    /// `bytes` is what is on disk and right, `gb_per_s` what arrived in this run.
    pub(super) fn json(&self) -> Value {
        let shard = |shard: &ShardStats| json!({ "downloaded": shard.downloaded, "uploaded": shard.uploaded, "peers": shard.peers });
        json!({
            "bytes": self.totals.have_bytes,
            "complete": self.is_complete(),
            "downloaded": self.totals.downloaded,
            "uploaded": self.totals.uploaded,
            "wasted": self.totals.wasted,
            "direct_bytes": self.totals.direct_bytes,
            "cached_bytes": self.totals.cached_bytes,
            "wall_s": self.wall.as_secs_f64(),
            "gb_per_s": gb_per_s(self.totals.downloaded, self.wall),
            "hash_failures": self.totals.hash_failures,
            "banned": self.totals.banned,
            "peers": self.most_peers,
            "io": self.io.to_string(),
            "shards": self.shards.iter().map(shard).collect::<Vec<_>>(),
            "torrents": self.torrents.iter().map(Part::json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines: Vec<String> = self.torrents.iter().map(Part::line).collect();
        let totals = &self.totals;
        let rate = Bytes((gb_per_s(totals.downloaded, self.wall) * 1e9) as u64);
        let peers = count(self.most_peers as u64, "peer");
        let mut sum = format!("received {} in {} ({rate}/s)", Bytes(totals.downloaded), Span(self.wall));
        sum.push_str(&format!(", gave {}, at most {peers} at once, on {}", Bytes(totals.uploaded), self.io));
        if totals.hash_failures > 0 || totals.banned > 0 {
            let failures = count(totals.hash_failures, "piece");
            sum.push_str(&format!(
                "; {failures} failed the hash, {} banned",
                count(totals.banned as u64, "address")
            ));
        }
        lines.push(sum);
        lines.join("\n")
    }
}

/// The sum of two torrents' numbers.
pub(super) fn add(a: TorrentStats, b: &TorrentStats) -> TorrentStats {
    TorrentStats {
        pieces: a.pieces.saturating_add(b.pieces),
        have: a.have.saturating_add(b.have),
        bytes: a.bytes + b.bytes,
        have_bytes: a.have_bytes + b.have_bytes,
        downloaded: a.downloaded + b.downloaded,
        uploaded: a.uploaded + b.uploaded,
        wasted: a.wasted + b.wasted,
        peers: a.peers + b.peers,
        known_peers: a.known_peers + b.known_peers,
        banned: a.banned + b.banned,
        hash_failures: a.hash_failures + b.hash_failures,
        checking: a.checking || b.checking,
        direct_bytes: a.direct_bytes + b.direct_bytes,
        cached_bytes: a.cached_bytes + b.cached_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(have: u32) -> Summary {
        let totals = TorrentStats {
            pieces: 1000,
            have,
            bytes: 1000,
            have_bytes: have.into(),
            ..TorrentStats::default()
        };
        let shards = vec![ShardStats { peers: 1, downloaded: 2, uploaded: 3 }];
        Summary {
            totals,
            torrents: Vec::new(),
            shards,
            io: IoKind::Epoll,
            most_peers: 4,
            wall: Duration::ZERO,
        }
    }

    #[test]
    fn almost_is_not_complete() {
        assert_eq!(summary(999).percent(), "99.9 %");
        assert!(!summary(999).is_complete());
        assert!(summary(1000).is_complete());
    }

    #[test]
    fn programs_find_every_number() {
        let json = summary(5).json();
        let integers = ["bytes", "downloaded", "uploaded", "wasted", "hash_failures", "banned", "peers"];
        integers.iter().for_each(|field| assert!(json[field].is_u64(), "{field} in {json}"));
        assert!(json["wall_s"].is_f64() && json["gb_per_s"].is_f64(), "{json}");
        assert_eq!((&json["io"], &json["peers"]), (&json!("epoll"), &json!(4)));
        assert_eq!(json["shards"], json!([{ "downloaded": 2, "uploaded": 3, "peers": 1 }]));
    }
}
