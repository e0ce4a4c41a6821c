//! `ringtide bench disk`: how fast a download is written to a disk, and read back to be verified.
//!
//! Owns the order of the experiment: a giver in this process makes content up in memory, `ringtide get` in a process of its
//! own fetches it into the directory over loopback, and then it is read as `verify` reads. So what is written is written as
//! a download writes it, by the same program.
//!
//! - `ground`: the directory, and what is beneath it
//! - `raw`: what the disk takes from writes alone, for the bound
//! - `giver`, `reading`: the two ends of the file's life
//! - `finding`: what came out, as a report

mod finding;
mod giver;
mod ground;
mod raw;
mod reading;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringtide_engine::driver::IoChoice;
use ringtide_engine::storage::{DirectChoice, Synthetic};
use ringtide_proto::limits::MAX_PIECES;
use serde::Deserialize;
use serde_json::Value;

use super::child::{Kid, Watch};
use super::meter::Interval;
use super::present::Present;
use super::side::Side;
use super::stopped;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::note;
use crate::stop::Stop;
use crate::units::{BinaryBytes, Bytes};

use finding::{Finding, Written};
use giver::Giver;
use ground::Ground;

/// Bytes that are written where nothing else is asked for.
const DEFAULT_SIZE: u64 = 2 << 30;

/// Faster than any disk there is: content for a measurement by time is made for it, in bytes per second.
const FASTEST: u64 = 25_000_000_000;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) dir: PathBuf,
    /// Bytes to write, rounded up to whole pieces; `None`: 2 GiB, or with a time as many as there is time for.
    pub(crate) size: Option<u64>,
    /// When to stop writing.
    pub(crate) time: Option<Duration>,
    pub(crate) piece_length: u32,
    pub(crate) direct: DirectChoice,
    pub(crate) io: IoChoice,
    pub(crate) present: Present,
}

impl Disk {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        // What is wrong with the old report or the directory shows before anything is written.
        let old = self.present.read_old("disk")?;
        let content = Synthetic::new(self.content_bytes()?, self.piece_length, u64::from(std::process::id()));
        let ground = Ground::take(&self.dir, content.len())?;
        stop.remove_on_quit(ground.path());
        note(&format!(
            "writing {} to {} ({})",
            BinaryBytes(content.len()),
            ground.path().display(),
            ground.filesystem()
        ));
        let bench = Bench { disk: &self, ground: &ground, content, stop };
        let report = bench.measure()?.into_report();
        self.present.show(&report, old.as_ref())?;
        stop.requested().map_or(Ok(Exit::Done), |exit| Err(stopped(exit)))
    }

    /// How much to write at most.
    fn content_bytes(&self) -> Result<u64, Failure> {
        let most = u64::from(MAX_PIECES) * u64::from(self.piece_length);
        match (self.size, self.time) {
            (Some(size), _) if size > most => Err(Failure::usage(format_args!(
                "{} are more than {MAX_PIECES} pieces; choose a larger --piece-length",
                BinaryBytes(size)
            ))),
            (Some(size), _) => Ok(size),
            (None, None) => Ok(DEFAULT_SIZE.min(most)),
            (None, Some(time)) => {
                let wanted = (time.as_secs_f64() * FASTEST as f64) as u64;
                // Others may want to write there meanwhile.
                let half = ground::free_bytes(&self.dir)?.unwrap_or(DEFAULT_SIZE) / 2;
                Ok(wanted.min(half).clamp(1, most))
            }
        }
    }
}

/// One experiment.
struct Bench<'a> {
    disk: &'a Disk,
    ground: &'a Ground,
    content: Synthetic,
    stop: &'a Stop,
}

impl Bench<'_> {
    /// All of it, or what there is when a signal comes once writing has begun.
    fn measure(&self) -> Result<Finding<'_>, Failure> {
        let raw = match self.ground.is_memory() {
            true => None,
            false => raw::write_speed(self.ground.path(), self.content.len(), self.stop)?,
        };
        let giver = Giver::start(self.content.clone(), self.disk.io)?;
        std::fs::write(self.ground.torrent(), giver.torrent_bytes()).map_err(|error| {
            Failure::io(format_args!("cannot write {}", self.ground.torrent().display()), &error)
        })?;
        let (written, sender, intervals) = self.write(&giver)?;
        let torrent = giver.end();
        let read = match self.stop.requested() {
            Some(_) => None,
            None => {
                note("reading it back");
                Some(reading::read(self.ground, &torrent, written.complete, self.stop)?)
            }
        };
        Ok(Finding {
            disk: self.disk,
            filesystem: self.ground.filesystem(),
            raw,
            written,
            read,
            sender,
            intervals,
        })
    }

    /// Downloads into the directory until everything is there, or the time is over.
    fn write(&self, giver: &Giver) -> Result<(Written, Side, Vec<Interval>), Failure> {
        let mut leech = self.start_leech(giver)?;
        let mut meter = giver.meter();
        let (began, mut intervals, mut time_is_over) = (Instant::now(), Vec::new(), false);
        let waited = leech.wait(|events| {
            meter.tick(|| None);
            time_is_over = self.disk.time.is_some_and(|time| began.elapsed() >= time);
            self.watch(giver, events, time_is_over, &mut intervals)
        });
        if let Err(failure) = waited {
            if self.stop.requested().is_none() && !time_is_over {
                return Err(failure);
            }
            leech.end()?;
        }
        let sender = meter.finish();
        let flush = reading::flush(&self.ground.file())?;
        let summary = leech.last_json();
        let receiver = summary.as_ref().ok().and_then(|summary| Side::deserialize(&summary["measured"]).ok());
        // One that was stopped before it had begun has measured nothing.
        let (Ok(summary), Some(receiver)) = (summary, receiver) else {
            let nothing = || Failure::new(Exit::Other, "nothing was written; see ringtide bench disk --help");
            return Err(self.stop.requested().map_or_else(nothing, stopped));
        };
        let bytes = |key: &str| summary[key].as_u64().unwrap_or(0);
        let written = Written {
            direct_bytes: bytes("direct_bytes"),
            cached_bytes: bytes("cached_bytes"),
            wall: Duration::from_secs_f64(receiver.wall_s) + flush,
            complete: summary["complete"] == true,
            receiver,
        };
        let sender = Side { wall_s: written.receiver.wall_s, ..sender };
        Ok((written, sender, intervals))
    }

    fn start_leech(&self, giver: &Giver) -> Result<Kid, Failure> {
        note(&format!("fetching {} from memory", Bytes(self.content.len())));
        Kid::start("get", self.ground.path(), |command| {
            command.arg(self.ground.torrent()).arg("-o").arg(self.ground.content());
            command.args(["--peer", &giver.addr().to_string(), "--listen", "127.0.0.1:0"]);
            command.args(["--io", &self.disk.io.to_string(), "--direct", spelled(self.disk.direct)]);
            command.args(["--json", "--measure"]);
        })
    }

    /// While it is written: intervals are shown; a signal, the end of the time or a giver that fails ends it.
    fn watch(
        &self,
        giver: &Giver,
        events: &[Value],
        time_is_over: bool,
        intervals: &mut Vec<Interval>,
    ) -> Watch {
        if let Some(exit) = self.stop.requested() {
            return Watch::Stop(stopped(exit));
        }
        let new = events.iter().filter(|event| event["event"] == "interval");
        for interval in new.filter_map(|event| Interval::deserialize(&event["interval"]).ok()) {
            if let Err(failure) = self.disk.present.interval(&interval) {
                return Watch::Stop(failure);
            }
            intervals.push(interval);
        }
        match giver.failure() {
            Some(failure) => Watch::Stop(failure),
            None if time_is_over => Watch::Stop(Failure::new(Exit::Done, "the time is over")),
            None => Watch::GoOn,
        }
    }
}

/// As `--direct` is typed.
fn spelled(direct: DirectChoice) -> &'static str {
    match direct {
        DirectChoice::Auto => "auto",
        DirectChoice::On => "on",
        DirectChoice::Off => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(size: Option<u64>, time: Option<Duration>, piece_length: u32) -> Disk {
        Disk {
            dir: std::env::temp_dir(),
            size,
            time,
            piece_length,
            direct: DirectChoice::Auto,
            io: IoChoice::Auto,
            present: Present::default(),
        }
    }

    #[test]
    fn content_fits_the_pieces_there_can_be() {
        let bytes = |size, time, piece_length| disk(size, time, piece_length).content_bytes();
        assert_eq!(bytes(None, None, 1 << 20), Ok(DEFAULT_SIZE));
        assert_eq!(bytes(Some(5), None, 1 << 20), Ok(5));
        assert!(
            bytes(Some(1 << 40), None, 1 << 14)
                .is_err_and(|failure| failure.message.contains("--piece-length"))
        );
        let long = bytes(None, Some(Duration::from_secs(1 << 30)), 1 << 14).expect("as much as there may be");
        assert!((1..=u64::from(MAX_PIECES) << 14).contains(&long), "{long}");
    }
}
