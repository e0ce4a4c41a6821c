//! `Finding`: what `bench net` found out, made into a report.

use serde_json::{Map, Value, json};

use super::client::{Client, Extent};
use super::protocol::Test;
use crate::bench::bound::{Limits, bounds};
use crate::bench::link::Link;
use crate::bench::meter::Interval;
use crate::bench::report::{Figure, Report};
use crate::bench::side::{Host, Side};
use crate::bench::threads::ThreadTime;
use crate::bench::verdict::{Around, judge};
use crate::text::escape;
use crate::units::{BinaryBytes, Bytes, count};

/// What was found out.
pub(super) struct Finding {
    pub(super) test: Test,
    pub(super) receiver: Side,
    pub(super) sender: Side,
    pub(super) shares_machine: bool,
    /// What is between the two, where that is known.
    pub(super) link: Option<Link>,
    pub(super) intervals: Vec<Interval>,
}

impl Finding {
    pub(super) fn into_report(mut self, client: &Client) -> Report {
        // Throwing away is no writing.
        self.receiver.distributions.retain(|named| named.name != "write_us");
        let verdict = judge(
            &self.receiver,
            Some(&self.sender),
            Around { shares_machine: self.shares_machine, link: self.link.as_ref(), disk_gb_per_s: None },
        );
        Report {
            bench: "net",
            headings: self.headings(client),
            parameters: self.parameters(client),
            figures: self.figures(),
            bounds: bounds(&self.limits()),
            verdict: Some(verdict),
            table: None,
            more: Map::new(),
            intervals: self.intervals,
            sides: vec![self.receiver, self.sender],
        }
    }

    fn headings(&self, client: &Client) -> Vec<(&'static str, String)> {
        let host = |host: &Host| {
            escape(&format!("{}, --io {}, hash kernel {}", host.machine, host.io, host.hash_kernel))
        };
        let amount = match client.extent {
            Extent::Size(_) => Bytes(self.test.size).to_string(),
            Extent::Time(_) => format!("for {:.1} s", self.receiver.wall_s),
        };
        let content = format!(
            "{amount}, made up in memory, in pieces of {}, over {}",
            BinaryBytes(self.test.piece_length.into()),
            count(self.test.connections.into(), "connection"),
        );
        let sender =
            if self.shares_machine { "the same machine".to_owned() } else { host(&self.sender.host) };
        let mut headings =
            vec![("receiver", host(&self.receiver.host)), ("sender", sender), ("content", content)];
        headings.extend(self.link.as_ref().map(|link| ("link", link.to_string())));
        headings
    }

    fn parameters(&self, client: &Client) -> Value {
        let time_s = match client.extent {
            Extent::Time(time) => Some(time.as_secs_f64()),
            Extent::Size(_) => None,
        };
        json!({
            "server": client.server,
            "size": self.test.size,
            "time_s": time_s,
            "omit_s": client.omit.as_secs_f64(),
            "piece_length": self.test.piece_length,
            "connections": self.test.connections,
            "reverse": self.test.reverse,
            "link_mbit_per_s": self.link.as_ref().map(|link| link.mbit_per_s),
        })
    }

    fn figures(&self) -> Vec<Figure> {
        let (receiver, sender) = (&self.receiver, &self.sender);
        vec![
            Figure::fixed("bytes", receiver.bytes as f64),
            Figure::fixed("wall_s", receiver.wall_s),
            Figure::higher("gb_per_s", receiver.gb_per_s()),
            Figure::lower("receiver_cpu_s_per_gb", receiver.per_gb(receiver.cpu_s)),
            Figure::lower("sender_cpu_s_per_gb", sender.per_gb(sender.cpu_s)),
        ]
    }

    fn limits(&self) -> Limits {
        let receiver = &self.receiver;
        Limits {
            speeds: receiver.host.speeds,
            cpus: receiver.host.cpus,
            shards: receiver.count(ThreadTime::is_shard).min(self.test.connections.into()),
            hash_threads: receiver.count(ThreadTime::is_hasher),
            copies_to_files: false,
            shares_machine: self.shares_machine,
            link: self.link.clone(),
        }
    }
}
