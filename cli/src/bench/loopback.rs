//! `ringtide bench loopback`: a tracker, a seed and a leech of this very program on one machine, measured.
//!
//! Owns the order of the experiment and what is reported. Seed and leech are processes of their own, so that the CPU time of
//! each is known; where the files lie is `place`, starting and measuring processes `child`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringtide_engine::driver::IoChoice;
use ringtide_proto::metainfo::{TorrentBuilder, auto_piece_length};

use super::child::{Kid, Watch};
use super::place::Place;
use super::report::Report;
use super::{image, stopped};
use crate::create::hash_file;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, note};
use crate::stop::Stop;
use crate::units::{BinaryBytes, Bytes};

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
    pub(crate) json: bool,
}

impl Loopback {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        let place = Place::choose(self.size)?;
        stop.remove_on_quit(place.path());
        note(&format!(
            "an image of {} and its copy in {} ({})",
            BinaryBytes(place.image_bytes()),
            place.path().display(),
            place.why(),
        ));
        let bench = Bench { loopback: &self, place: &place, stop };
        let report = bench.measure()?;
        match self.json {
            true => output::print_json(&report.json())?,
            false => output::print(&report.text())?,
        }
        Ok(Exit::Done)
    }
}

/// One experiment.
struct Bench<'a> {
    loopback: &'a Loopback,
    place: &'a Place,
    stop: &'a Stop,
}

impl Bench<'_> {
    fn measure(&self) -> Result<Report, Failure> {
        let bytes = self.place.image_bytes();
        let image = self.place.path().join("seed/image");
        image::write(&image, bytes, self.stop)?;
        let piece_length = self.loopback.piece_length.unwrap_or_else(|| auto_piece_length(bytes));
        let hashes = hash_file(&image, piece_length, self.stop)?;
        let mut builder = TorrentBuilder::single_file("image", bytes, piece_length);
        let torrent = self.write_torrent("image.torrent", &builder, &hashes)?;

        let (mut seed, tracker) = self.start_seed(&torrent)?;
        let seed_start_cpu = seed.cpu()?;
        builder.trackers = vec![vec![tracker]];
        let torrent = self.write_torrent("tracked.torrent", &builder, &hashes)?;

        let started = Instant::now();
        let mut leech = self.start_leech(&torrent)?;
        let leech_cpu = leech.wait(|| self.watch_seed(&mut seed))?;
        let wall = started.elapsed();
        let summary = leech.last_json()?;
        let seed_cpu = seed.cpu()?.saturating_sub(seed_start_cpu);
        seed.end()?;
        note("comparing the copy with the image");
        image::compare(&image, &self.place.path().join("leech/image"), self.stop)?;
        let io = summary["io"].as_str().unwrap_or("?").to_owned();
        let directory = self.place.why().to_owned();
        Ok(Report { bytes, piece_length, wall, leech_cpu, seed_cpu, seed_start_cpu, io, directory })
    }

    fn write_torrent(
        &self,
        name: &str,
        builder: &TorrentBuilder,
        hashes: &[[u8; 20]],
    ) -> Result<PathBuf, Failure> {
        let bytes =
            builder.build(hashes).map_err(|error| Failure::usage(format_args!("cannot bench: {error}")))?;
        let path = self.place.path().join(name);
        fs::write(&path, bytes)
            .map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), &error))?;
        Ok(path)
    }

    /// The seed, once it has verified everything, and the URL of its tracker.
    fn start_seed(&self, torrent: &Path) -> Result<(Kid, String), Failure> {
        note("starting the seed and its tracker");
        let dir = self.place.path().join("seed");
        let mut seed = Kid::start("seed", self.place.path(), |command| {
            command.arg(torrent).arg("-d").arg(dir).args(["--track", "127.0.0.1:0"]);
            self.common_arguments(command);
        })?;
        let deadline = Instant::now() + SEED_START;
        let event = seed.next_event("seeding", self.stop, Some(deadline))?;
        let tracker = event["tracker"].as_str().unwrap_or_default().to_owned();
        let checked = seed.next_event("checked", self.stop, None)?;
        if checked["good"] != checked["pieces"] {
            return Err(Failure::new(
                Exit::Other,
                format_args!("the seed finds its image damaged: {checked}"),
            ));
        }
        Ok((seed, tracker))
    }

    fn start_leech(&self, torrent: &Path) -> Result<Kid, Failure> {
        note(&format!("fetching {}", Bytes(self.place.image_bytes())));
        let dir = self.place.path().join("leech");
        Kid::start("get", self.place.path(), |command| {
            command.arg(torrent).arg("-o").arg(dir);
            self.common_arguments(command);
        })
    }

    fn common_arguments(&self, command: &mut std::process::Command) {
        command.args(["--json", "--listen", "127.0.0.1:0", "--io", &self.loopback.io.to_string()]);
        if let Some(shards) = self.loopback.shards {
            command.args(["--shards", &shards.to_string()]);
        }
    }

    /// While the leech runs: a signal, or a seed that is gone, ends the experiment.
    fn watch_seed(&self, seed: &mut Kid) -> Watch {
        if let Some(exit) = self.stop.requested() {
            return Watch::Stop(stopped(exit));
        }
        match seed.failure_if_ended() {
            Some(failure) => Watch::Stop(failure),
            None => Watch::GoOn,
        }
    }
}
