//! `Table`: the speeds that `bench hash` measured, for people and for programs.

use ringtide_hasher::{Algorithm, Dispatcher};
use serde_json::{Map, Value, json};

use super::machine::machine;
use super::report::{Figure, Report};
use crate::units::BinaryBytes;

/// Where the messages lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    L2,
    L3,
    Dram,
}

impl Memory {
    fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::Dram => "dram",
        }
    }

    pub(super) fn spelled(self) -> &'static str {
        match self {
            Self::L2 => "the L2 cache",
            Self::L3 => "the L3 cache",
            Self::Dram => "DRAM",
        }
    }
}

/// One speed.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) algorithm: Algorithm,
    /// The kernel's name; `auto` is the choice that the engine makes.
    pub(super) kernel: String,
    /// How many wait to be hashed together.
    pub(super) messages: usize,
    /// Of each message.
    pub(super) bytes: usize,
    pub(super) memory: Memory,
    /// Decimal.
    pub(super) gb_per_s: f64,
}

/// All speeds.
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    pub(super) message_bytes: usize,
    /// What counts as DRAM.
    pub(super) memory_bytes: usize,
    pub(super) runs: usize,
}

impl Table {
    /// The speeds as a report.
    pub(super) fn report(&self) -> Report {
        let figure = |row: &Row| {
            let (algorithm, kernel, memory) =
                (row.algorithm, row.kernel.replace('-', "_"), row.memory.name());
            Figure::higher(&format!("{algorithm}_{kernel}_{}_{memory}_gb_per_s", row.messages), row.gb_per_s)
        };
        Report {
            bench: "hash",
            headings: vec![
                ("machine", machine()),
                ("choice", Dispatcher::current().to_string()),
                (
                    "unit",
                    format!(
                        "GB/s of one core, messages of {}, best of {} runs; DRAM is {}",
                        BinaryBytes(self.message_bytes as u64),
                        self.runs,
                        BinaryBytes(self.memory_bytes as u64),
                    ),
                ),
            ],
            parameters: json!({ "message_bytes": self.message_bytes, "memory_bytes": self.memory_bytes }),
            figures: self.rows.iter().map(figure).collect(),
            intervals: Vec::new(),
            sides: Vec::new(),
            bounds: Vec::new(),
            verdict: None,
            table: Some(self.text()),
            more: self.more(),
        }
    }

    fn more(&self) -> Map<String, Value> {
        let row = |row: &Row| {
            json!({
                "algorithm": row.algorithm.to_string(),
                "kernel": row.kernel,
                "messages": row.messages,
                "bytes": row.bytes,
                "memory": row.memory.name(),
                "gb_per_s": row.gb_per_s,
            })
        };
        let keys = [
            ("machine", json!(machine())),
            ("runs", json!(self.runs)),
            ("choice", json!(Dispatcher::current().to_string())),
            ("rows", self.rows.iter().map(row).collect()),
        ];
        keys.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
    }

    /// A table for each algorithm and memory: kernels downwards, numbers of messages across.
    fn text(&self) -> String {
        let mut text = String::new();
        let same_table = |a: &Row, b: &Row| (a.algorithm, a.memory) == (b.algorithm, b.memory);
        for table in self.rows.chunk_by(same_table) {
            self::table(&mut text, table);
        }
        text.trim().to_owned()
    }
}

fn table(text: &mut String, rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    let lines: Vec<_> = rows.chunk_by(|a, b| a.kernel == b.kernel).collect();
    let heading = format!("{} from {}", first.algorithm, first.memory.spelled());
    let cells = |line: &[Row], cell: fn(&Row) -> String| line.iter().map(cell).collect::<String>();
    *text += &format!("\n{heading:<25}{}\n", cells(lines[0], |row| format!("{:>7}", row.messages)));
    for line in &lines {
        let speeds = cells(line, |row| format!("{:>7.2}", row.gb_per_s));
        *text += &format!("  {:<23}{speeds}\n", line[0].kernel);
    }
    let of = |kernel: &str| lines.iter().find(|line| line[0].kernel == kernel).copied().unwrap_or_default();
    let gains = of("auto").iter().zip(of("crate")).map(|(auto, its)| auto.gb_per_s / its.gb_per_s);
    let gains: String = gains.map(|gain| format!("{gain:>7.2}")).collect();
    *text += &format!("  {:<23}{gains}\n", "auto / crate");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kernel: &str, messages: usize, gb_per_s: f64) -> Row {
        let (algorithm, memory) = (Algorithm::Sha1, Memory::Dram);
        Row { algorithm, kernel: kernel.to_owned(), messages, bytes: 16384, memory, gb_per_s }
    }

    #[test]
    fn rows_become_lines_and_the_gain_is_told() {
        let rows =
            vec![row("crate", 1, 2.0), row("crate", 16, 2.0), row("auto", 1, 2.0), row("auto", 16, 11.0)];
        let table = Table { rows, message_bytes: 16384, memory_bytes: 1 << 30, runs: 5 };
        let text = table.text();
        for line in [
            "sha1 from DRAM                 1     16",
            "  crate                     2.00   2.00",
            "  auto                      2.00  11.00",
            "  auto / crate              1.00   5.50",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        let json = table.report().json();
        assert_eq!(
            json["rows"][3],
            json!({"algorithm": "sha1", "kernel": "auto", "messages": 16, "bytes": 16384, "memory": "dram", "gb_per_s": 11.0})
        );
    }
}
