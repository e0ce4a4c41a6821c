//! `Finding`: what `bench swarm` found out, made into a report.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::hosts::Host;
use super::{Swarm, spoken_leeches};
use crate::bench::bound::{Bound, Limits, bounds};
use crate::bench::calibrate::Speeds;
use crate::bench::meter::Interval;
use crate::bench::report::{Figure, Report};
use crate::bench::side::Side;
use crate::bench::threads::ThreadTime;
use crate::bench::verdict::{Around, Bottleneck, Verdict, judge};
use crate::units::{BinaryBytes, Bytes, gb_per_s};

/// From here on all CPUs are as good as always busy; as in other verdicts.
const FULL: f64 = 0.9;

/// What was found out.
pub(super) struct Finding<'a> {
    pub(super) swarm: &'a Swarm,
    /// What kind of place the files were in.
    pub(super) place: &'a str,
    pub(super) image_bytes: u64,
    pub(super) piece_length: u32,
    /// From starting the first leech until all were complete.
    pub(super) wall: Duration,
    pub(super) hosts: Vec<Host>,
    /// Without verifying its image.
    pub(super) seed_cpu: Duration,
    /// None where nobody fetched anything.
    pub(super) sender: Option<Side>,
    pub(super) intervals: Vec<Interval>,
    /// By a signal.
    pub(super) stopped: bool,
}

impl Finding<'_> {
    pub(super) fn into_report(self) -> Report {
        let typical = self.typical();
        let sides: Vec<Side> = typical.iter().chain(&self.sender).cloned().collect();
        Report {
            bench: "swarm",
            headings: self.headings(),
            parameters: json!({
                "leeches": self.swarm.leeches,
                "size": self.image_bytes,
                "piece_length": self.piece_length,
                "shards": self.swarm.shards,
                "io": self.swarm.io.to_string(),
                "directory": self.place,
                "stopped": self.stopped,
            }),
            figures: self.figures(),
            bounds: typical.iter().flat_map(machine_bound).collect(),
            verdict: typical.as_ref().map(|typical| self.verdict(typical)),
            table: Some(self.table()),
            more: self.more(),
            intervals: self.intervals,
            sides,
        }
    }

    /// What the leech measured that was complete in the middle of all.
    fn typical(&self) -> Option<Side> {
        let mut hosts: Vec<_> = self.hosts.iter().filter(|host| host.side.is_some()).collect();
        hosts.sort_by_key(|host| host.completed.unwrap_or(Duration::MAX));
        let mut side = hosts.get(hosts.len().checked_sub(1)? / 2)?.side.clone()?;
        side.host.speeds = Speeds::measure();
        Some(side)
    }

    fn headings(&self) -> Vec<(&'static str, String)> {
        let machine = self.hosts.iter().find_map(|host| Some(host.side.as_ref()?.host.clone()));
        let content = format!(
            "{} in pieces of {}, {}, from one seed to {}",
            Bytes(self.image_bytes),
            BinaryBytes(self.piece_length.into()),
            self.place,
            spoken_leeches(self.swarm.leeches),
        );
        let checked = match self.stopped {
            false => "every copy is the same as the image byte for byte",
            true => "stopped before all were complete: what there is until then",
        };
        let mut headings = Vec::new();
        if let Some(host) = machine {
            let version = env!("CARGO_PKG_VERSION");
            let engine = format!("ringtide {version}, --io {}, hash kernel {}", host.io, host.hash_kernel);
            headings.extend([("machine", host.machine), ("engine", engine)]);
        }
        headings.extend([("content", content), ("checked", checked.to_owned())]);
        headings
    }

    /// Of all leeches together.
    fn bytes(&self) -> u64 {
        self.hosts.iter().map(|host| host.bytes).sum()
    }

    fn leech_cpu(&self) -> Duration {
        self.hosts.iter().map(|host| host.cpu).sum()
    }

    fn per_gb(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / (self.bytes().max(1) as f64 / 1e9)
    }

    /// When the first was complete, the one in the middle, and the last.
    fn completions(&self) -> Option<[Duration; 3]> {
        let mut times: Vec<_> = self.hosts.iter().filter_map(|host| host.completed).collect();
        times.sort_unstable();
        Some([*times.first()?, times[(times.len() - 1) / 2], *times.last()?])
    }

    fn seed_copies(&self) -> f64 {
        let given = self.sender.as_ref().map_or(0, |sender| sender.bytes);
        given as f64 / self.image_bytes.max(1) as f64
    }

    fn figures(&self) -> Vec<Figure> {
        let (wall, bytes) = (self.wall, self.bytes());
        let mut figures = vec![
            Figure::fixed("bytes", bytes as f64),
            Figure::fixed("wall_s", wall.as_secs_f64()),
            Figure::higher("gb_per_s", gb_per_s(bytes, wall)),
            Figure::fixed("hosts_complete", self.complete() as f64),
        ];
        if let Some([first, median, last]) = self.completions() {
            figures.extend([
                Figure::lower("first_complete_s", first.as_secs_f64()),
                Figure::lower("median_complete_s", median.as_secs_f64()),
                Figure::lower("last_complete_s", last.as_secs_f64()),
            ]);
        }
        figures.extend([
            Figure::lower("seed_copies", self.seed_copies()),
            Figure::lower("cpu_s_per_gb", self.per_gb(self.leech_cpu() + self.seed_cpu)),
            Figure::lower("leech_cpu_s_per_gb", self.per_gb(self.leech_cpu())),
            Figure::lower("seed_cpu_s", self.seed_cpu.as_secs_f64()),
        ]);
        figures
    }

    fn complete(&self) -> usize {
        self.hosts.iter().filter(|host| host.completed.is_some()).count()
    }

    fn table(&self) -> String {
        let (rate, wall) = (gb_per_s(self.bytes(), self.wall), self.wall.as_secs_f64());
        let mut lines = vec![format!(
            "moved     {rate:.3} GB/s ({:.2} Gbit/s) in all: {} in {wall:.2} s",
            rate * 8.0,
            Bytes(self.bytes())
        )];
        if let Some(times) = self.completions() {
            let [first, median, last] = times.map(|time| time.as_secs_f64());
            lines.push(format!(
                "complete  {} of {}: first {first:.2} s, median {median:.2} s, last {last:.2} s",
                self.complete(),
                self.hosts.len()
            ));
        }
        lines.push(format!(
            "seed      gave {:.2} copies, {:.2} CPU-s",
            self.seed_copies(),
            self.seed_cpu.as_secs_f64()
        ));
        lines.push(format!(
            "hosts     {:.3} CPU-s/GB each, giving included; with the seed {:.3}",
            self.per_gb(self.leech_cpu()),
            self.per_gb(self.leech_cpu() + self.seed_cpu)
        ));
        if self.hosts.len() > 1 {
            lines.push("below     the leech that was complete in the middle of all".to_owned());
        }
        lines.join("\n")
    }

    fn verdict(&self, typical: &Side) -> Verdict {
        let wall = self.wall.as_secs_f64().max(f64::MIN_POSITIVE);
        let (leeches, seed) = (self.leech_cpu().as_secs_f64() / wall, self.seed_cpu.as_secs_f64() / wall);
        let cpus = typical.host.cpus;
        if leeches + seed >= FULL * cpus as f64 {
            let many = spoken_leeches(self.swarm.leeches);
            let why =
                format!("all {cpus} CPUs are busy: {many} take {leeches:.2} of them, the seed {seed:.2}");
            return Verdict { bottleneck: Bottleneck::ShardCpu, why };
        }
        judge(typical, self.sender.as_ref(), Around { shares_machine: true, ..Around::default() })
    }

    fn more(&self) -> Map<String, Value> {
        let host = |host: &Host| {
            json!({
                "completed_s": host.completed.map(|time| time.as_secs_f64()),
                "bytes": host.bytes,
                "uploaded": host.uploaded,
                "cpu_s": host.cpu.as_secs_f64(),
                "cpu_s_per_gb": host.cpu.as_secs_f64() / (host.bytes.max(1) as f64 / 1e9),
            })
        };
        let hosts: Vec<_> = self.hosts.iter().map(host).collect();
        [("hosts".to_owned(), json!(hosts))].into_iter().collect()
    }
}

/// What the CPUs of the machine could do, all hosts together: each byte is given once and received once.
fn machine_bound(side: &Side) -> Vec<Bound> {
    let limits = Limits {
        speeds: side.host.speeds,
        cpus: side.host.cpus,
        shards: side.count(ThreadTime::is_shard),
        hash_threads: side.count(ThreadTime::is_hasher),
        copies_to_files: true,
        shares_machine: true,
        link: None,
    };
    // The others bound one leech, not all of them.
    bounds(&limits).into_iter().filter(|bound| bound.name == "cpus").collect()
}

#[cfg(test)]
mod tests {
    use ringtide_engine::driver::IoChoice;

    use super::*;
    use crate::bench::present::Present;
    use crate::bench::side::tests::side;

    fn swarm() -> Swarm {
        Swarm {
            leeches: 3,
            size: None,
            piece_length: None,
            shards: None,
            io: IoChoice::Auto,
            dir: None,
            present: Present::default(),
        }
    }

    fn host(completed: Option<u64>, busy: f64) -> Host {
        Host {
            completed: completed.map(Duration::from_secs),
            bytes: 1_000_000_000,
            uploaded: 0,
            cpu: Duration::from_secs_f64(busy * 4.0),
            side: Some(side("receiver", 1, &[("ringtide-0", busy)])),
        }
    }

    fn finding(swarm: &Swarm, busy: f64) -> Finding<'_> {
        Finding {
            swarm,
            place: "tmpfs",
            image_bytes: 1_000_000_000,
            piece_length: 1 << 20,
            wall: Duration::from_secs(4),
            hosts: vec![host(Some(4), busy), host(Some(2), busy), host(Some(3), busy)],
            seed_cpu: Duration::from_secs(1),
            sender: Some(side("sender", 2, &[("ringtide-0", 0.1)])),
            intervals: Vec::new(),
            stopped: false,
        }
    }

    #[test]
    fn the_whole_swarm_is_told() {
        let swarm = swarm();
        let report = finding(&swarm, 0.25).into_report();
        let text = report.text();
        for line in [
            "moved     0.750 GB/s (6.00 Gbit/s) in all: 3.00 GB in 4.00 s",
            "complete  3 of 3: first 2.00 s, median 3.00 s, last 4.00 s",
            "seed      gave 2.00 copies, 1.00 CPU-s",
            "hosts     1.000 CPU-s/GB each, giving included; with the seed 1.333",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        let json = report.json();
        assert_eq!((&json["seed_copies"], &json["bound"]), (&json!(2.0), &json!("cpus")));
        assert_eq!(json["hosts"].as_array().map(Vec::len), Some(3));
        assert_eq!(json["sides"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn busy_cpus_are_the_verdict_of_all_hosts_together() {
        let swarm = swarm();
        let report = finding(&swarm, 2.5).into_report();
        let why = report.verdict.map(|verdict| verdict.why).unwrap_or_default();
        assert_eq!(why, "all 8 CPUs are busy: 3 leeches take 7.50 of them, the seed 0.25");
    }

    #[test]
    fn a_swarm_that_was_stopped_at_once_is_a_report_too() {
        let swarm = swarm();
        let hosts = vec![Host { side: None, bytes: 0, ..host(None, 0.0) }];
        let report = Finding { hosts, sender: None, stopped: true, ..finding(&swarm, 0.0) }.into_report();
        assert!(report.text().contains("stopped before all were complete"), "{}", report.text());
        assert!(report.json()["last_complete_s"].is_null() && report.json()["verdict"].is_null());
    }
}
