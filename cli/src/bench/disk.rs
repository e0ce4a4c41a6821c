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
use super::{most_content, stopped};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::note;
use crate::stop::Stop;
use crate::units::{BinaryBytes, Bytes};

use finding::{Finding, Written};
use giver::Giver;
use ground::Ground;
use reading::Reading;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) dir: PathBuf,
    /// Bytes to write, rounded up to whole pieces.
    pub(crate) size: u64,
    /// Write and read again until so long has passed.
    pub(crate) time: Option<Duration>,
    pub(crate) piece_length: u32,
    pub(crate) direct: DirectChoice,
    pub(crate) io: IoChoice,
    pub(crate) present: Present,
}

impl Disk {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        // What is wrong with the old report, the page or the directory shows before anything is written.
        let ready = self.present.ready("disk")?;
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
        self.present.show(&report, ready)?;
        stop.requested().map_or(Ok(Exit::Done), |exit| Err(stopped(exit)))
    }

    fn content_bytes(&self) -> Result<u64, Failure> {
        let most = most_content(self.piece_length);
        if self.size > most {
            return Err(Failure::usage(format_args!(
                "{} are more than {MAX_PIECES} pieces; choose a larger --piece-length",
                BinaryBytes(self.size)
            )));
        }
        Ok(self.size)
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
        let began = Instant::now();
        let mut intervals = Vec::new();
        let (mut written, mut read) = self.round(0.0, &mut intervals)?;
        let mut rounds = 1;
        while self.stop.requested().is_none() && self.disk.time.is_some_and(|time| began.elapsed() < time) {
            self.ground.clear()?;
            match self.round(written.wall.as_secs_f64(), &mut intervals) {
                Ok((again, read_again)) => {
                    written = written.and(again);
                    read = read.into_iter().chain(read_again).reduce(Reading::and);
                    rounds += 1;
                }
                // A signal came before there was anything of this round.
                Err(_) if self.stop.requested().is_some() => break,
                Err(failure) => return Err(failure),
            }
        }
        let filesystem = self.ground.filesystem();
        let stopped = self.stop.requested().is_some();
        Ok(Finding { disk: self.disk, filesystem, raw, rounds, written, read, intervals, stopped })
    }

    /// Writes and reads once. Not read where a signal came; intervals begin so many seconds after the first.
    fn round(
        &self,
        from_s: f64,
        intervals: &mut Vec<Interval>,
    ) -> Result<(Written, Option<Reading>), Failure> {
        let giver = Giver::start(self.content.clone(), self.disk.io)?;
        std::fs::write(self.ground.torrent(), giver.torrent_bytes()).map_err(|error| {
            Failure::io(format_args!("cannot write {}", self.ground.torrent().display()), &error)
        })?;
        let written = self.write(&giver, from_s, intervals)?;
        let torrent = giver.end();
        if !written.complete {
            return Ok((written, None));
        }
        note("reading it back");
        let read = reading::read(self.ground, &torrent, self.stop)?;
        Ok((written, Some(read)))
    }

    /// Downloads into the directory, until everything is there or a signal comes.
    fn write(&self, giver: &Giver, from_s: f64, intervals: &mut Vec<Interval>) -> Result<Written, Failure> {
        let mut leech = self.start_leech(giver)?;
        let mut meter = giver.meter();
        let waited = leech.wait(|events| {
            meter.tick(|| None);
            self.watch(giver, events, from_s, intervals)
        });
        if let Err(failure) = waited {
            if self.stop.requested().is_none() {
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
            let nothing = || Failure::new(Exit::Other, "the download measured nothing; this is a bug");
            return Err(self.stop.requested().map_or_else(nothing, stopped));
        };
        let bytes = |key: &str| summary[key].as_u64().unwrap_or(0);
        Ok(Written {
            direct_bytes: bytes("direct_bytes"),
            cached_bytes: bytes("cached_bytes"),
            wall: Duration::from_secs_f64(receiver.wall_s) + flush,
            cpu_s: receiver.cpu_s,
            sender_cpu_s: sender.cpu_s,
            complete: summary["complete"] == true,
            // It was measured for longer than it was of use.
            sender: Side { wall_s: receiver.wall_s, ..sender },
            receiver,
        })
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

    /// While it is written: intervals are shown; a signal, or a giver that fails, ends it.
    fn watch(&self, giver: &Giver, events: &[Value], from_s: f64, intervals: &mut Vec<Interval>) -> Watch {
        if let Some(exit) = self.stop.requested() {
            return Watch::Stop(stopped(exit));
        }
        let new = events.iter().filter(|event| event["event"] == "interval");
        for mut interval in new.filter_map(|event| Interval::deserialize(&event["interval"]).ok()) {
            interval.from_s += from_s;
            interval.to_s += from_s;
            if let Err(failure) = self.disk.present.interval(&interval) {
                return Watch::Stop(failure);
            }
            intervals.push(interval);
        }
        giver.failure().map_or(Watch::GoOn, Watch::Stop)
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

    #[test]
    fn content_fits_the_pieces_there_can_be() {
        let bytes = |size, piece_length| {
            let (dir, present) = (std::env::temp_dir(), Present::default());
            let (direct, io) = (DirectChoice::Auto, IoChoice::Auto);
            Disk { dir, size, time: None, piece_length, direct, io, present }.content_bytes()
        };
        assert_eq!((bytes(5, 1 << 20), bytes(1 << 35, 1 << 14)), (Ok(5), Ok(1 << 35)));
        assert!(
            bytes((1 << 35) + 1, 1 << 14).is_err_and(|failure| failure.message.contains("--piece-length"))
        );
    }
}
