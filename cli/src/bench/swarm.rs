//! `ringtide bench swarm`: one seed and many leeches of this very program on one machine, as in a rollout, measured.
//!
//! Owns the order of the experiment. Every host is a process of its own (`child`) with a directory of its own (`place`); one
//! that is complete goes on giving until all are. `hosts` are the processes, `finding` what came out.

mod finding;
mod hosts;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringtide_engine::driver::IoChoice;

use super::meter::Interval;
use super::offer::Offer;
use super::place::{Place, Wanted};
use super::present::Present;
use super::{image, stopped};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::note;
use crate::stop::Stop;
use crate::units::BinaryBytes;

use finding::Finding;
use hosts::{Giver, Leech};

/// Most leeches: each is a process with memory of its own.
pub(crate) const MAX_LEECHES: u8 = 64;

/// Bytes of all files together where nothing is asked for, and of each at least and at most.
const DEFAULT_ALL: u64 = 4 << 30;
const DEFAULT_EACH: std::ops::RangeInclusive<u64> = 64 << 20..=1 << 30;

/// How often the leeches are looked at, and how often a line says how it goes.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const INTERVAL: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Swarm {
    pub(crate) leeches: u8,
    /// Bytes of the image; `None`: as many as make 4 GiB in all, or what there is room for.
    pub(crate) size: Option<u64>,
    /// Bytes of a piece; `None`: as `create` chooses.
    pub(crate) piece_length: Option<u32>,
    pub(crate) shards: Option<u8>,
    pub(crate) io: IoChoice,
    /// Where the files lie; `None`: in memory, or in the temporary directory where memory is short.
    pub(crate) dir: Option<PathBuf>,
    pub(crate) present: Present,
}

impl Swarm {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        // What is wrong with the old report, the page or the place shows before anything is made.
        let ready = self.present.ready("swarm")?;
        let place = Place::choose(self.wanted())?;
        stop.remove_on_quit(place.path());
        note(&format!(
            "an image of {} and {} of it in {} ({})",
            BinaryBytes(place.image_bytes()),
            if self.leeches == 1 { "a copy".to_owned() } else { format!("{} copies", self.leeches) },
            place.path().display(),
            place.why(),
        ));
        let bench = Bench { swarm: &self, place: &place, stop };
        let report = bench.measure()?.into_report();
        self.present.show(&report, ready)?;
        stop.requested().map_or(Ok(Exit::Done), |exit| Err(stopped(exit)))
    }

    fn wanted(&self) -> Wanted<'_> {
        let files = u64::from(self.leeches) + 1;
        let each = (DEFAULT_ALL / files).clamp(*DEFAULT_EACH.start(), *DEFAULT_EACH.end());
        Wanted { size: self.size, default_size: each >> 20 << 20, files, dir: self.dir.as_deref() }
    }
}

fn spoken_leeches(leeches: u8) -> String {
    if leeches == 1 { "1 leech".to_owned() } else { format!("{leeches} leeches") }
}

/// One experiment.
struct Bench<'a> {
    swarm: &'a Swarm,
    place: &'a Place,
    stop: &'a Stop,
}

impl Bench<'_> {
    /// All of it, or what there is when a signal comes while the leeches fetch.
    fn measure(&self) -> Result<Finding<'_>, Failure> {
        let offer = Offer::make(self.place, self.swarm.piece_length, self.stop)?;
        let torrent = offer.torrent()?;
        note("starting the seed and its tracker");
        let mut seed = Giver::start(self.swarm, self.place.path(), &torrent, self.stop)?;
        let torrent = offer.tracked_torrent(&seed.tracker)?;

        note(&format!("{} to fetch it", spoken_leeches(self.swarm.leeches)));
        let began = Instant::now();
        let leeches = (0..self.swarm.leeches)
            .map(|number| Leech::start(self.swarm, self.place.path(), &torrent, number));
        let mut leeches = leeches.collect::<Result<Vec<_>, _>>()?;
        let intervals = self.follow(&mut seed, &mut leeches, began)?;
        let wall = began.elapsed();
        let seed_cpu = seed.cpu()?;
        leeches.iter_mut().try_for_each(Leech::count_cpu)?;
        let stopped = self.stop.requested().is_some();
        let hosts = leeches.iter_mut().map(|leech| leech.end(stopped)).collect::<Result<Vec<_>, _>>()?;
        let sender = seed.end()?;
        if !stopped {
            note("comparing the copies with the image");
            let mut copies = (0..self.swarm.leeches).map(|number| hosts::dir(self.place.path(), number));
            copies.try_for_each(|dir| image::compare(&offer.image, &dir.join("image"), self.stop))?;
        }
        let (swarm, place) = (self.swarm, self.place.why());
        Ok(Finding {
            swarm,
            place,
            image_bytes: offer.bytes,
            piece_length: offer.piece_length,
            wall,
            hosts,
            seed_cpu,
            sender,
            intervals,
            stopped,
        })
    }

    /// Until all are complete, or a signal comes; whoever ends before is a failure.
    fn follow(
        &self,
        seed: &mut Giver,
        leeches: &mut [Leech],
        began: Instant,
    ) -> Result<Vec<Interval>, Failure> {
        let image_bytes = self.place.image_bytes();
        let (mut intervals, mut last) = (Vec::new(), (Duration::ZERO, 0));
        loop {
            std::thread::sleep(LOOK_EVERY);
            for leech in leeches.iter_mut() {
                leech.look(began, image_bytes)?;
            }
            if let Some(failure) = seed.failure() {
                return Err(failure);
            }
            let all_are_complete = leeches.iter().all(|leech| leech.completed.is_some());
            let is_over = all_are_complete || self.stop.requested().is_some();
            let now = began.elapsed();
            if is_over || now >= last.0 + INTERVAL {
                let bytes = leeches.iter().map(|leech| leech.bytes).sum();
                let all = (image_bytes * leeches.len() as u64) as f64;
                let interval = Interval {
                    from_s: last.0.as_secs_f64(),
                    to_s: now.as_secs_f64(),
                    bytes: bytes - last.1,
                    peers: leeches.len() as u64,
                    have: Some(bytes as f64 / all),
                    omitted: false,
                };
                self.swarm.present.interval(&interval)?;
                intervals.push(interval);
                last = (now, bytes);
            }
            if is_over {
                return Ok(intervals);
            }
        }
    }
}
