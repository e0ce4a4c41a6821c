//! `ringtide bench loopback`: a tracker, a seed and a leech of this very program on one machine, measured.
//!
//! Owns the order of the experiment; what it is reported as is `finding`. Seeds and leech are processes of their own, so that the CPU time of
//! each is known; where the files lie is `place`, starting and measuring processes `child`.

mod finding;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ringtide_engine::driver::IoChoice;
use serde::Deserialize;
use serde_json::Value;

use super::child::{Kid, Watch};
use super::meter::Interval;
use super::offer::Offer;
use super::place::{Place, Wanted};
use super::present::Present;
use super::side::Side;
use super::{image, stopped};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::note;
use crate::stop::Stop;
use crate::units::{BinaryBytes, Bytes};

use finding::{Finding, Times};

/// Bytes of the image where nothing is asked for and there is room.
const DEFAULT_IMAGE: u64 = 2 << 30;

/// How long the seed may take until it accepts peers.
const SEED_START: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loopback {
    /// Bytes of the image; `None`: 2 GiB, or what there is room for.
    pub(crate) size: Option<u64>,
    /// Bytes of a piece; `None`: as `create` chooses.
    pub(crate) piece_length: Option<u32>,
    pub(crate) io: IoChoice,
    pub(crate) shards: Option<u8>,
    /// How many seeds.
    pub(crate) peers: u8,
    pub(crate) present: Present,
}

impl Loopback {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        // What is wrong with the old report or the page shows before anything is measured.
        let ready = self.present.ready("loopback")?;
        let wanted = Wanted { size: self.size, default_size: DEFAULT_IMAGE, files: 2, dir: None };
        let place = Place::choose(wanted)?;
        stop.remove_on_quit(place.path());
        note(&format!(
            "an image of {} and its copy in {} ({})",
            BinaryBytes(place.image_bytes()),
            place.path().display(),
            place.why(),
        ));
        let bench = Bench { loopback: &self, place: &place, stop };
        let report = bench.measure()?.into_report();
        self.present.show(&report, ready)?;
        stop.requested().map_or(Ok(Exit::Done), |exit| Err(stopped(exit)))
    }
}

/// A seed, and where it accepts peers.
struct Seed {
    kid: Kid,
    listen: String,
}

/// One experiment.
struct Bench<'a> {
    loopback: &'a Loopback,
    place: &'a Place,
    stop: &'a Stop,
}

impl Bench<'_> {
    /// All of it, or what there is when a signal comes while the leech fetches.
    fn measure(&self) -> Result<Finding<'_>, Failure> {
        let offer = Offer::make(self.place, self.loopback.piece_length, self.stop)?;
        let torrent = offer.torrent()?;

        let (mut seeds, tracker) = self.start_seeds(&torrent)?;
        let seed_start_cpu = cpu(&seeds)?;
        let torrent = offer.tracked_torrent(&tracker)?;

        let (started, mut intervals) = (Instant::now(), Vec::new());
        let mut leech = self.start_leech(&torrent, &seeds)?;
        let waited = leech.wait(|events| self.watch(&mut seeds, events, &mut intervals));
        let wall = started.elapsed();
        let leech_cpu = match (waited, self.stop.requested()) {
            (Ok(cpu), _) => cpu,
            (Err(_), Some(_)) => {
                let cpu = leech.cpu()?;
                leech.end()?;
                cpu
            }
            (Err(failure), None) => return Err(failure),
        };
        let seed_cpu = cpu(&seeds)?.saturating_sub(seed_start_cpu);
        // A leech that was stopped before it had begun has measured nothing.
        let receiver =
            measured_by(&mut leech).map_err(|failure| self.stop.requested().map_or(failure, stopped))?;
        let mut senders = Vec::new();
        for seed in &mut seeds {
            seed.kid.end()?;
            // It was measured for longer than it was of use.
            senders.push(Side { wall_s: receiver.wall_s, ..measured_by(&mut seed.kid)? });
        }
        let times = Times { wall, leech_cpu, seed_cpu, seed_start_cpu };
        let compared = self.stop.requested().is_none();
        if compared {
            note("comparing the copy with the image");
            image::compare(&offer.image, &self.place.path().join("leech/image"), self.stop)?;
        }
        Ok(Finding {
            image_bytes: offer.bytes,
            bytes: if compared { offer.bytes } else { receiver.bytes },
            piece_length: offer.piece_length,
            place: self.place.why(),
            shards: self.loopback.shards,
            compared,
            times,
            intervals,
            receiver,
            senders,
        })
    }

    /// The seeds, once they have verified everything, and the URL of the tracker of the first.
    fn start_seeds(&self, torrent: &Path) -> Result<(Vec<Seed>, String), Failure> {
        note("starting the seed and its tracker");
        let mut seeds = Vec::new();
        let mut tracker = String::new();
        for number in 0..self.loopback.peers {
            let (seed, url) = self.start_seed(torrent, number)?;
            seeds.push(seed);
            tracker = url.unwrap_or(tracker);
        }
        Ok((seeds, tracker))
    }

    /// A seed, and the URL of its tracker if it is the first.
    fn start_seed(&self, torrent: &Path, number: u8) -> Result<(Seed, Option<String>), Failure> {
        let logs = self.place.path().join(format!("seed-{number}"));
        fs::create_dir(&logs)
            .map_err(|error| Failure::io(format_args!("cannot make {}", logs.display()), &error))?;
        let mut kid = Kid::start("seed", &logs, |command| {
            command.arg(torrent).arg("-d").arg(self.place.path().join("seed"));
            if number == 0 {
                command.args(["--track", "127.0.0.1:0"]);
            }
            self.common_arguments(command);
        })?;
        let deadline = Instant::now() + SEED_START;
        let event = kid.next_event("seeding", self.stop, Some(deadline))?;
        let listen = event["listen"][0].as_str().unwrap_or_default().to_owned();
        let checked = kid.next_event("checked", self.stop, None)?;
        if checked["good"] != checked["pieces"] {
            return Err(Failure::new(
                Exit::Other,
                format_args!("the seed finds its image damaged: {checked}"),
            ));
        }
        Ok((Seed { kid, listen }, event["tracker"].as_str().map(str::to_owned)))
    }

    fn start_leech(&self, torrent: &Path, seeds: &[Seed]) -> Result<Kid, Failure> {
        note(&format!("fetching {}", Bytes(self.place.image_bytes())));
        let dir = self.place.path().join("leech");
        Kid::start("get", self.place.path(), |command| {
            command.arg(torrent).arg("-o").arg(dir);
            // The tracker knows the first; a seed tells nobody of others.
            seeds.iter().skip(1).for_each(|seed| {
                command.args(["--peer", &seed.listen]);
            });
            self.common_arguments(command);
        })
    }

    fn common_arguments(&self, command: &mut std::process::Command) {
        command.args([
            "--json",
            "--measure",
            "--listen",
            "127.0.0.1:0",
            "--io",
            &self.loopback.io.to_string(),
        ]);
        if let Some(shards) = self.loopback.shards {
            command.args(["--shards", &shards.to_string()]);
        }
    }

    /// While the leech runs: its intervals are shown, and a signal, or a seed that is gone, ends the experiment.
    fn watch(&self, seeds: &mut [Seed], events: &[Value], intervals: &mut Vec<Interval>) -> Watch {
        if let Some(exit) = self.stop.requested() {
            return Watch::Stop(stopped(exit));
        }
        let new = events.iter().filter(|event| event["event"] == "interval");
        for interval in new.filter_map(|event| Interval::deserialize(&event["interval"]).ok()) {
            if let Err(failure) = self.loopback.present.interval(&interval) {
                return Watch::Stop(failure);
            }
            intervals.push(interval);
        }
        match seeds.iter_mut().find_map(|seed| seed.kid.failure_if_ended()) {
            Some(failure) => Watch::Stop(failure),
            None => Watch::GoOn,
        }
    }
}

/// CPU time of all seeds until now.
fn cpu(seeds: &[Seed]) -> Result<Duration, Failure> {
    seeds.iter().map(|seed| seed.kid.cpu()).sum()
}

/// What a process that has ended measured of itself.
fn measured_by(kid: &mut Kid) -> Result<Side, Failure> {
    let summary = kid.last_json()?;
    Side::deserialize(&summary["measured"]).map_err(|error| {
        Failure::new(Exit::Other, format_args!("a process of the bench measured nothing: {error}"))
    })
}
