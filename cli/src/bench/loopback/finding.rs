//! `Finding`: what `bench loopback` found out, made into a report.

use std::time::Duration;

use serde_json::{Map, json};

use crate::bench::bound::{Limits, bounds};
use crate::bench::calibrate::Speeds;
use crate::bench::meter::Interval;
use crate::bench::report::{Figure, Report};
use crate::bench::side::Side;
use crate::bench::threads::ThreadTime;
use crate::bench::verdict::{Around, judge};
use crate::units::{BinaryBytes, Bytes, count, gb_per_s};

/// What was found out.
pub(super) struct Finding<'a> {
    /// Of the image.
    pub(super) image_bytes: u64,
    /// That the leech fetched.
    pub(super) bytes: u64,
    pub(super) piece_length: u32,
    /// What kind of place the files were in.
    pub(super) place: &'a str,
    /// Of each side, where it was asked for.
    pub(super) shards: Option<u8>,
    /// The copy is the same as the image; else it was stopped before it was whole.
    pub(super) compared: bool,
    pub(super) times: Times,
    pub(super) intervals: Vec<Interval>,
    pub(super) receiver: Side,
    pub(super) senders: Vec<Side>,
}

/// How long things took.
pub(super) struct Times {
    /// From starting the leech to its end, everything on disk.
    pub(super) wall: Duration,
    pub(super) leech_cpu: Duration,
    /// Of the transfer alone.
    pub(super) seed_cpu: Duration,
    /// Until the seeds had verified their image.
    pub(super) seed_start_cpu: Duration,
}

impl Finding<'_> {
    pub(super) fn into_report(mut self) -> Report {
        self.receiver.host.speeds = Speeds::measure();
        let verdict = judge(
            &self.receiver,
            Side::together(&self.senders).as_ref(),
            Around { shares_machine: true, ..Around::default() },
        );
        Report {
            bench: "loopback",
            headings: self.headings(),
            parameters: json!({
                "size": self.image_bytes,
                "piece_length": self.piece_length,
                "io": self.receiver.host.io,
                "shards": self.shards,
                "peers": self.senders.len(),
                "directory": self.place,
                "hash_kernel": self.receiver.host.hash_kernel,
            }),
            figures: self.figures(),
            bounds: bounds(&self.limits()),
            verdict: Some(verdict),
            table: None,
            more: Map::new(),
            intervals: self.intervals,
            sides: [self.receiver].into_iter().chain(self.senders).collect(),
        }
    }

    fn headings(&self) -> Vec<(&'static str, String)> {
        let host = &self.receiver.host;
        let content = format!(
            "{} in pieces of {}, {}, from {}",
            Bytes(self.bytes),
            BinaryBytes(self.piece_length.into()),
            self.place,
            count(self.senders.len() as u64, "seed"),
        );
        let engine = format!(
            "ringtide {}, --io {}, hash kernel {}",
            env!("CARGO_PKG_VERSION"),
            host.io,
            host.hash_kernel
        );
        let checked = match self.compared {
            true => "the copy is the same as the image byte for byte",
            false => "stopped before the copy was whole: what there is until then",
        };
        vec![
            ("machine", host.machine.clone()),
            ("content", content),
            ("engine", engine),
            ("checked", checked.to_owned()),
        ]
    }

    fn figures(&self) -> Vec<Figure> {
        let Times { wall, leech_cpu, seed_cpu, seed_start_cpu } = self.times;
        let per_gb = |cpu: Duration| cpu.as_secs_f64() / (self.bytes.max(1) as f64 / 1e9);
        vec![
            Figure::fixed("bytes", self.bytes as f64),
            Figure::fixed("wall_s", wall.as_secs_f64()),
            Figure::higher("gb_per_s", gb_per_s(self.bytes, wall)),
            Figure::lower("leech_cpu_s_per_gb", per_gb(leech_cpu)),
            Figure::lower("seed_cpu_s_per_gb", per_gb(seed_cpu)),
            Figure::lower("leech_cpu_s", leech_cpu.as_secs_f64()),
            Figure::lower("seed_cpu_s", seed_cpu.as_secs_f64()),
            Figure::lower("seed_verify_cpu_s", seed_start_cpu.as_secs_f64()),
        ]
    }

    fn limits(&self) -> Limits {
        let receiver = &self.receiver;
        Limits {
            speeds: receiver.host.speeds,
            cpus: receiver.host.cpus,
            shards: receiver.count(ThreadTime::is_shard).min(self.senders.len()),
            hash_threads: receiver.count(ThreadTime::is_hasher),
            copies_to_files: true,
            shares_machine: true,
            link: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::side::tests::side;
    use crate::bench::verdict::Bottleneck;

    fn finding(receiver: Side, senders: Vec<Side>) -> Finding<'static> {
        Finding {
            image_bytes: 2_000_000_000,
            bytes: 2_000_000_000,
            piece_length: 1 << 20,
            place: "tmpfs",
            shards: None,
            compared: true,
            times: Times {
                wall: Duration::from_secs(4),
                leech_cpu: Duration::from_millis(600),
                seed_cpu: Duration::from_millis(400),
                seed_start_cpu: Duration::from_secs(1),
            },
            intervals: Vec::new(),
            receiver,
            senders,
        }
    }

    #[test]
    fn all_seeds_count_towards_full_machines() {
        let mut receiver = side("receiver", 2, &[("ringtide-0", 0.6)]);
        receiver.host.cpus = 2;
        let busy_seed = || side("sender", 1, &[("ringtide-0", 0.7)]);
        let report = finding(receiver, vec![busy_seed(), busy_seed()]).into_report();
        let verdict = report.verdict.expect("both ends were measured");
        assert!(
            verdict.bottleneck == Bottleneck::Peer && verdict.why.contains("the sender 1.40"),
            "{verdict:?}"
        );
    }

    #[test]
    fn costs_are_per_decimal_gigabyte() {
        let finding = finding(
            side("receiver", 2, &[("ringtide-0", 0.2)]),
            vec![side("sender", 2, &[("ringtide-0", 0.1)])],
        );
        let report = finding.into_report();
        let text = report.text();
        for part in [
            "2.00 GB in pieces of 1 MiB, tmpfs, from 1 seed",
            "0.500 GB/s (4.00 Gbit/s): 2.00 GB in 4.00 s",
            "0.300 CPU-s/GB leech",
            "0.200 CPU-s/GB seed",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let json = report.json();
        assert_eq!((&json["bytes"], &json["leech_cpu_s"]), (&json!(2_000_000_000_u64), &json!(0.6)));
    }
}
