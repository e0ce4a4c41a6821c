//! `ringtide verify`: compares content on disk with its torrent. Owns the report; the reading is the engine's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringtide_engine::storage::{
    CheckOptions, CheckReport, Content, FileId, Mode, PieceCheck, Storage, StorageOptions,
};
use ringtide_proto::layout::PieceIndex;
use ringtide_proto::metainfo::Metainfo;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use crate::parallel::{cpus, watched};
use crate::progress::Progress;
use crate::show::file_path;
use crate::source::{Source, read_usable};
use crate::stop::Stop;
use crate::text::escape;
use crate::units::{Bytes, Span, count, gb_per_s};

/// What to compare with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verify {
    pub(crate) torrent: Source,
    /// The directory that holds the content, or the content itself.
    pub(crate) path: PathBuf,
    pub(crate) json: bool,
}

/// What was found.
struct Found {
    pieces: u32,
    /// Pieces that are wrong or not all there, in order.
    bad: Vec<u32>,
    missing_files: Vec<String>,
    report: CheckReport,
    wall: Duration,
}

impl Verify {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        let torrent = read_usable(&self.torrent)?;
        let unusable =
            || Failure::bad_input(format_args!("{} cannot be laid out in files", self.torrent.shown()));
        let content = Content::of(&torrent).ok_or_else(unusable)?;
        let storage = Storage::open(&self.path, content, Mode::Seed, StorageOptions::default())?;
        let found = check(&torrent, &storage, stop);
        if found.report.cancelled {
            let exit = stop.requested().unwrap_or(Exit::Interrupted);
            return Err(Failure::new(exit, "stopped before all pieces were looked at"));
        }
        match self.json {
            true => output::print_json(&found.json())?,
            false => output::print(&found.text(&torrent))?,
        }
        found.outcome()
    }
}

fn check(torrent: &Metainfo, storage: &Storage, stop: &Stop) -> Found {
    let started = Instant::now();
    let layout = *storage.content().layout();
    let mut progress = Progress::new(layout.total_len());
    let done = AtomicU64::new(0);
    let bad = Mutex::new(Vec::new());
    let on_piece = |piece: PieceIndex, check| {
        if check != PieceCheck::Good {
            bad.lock().unwrap_or_else(PoisonError::into_inner).push(piece.number());
        }
    };
    // The check has threads of its own; one more here drives it, so that this one can watch.
    let options = CheckOptions { done: Some(&done), ..CheckOptions::threads(cpus()) };
    let work = || storage.check_with(torrent.piece_hashes(), options, on_piece, stop.flag());
    let reports = watched(1, work, || progress.update(done.load(Ordering::Relaxed), String::new));
    let wall = started.elapsed();
    let mut bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.sort_unstable();
    let report = reports.into_iter().next().unwrap_or_default();
    let file = |id: &FileId| file_path(&torrent.files()[id.index()]);
    let missing_files = report.missing_files.iter().map(file).collect();
    Found { pieces: layout.piece_count(), bad, missing_files, report, wall }
}

impl Found {
    /// `gb_per_s` counts what was read: holes of sparse files are passed over.
    fn json(&self) -> Value {
        json!({
            "pieces": self.pieces,
            "good": self.report.good,
            "bad": self.bad,
            "missing_files": self.missing_files,
            "wall_s": self.wall.as_secs_f64(),
            "gb_per_s": gb_per_s(self.report.bytes_read, self.wall),
        })
    }

    fn text(&self, torrent: &Metainfo) -> String {
        let name = escape(torrent.name());
        let rate = Bytes((gb_per_s(self.report.bytes_read, self.wall) * 1e9) as u64);
        let mut lines = vec![format!(
            "{name}: {} of {} good, {} read in {}, {rate}/s",
            self.report.good,
            count(self.pieces.into(), "piece"),
            Bytes(self.report.bytes_read),
            Span(self.wall),
        )];
        if !self.bad.is_empty() {
            lines.push(format!("wrong or not all there: pieces {}", ranges(&self.bad)));
        }
        lines.extend(self.missing_files.iter().map(|path| format!("missing file: {}", escape(path))));
        lines.join("\n")
    }

    fn outcome(self) -> Outcome {
        match self.report.error {
            Some(error) => Err(error.into()),
            None if self.bad.is_empty() && self.missing_files.is_empty() => Ok(Exit::Done),
            None => Ok(Exit::BadData),
        }
    }
}

/// Sorted numbers with runs shortened: `1, 3-5, 9`.
fn ranges(sorted: &[u32]) -> String {
    let runs = sorted.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(u32::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_shortened() {
        assert_eq!(ranges(&[1, 3, 4, 5, 9, 10]), "1, 3-5, 9-10");
        assert_eq!(ranges(&[]), "");
    }
}
