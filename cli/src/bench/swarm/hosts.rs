//! The processes of a swarm on one machine: the `Giver` that has the image, and each `Leech`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::Swarm;
use crate::bench::child::Kid;
use crate::bench::meter::Interval;
use crate::bench::side::Side;
use crate::exit::{Exit, Failure};
use crate::stop::Stop;

/// How long the seed may take until it accepts peers.
const SEED_START: Duration = Duration::from_secs(60);

/// Memory for pieces of each leech where there are many, so that all together stay modest.
const MEMORY_OF_MANY: &str = "32MiB";
const MANY: u8 = 4;

/// Longer than any bench: who is complete goes on giving until it is asked to leave.
const FOR_LONG: &str = "30d";

/// The directory of a leech.
pub(super) fn dir(place: &Path, number: u8) -> PathBuf {
    place.join(format!("leech-{number}"))
}

/// The seed, which has verified everything.
pub(super) struct Giver {
    kid: Kid,
    /// URL of the tracker that runs in it.
    pub(super) tracker: String,
    /// Until it had verified its image.
    start_cpu: Duration,
}

impl Giver {
    pub(super) fn start(swarm: &Swarm, place: &Path, torrent: &Path, stop: &Stop) -> Result<Self, Failure> {
        let mut kid = Kid::start("seed", place, |command| {
            command.arg(torrent).arg("-d").arg(place.join("seed")).args(["--track", "127.0.0.1:0"]);
            common_arguments(swarm, command);
        })?;
        let event = kid.next_event("seeding", stop, Some(Instant::now() + SEED_START))?;
        let tracker = event["tracker"].as_str().unwrap_or_default().to_owned();
        let checked = kid.next_event("checked", stop, None)?;
        if checked["good"] != checked["pieces"] {
            let message = format!("the seed finds its image damaged: {checked}");
            return Err(Failure::new(Exit::Other, message));
        }
        let start_cpu = kid.cpu()?;
        Ok(Self { kid, tracker, start_cpu })
    }

    /// CPU time since it had verified its image.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        Ok(self.kid.cpu()?.saturating_sub(self.start_cpu))
    }

    pub(super) fn failure(&mut self) -> Option<Failure> {
        self.kid.failure_if_ended()
    }

    /// Ends it; what it measured. None where nobody fetched anything.
    pub(super) fn end(&mut self) -> Result<Option<Side>, Failure> {
        self.kid.end()?;
        Ok(Side::deserialize(&self.kid.last_json()?["measured"]).ok())
    }
}

/// A leech under way.
pub(super) struct Leech {
    kid: Kid,
    /// Payload that has come, as far as it has said.
    pub(super) bytes: u64,
    /// When everything was verified and flushed, since the first leech was started.
    pub(super) completed: Option<Duration>,
    cpu: Duration,
}

/// What became of a leech.
pub(super) struct Host {
    pub(super) completed: Option<Duration>,
    /// Verified.
    pub(super) bytes: u64,
    pub(super) uploaded: u64,
    /// Until the last of all was complete.
    pub(super) cpu: Duration,
    /// Until it was complete; none where it was stopped before it had begun.
    pub(super) side: Option<Side>,
}

impl Leech {
    pub(super) fn start(swarm: &Swarm, place: &Path, torrent: &Path, number: u8) -> Result<Self, Failure> {
        let dir = dir(place, number);
        fs::create_dir(&dir)
            .map_err(|error| Failure::io(format_args!("cannot make {}", dir.display()), &error))?;
        let kid = Kid::start("get", &dir, |command| {
            command.arg(torrent).arg("-o").arg(&dir).args(["--seed-for", FOR_LONG]);
            if swarm.leeches > MANY {
                command.args(["--memory", MEMORY_OF_MANY]);
            }
            common_arguments(swarm, command);
        })?;
        Ok(Self { kid, bytes: 0, completed: None, cpu: Duration::ZERO })
    }

    /// Hears what it says.
    pub(super) fn look(&mut self, began: Instant, image_bytes: u64) -> Result<(), Failure> {
        for event in self.kid.news() {
            self.hear(&event, began.elapsed(), image_bytes);
        }
        self.kid.failure_if_ended().map_or(Ok(()), Err)
    }

    fn hear(&mut self, event: &Value, now: Duration, image_bytes: u64) {
        match event["event"].as_str() {
            Some("interval") => {
                let bytes = Interval::deserialize(&event["interval"]).map_or(0, |interval| interval.bytes);
                // What came twice is no progress.
                self.bytes = (self.bytes + bytes).min(image_bytes);
            }
            Some("complete") => {
                self.bytes = image_bytes;
                self.completed = Some(now);
            }
            _ => {}
        }
    }

    pub(super) fn count_cpu(&mut self) -> Result<(), Failure> {
        self.cpu = self.kid.cpu()?;
        Ok(())
    }

    /// Ends it. Where the bench is stopped it may have nothing to tell yet.
    pub(super) fn end(&mut self, stopped: bool) -> Result<Host, Failure> {
        self.kid.end()?;
        let summary = match self.kid.last_json() {
            Err(_) if stopped => Value::Null,
            summary => summary?,
        };
        let number = |key: &str| summary[key].as_u64().unwrap_or(0);
        Ok(Host {
            completed: self.completed,
            bytes: number("bytes"),
            uploaded: number("uploaded"),
            cpu: self.cpu,
            side: Side::deserialize(&summary["measured"]).ok(),
        })
    }
}

fn common_arguments(swarm: &Swarm, command: &mut Command) {
    command.args(["--json", "--measure", "--listen", "127.0.0.1:0", "--io", &swarm.io.to_string()]);
    if let Some(shards) = swarm.shards {
        command.args(["--shards", &shards.to_string()]);
    }
}
