//! `Finding`: what `bench disk` found out, made into a report.

use std::time::Duration;

use serde_json::{Map, json};

use super::raw::DEPTH;
use super::reading::Reading;
use super::{Disk, spelled};
use crate::bench::bound::{Bound, Limits, bounds};
use crate::bench::calibrate::Speeds;
use crate::bench::meter::Interval;
use crate::bench::report::{Figure, Report};
use crate::bench::side::Side;
use crate::bench::threads::ThreadTime;
use crate::bench::verdict::{Around, judge};
use crate::text::quoted;
use crate::units::{BinaryBytes, Bytes, gb_per_s};

/// What was found out.
pub(super) struct Finding<'a> {
    pub(super) disk: &'a Disk,
    pub(super) filesystem: &'a str,
    /// What the disk takes from writes alone, in decimal gigabytes per second, where that is known.
    pub(super) raw: Option<f64>,
    /// How often it was written and read; the last time perhaps not to the end.
    pub(super) rounds: u32,
    pub(super) written: Written,
    /// None where a signal came before.
    pub(super) read: Option<Reading>,
    pub(super) intervals: Vec<Interval>,
    /// By a signal.
    pub(super) stopped: bool,
}

/// What writing came to.
pub(super) struct Written {
    /// Past the page cache.
    pub(super) direct_bytes: u64,
    pub(super) cached_bytes: u64,
    /// From the first byte until all that was written was flushed.
    pub(super) wall: Duration,
    pub(super) cpu_s: f64,
    pub(super) sender_cpu_s: f64,
    /// Everything was written, and not only what there was until a signal came.
    pub(super) complete: bool,
    /// Of the last round.
    pub(super) receiver: Side,
    pub(super) sender: Side,
}

impl Written {
    /// Both, one after the other.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            direct_bytes: self.direct_bytes + later.direct_bytes,
            cached_bytes: self.cached_bytes + later.cached_bytes,
            wall: self.wall + later.wall,
            cpu_s: self.cpu_s + later.cpu_s,
            sender_cpu_s: self.sender_cpu_s + later.sender_cpu_s,
            ..later
        }
    }

    fn per_gb(&self, cpu_s: f64) -> f64 {
        cpu_s / (self.bytes().max(1) as f64 / 1e9)
    }

    fn bytes(&self) -> u64 {
        self.direct_bytes + self.cached_bytes
    }

    fn gb_per_s(&self) -> f64 {
        gb_per_s(self.bytes(), self.wall)
    }
}

impl Finding<'_> {
    pub(super) fn into_report(mut self) -> Report {
        self.written.receiver.host.speeds = Speeds::measure();
        let verdict = judge(
            &self.written.receiver,
            Some(&self.written.sender),
            Around { shares_machine: true, link: None, disk_gb_per_s: self.raw },
        );
        Report {
            bench: "disk",
            headings: self.headings(),
            parameters: json!({
                "directory": self.disk.dir,
                "filesystem": self.filesystem,
                "size": self.disk.size,
                "time_s": self.disk.time.map(|time| time.as_secs_f64()),
                "piece_length": self.disk.piece_length,
                "direct": spelled(self.disk.direct),
                "io": self.written.receiver.host.io,
                "rounds": self.rounds,
                "stopped": self.stopped,
                "read_cold": self.read.as_ref().map(|read| read.cold),
            }),
            figures: self.figures(),
            bounds: self.bounds(),
            verdict: Some(verdict),
            table: Some(self.table()),
            more: Map::new(),
            intervals: self.intervals,
            sides: vec![self.written.receiver, self.written.sender],
        }
    }

    fn headings(&self) -> Vec<(&'static str, String)> {
        let host = &self.written.receiver.host;
        let piece = BinaryBytes(self.disk.piece_length.into());
        let content = format!(
            "{} in pieces of {piece}, made up in memory, fetched over loopback",
            Bytes(self.disk.size)
        );
        let engine = format!(
            "ringtide {}, --io {}, --direct {}, hash kernel {}",
            env!("CARGO_PKG_VERSION"),
            host.io,
            spelled(self.disk.direct),
            host.hash_kernel
        );
        vec![
            ("machine", host.machine.clone()),
            ("directory", format!("{} ({})", quoted(&self.disk.dir), self.filesystem)),
            ("content", content),
            ("engine", engine),
            ("checked", self.checked()),
        ]
    }

    fn checked(&self) -> String {
        let rounds = match self.rounds {
            1 => String::new(),
            rounds => format!("; {rounds} rounds, latencies and threads are those of the last"),
        };
        let what = match self.stopped {
            false => "every piece came back as it was written",
            true => "stopped: what there is until then",
        };
        format!("{what}{rounds}")
    }

    fn figures(&self) -> Vec<Figure> {
        let written = &self.written;
        let mut figures = vec![
            Figure::fixed("bytes", written.bytes() as f64),
            Figure::fixed("wall_s", written.wall.as_secs_f64()),
            Figure::higher("gb_per_s", written.gb_per_s()),
            Figure::lower("write_cpu_s_per_gb", written.per_gb(written.cpu_s)),
            Figure::lower("sender_cpu_s_per_gb", written.per_gb(written.sender_cpu_s)),
            Figure::fixed("direct_bytes", written.direct_bytes as f64),
            Figure::fixed("cached_bytes", written.cached_bytes as f64),
        ];
        figures.extend(self.raw.map(|raw| Figure::higher("raw_write_gb_per_s", raw)));
        if let Some(read) = &self.read {
            figures.extend([
                Figure::fixed("read_bytes", read.bytes as f64),
                Figure::fixed("read_wall_s", read.wall.as_secs_f64()),
                Figure::higher("read_gb_per_s", gb_per_s(read.bytes, read.wall)),
                Figure::lower("read_cpu_s_per_gb", cpu_per_gb(read)),
            ]);
        }
        figures
    }

    fn bounds(&self) -> Vec<Bound> {
        let receiver = &self.written.receiver;
        let mut bounds = bounds(&Limits {
            speeds: receiver.host.speeds,
            cpus: receiver.host.cpus,
            shards: receiver.count(ThreadTime::is_shard).min(1),
            hash_threads: receiver.count(ThreadTime::is_hasher),
            copies_to_files: self.written.cached_bytes > self.written.direct_bytes,
            shares_machine: true,
            link: None,
        });
        bounds.extend(self.raw.map(|raw| Bound {
            name: "disk",
            gb_per_s: raw,
            why: format!("what it takes from {DEPTH} plain writes of 1 MiB at a time past the page cache"),
        }));
        bounds.sort_by(|a, b| a.gb_per_s.total_cmp(&b.gb_per_s));
        bounds
    }

    fn table(&self) -> String {
        let written = &self.written;
        let speed = |rate: f64| format!("{rate:.3} GB/s ({:.2} Gbit/s)", rate * 8.0);
        let mut lines = vec![
            format!(
                "wrote     {}: {} in {:.2} s, flushed",
                speed(written.gb_per_s()),
                Bytes(written.bytes()),
                written.wall.as_secs_f64()
            ),
            format!(
                "          {} past the page cache, {} through it",
                Bytes(written.direct_bytes),
                Bytes(written.cached_bytes)
            ),
            format!(
                "          {:.3} CPU-s/GB, network and hashing included; the sender {:.3}",
                written.per_gb(written.cpu_s),
                written.per_gb(written.sender_cpu_s)
            ),
        ];
        if let Some(read) = &self.read {
            let (rate, wall) = (gb_per_s(read.bytes, read.wall), read.wall.as_secs_f64());
            lines.push(format!("read      {}: {} in {wall:.2} s", speed(rate), Bytes(read.bytes)));
            let cold = match read.cold {
                true => "cold, if the kernel dropped it from the page cache as it was asked to",
                false => "from memory: there is no disk beneath tmpfs",
            };
            lines.push(format!("          {cold}"));
            lines.push(format!("          {:.3} CPU-s/GB, hashing included", cpu_per_gb(read)));
        }
        lines.join("\n")
    }
}

fn cpu_per_gb(read: &Reading) -> f64 {
    read.cpu.as_secs_f64() / (read.bytes.max(1) as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use ringtide_engine::driver::IoChoice;
    use ringtide_engine::storage::DirectChoice;

    use super::*;
    use crate::bench::present::Present;
    use crate::bench::side::tests::side;

    fn disk() -> Disk {
        Disk {
            dir: "/scratch".into(),
            size: 2_000_000_000,
            time: None,
            piece_length: 1 << 20,
            direct: DirectChoice::Auto,
            io: IoChoice::Auto,
            present: Present::default(),
        }
    }

    fn finding(disk: &Disk) -> Finding<'_> {
        Finding {
            disk,
            filesystem: "ext4",
            raw: Some(0.625),
            rounds: 1,
            written: Written {
                direct_bytes: 1_500_000_000,
                cached_bytes: 500_000_000,
                wall: Duration::from_secs(4),
                cpu_s: 0.6,
                sender_cpu_s: 0.2,
                complete: true,
                receiver: side("receiver", 2, &[("ringtide-0", 0.06)]),
                sender: side("sender", 2, &[("ringtide-0", 0.02)]),
            },
            read: Some(Reading {
                bytes: 2_000_000_000,
                wall: Duration::from_secs(1),
                cpu: Duration::from_millis(300),
                cold: true,
            }),
            stopped: false,
            intervals: Vec::new(),
        }
    }

    #[test]
    fn both_ways_are_told_and_a_slow_disk_is_the_bound() {
        let disk = disk();
        let report = finding(&disk).into_report();
        let text = report.text();
        for line in [
            "wrote     0.500 GB/s (4.00 Gbit/s): 2.00 GB in 4.00 s, flushed",
            "          1.50 GB past the page cache, 500 MB through it",
            "          0.300 CPU-s/GB, network and hashing included; the sender 0.100",
            "read      2.000 GB/s (16.00 Gbit/s): 2.00 GB in 1.00 s",
            "          0.150 CPU-s/GB, hashing included",
            "directory \"/scratch\" (ext4)",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        assert!(text.contains("bound     0.62 GB/s (disk: what it takes"), "{text}");
        let json = report.json();
        assert_eq!(
            (&json["bound"], &json["efficiency"], &json["read_gb_per_s"]),
            (&json!("disk"), &json!(0.8), &json!(2.0))
        );
    }

    #[test]
    fn what_was_stopped_says_so() {
        let disk = disk();
        let report = Finding { read: None, raw: None, stopped: true, ..finding(&disk) }.into_report();
        assert!(report.text().contains("stopped: what there is until then"), "{}", report.text());
        assert!(report.json()["read_gb_per_s"].is_null() && report.json()["bound"] != "disk");
    }

    #[test]
    fn rounds_add_up() {
        let disk = disk();
        let (one, other) = (finding(&disk), finding(&disk).written);
        let written = one.written.and(Written { cpu_s: 0.2, ..other });
        let report = Finding { rounds: 2, written, ..finding(&disk) }.into_report();
        let (text, json) = (report.text(), report.json());
        assert!(text.contains("2 rounds, latencies"), "{text}");
        assert_eq!((&json["bytes"], &json["gb_per_s"]), (&json!(4_000_000_000_u64), &json!(0.5)));
        assert_eq!(json["write_cpu_s_per_gb"], json!(0.2));
    }
}
