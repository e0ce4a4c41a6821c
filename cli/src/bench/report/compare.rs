//! `Comparison`: a report held against an older one of the same bench.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::text::{amount, labelled};
use super::{Better, FORMAT, FORMAT_VERSION, Report};
use crate::exit::Failure;
use crate::text::{escape, quoted};

/// A change beyond this is worth a word: what comes and goes by itself between runs is mostly less.
const WORTH_A_WORD: f64 = 0.1;

/// An older report, read from a file.
#[derive(Clone, Debug)]
pub(crate) struct Old {
    path: String,
    json: Value,
}

/// What became of each figure.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    path: String,
    /// Parameters, `machine` and `version` by name, where they are not the same: then the figures are not of the same thing.
    other: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    name: String,
    old: f64,
    new: f64,
    change: Change,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    /// By more than a tenth, for better or worse.
    Other,
    /// By less than a tenth.
    None,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Other => "differs",
            Self::None => "",
        }
    }
}

impl Old {
    /// Reads a report of that bench.
    pub(crate) fn read(path: &Path, bench: &str) -> Result<Self, Failure> {
        let shown = quoted(path);
        let bytes =
            std::fs::read(path).map_err(|error| Failure::io(format_args!("cannot read {shown}"), &error))?;
        let json: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::bad_input(format_args!("{shown} is no JSON: {error}")))?;
        if json["format"] != FORMAT {
            return Err(Failure::bad_input(format_args!(
                "{shown} is no report of ringtide bench; make one with --json"
            )));
        }
        if json["format_version"] != FORMAT_VERSION {
            return Err(Failure::bad_input(format_args!(
                "{shown} is a report of another format ({}, here it is {FORMAT_VERSION}): make it anew",
                json["format_version"]
            )));
        }
        if json["bench"] != bench {
            let other = escape(json["bench"].as_str().unwrap_or("?"));
            return Err(Failure::bad_input(format_args!(
                "{shown} is a report of bench {other}, and this is bench {bench}"
            )));
        }
        Ok(Self { path: shown, json })
    }

    /// A figure by its name: a key, or `role.distribution.quantile`.
    fn value(&self, name: &str) -> Option<f64> {
        let mut parts = name.split('.');
        let (first, distribution, quantile) = (parts.next()?, parts.next(), parts.next());
        let (Some(distribution), Some(quantile)) = (distribution, quantile) else {
            return self.json[name].as_f64();
        };
        let side = self.json["sides"].as_array()?.iter().find(|side| side["role"] == first)?;
        side["distributions"][distribution][quantile].as_f64()
    }
}

impl Report {
    /// Every figure that both have.
    pub(crate) fn compare(&self, old: &Old) -> Comparison {
        let rows = self.all_figures().into_iter().filter_map(|figure| {
            let (before, new) = (old.value(&figure.name)?, figure.value);
            Some(Row { change: change(before, new, figure.better), name: figure.name, old: before, new })
        });
        Comparison { path: old.path.clone(), other: self.other_conditions(old), rows: rows.collect() }
    }

    /// What was asked for and what it was measured on, where it differs.
    fn other_conditions(&self, old: &Old) -> Vec<String> {
        let names = |parameters: &Value| {
            parameters.as_object().map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
        };
        let before = &old.json["parameters"];
        let mut all: BTreeSet<String> = names(&self.parameters);
        all.extend::<BTreeSet<String>>(names(before));
        let differs = |name: &String| before.get(name) != self.parameters.get(name);
        let mut other: Vec<String> = all.into_iter().filter(differs).collect();
        let machine = self.sides.first().map(|side| side.host.machine.as_str());
        if machine != old.json["sides"][0]["host"]["machine"].as_str() {
            other.push("machine".to_owned());
        }
        if old.json["version"] != env!("CARGO_PKG_VERSION") {
            other.push("version".to_owned());
        }
        other
    }
}

fn change(old: f64, new: f64, better: Better) -> Change {
    match better {
        _ if (new - old).abs() <= WORTH_A_WORD * old.abs() => Change::None,
        Better::Neither => Change::Other,
        Better::Higher if new > old => Change::Better,
        Better::Lower if new < old => Change::Better,
        Better::Higher | Better::Lower => Change::Worse,
    }
}

impl Row {
    /// None where the old one is zero.
    fn ratio(&self) -> Option<f64> {
        (self.old != 0.0).then(|| self.new / self.old)
    }

    fn text(&self) -> String {
        let ratio = self.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let line = format!(
            "{:<38}{:>10}{:>10}{ratio:>8}  {}",
            self.name,
            amount(self.old),
            amount(self.new),
            self.change.word()
        );
        line.trim_end().to_owned()
    }
}

impl Comparison {
    pub(crate) fn text(&self) -> String {
        let title = format!("{:<38}{:>10}{:>10}{:>8}", "compared with the old report", "old", "new", "ratio");
        let mut lines = vec![title];
        lines.extend(self.rows.iter().map(Row::text));
        if !self.other.is_empty() {
            lines.extend(labelled("not alike", &escape(&self.other.join(", "))));
        }
        let beyond = self.rows.iter().filter(|row| row.change != Change::None).count();
        lines.push(match beyond {
            0 => format!("nothing differs from {} by more than 10 %", self.path),
            _ => {
                format!("{beyond} of {} figures differ from {} by more than 10 %", self.rows.len(), self.path)
            }
        });
        lines.join("\n")
    }

    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name,
                "old": row.old,
                "new": row.new,
                "ratio": row.ratio(),
                "beyond_10_percent": row.change != Change::None,
                "change": match row.change {
                    Change::Better => "better",
                    Change::Worse => "worse",
                    Change::Other => "differs",
                    Change::None => "none",
                },
            })
        };
        json!({ "old": self.path, "not_alike": self.other, "figures": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::exit::Exit;

    fn old(content: &str) -> Result<Old, Failure> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("old.json");
        std::fs::write(&path, content).expect("is written");
        Old::read(&path, "net")
    }

    #[test]
    fn figures_are_held_against_their_own_kind() {
        let old = old(&report(2.5).json().to_string()).expect("is a report");
        let comparison = report(2.0).compare(&old);
        let row = |name: &str| comparison.rows.iter().find(|row| row.name == name).cloned().expect(name);
        assert_eq!((row("gb_per_s").change, row("gb_per_s").ratio()), (Change::Worse, Some(0.8)));
        assert_eq!(row("bytes").change, Change::None);
        assert_eq!(row("receiver.request_to_block_us.p99").ratio(), Some(1.0));
        assert!(comparison.text().lines().all(|line| line.chars().count() <= 80), "{}", comparison.text());
        assert!(
            comparison
                .text()
                .contains("gb_per_s                                    2.50      2.00    0.80  WORSE")
        );
        assert!(
            comparison.json()["figures"].as_array().is_some_and(|rows| rows.len() == comparison.rows.len())
        );
    }

    #[test]
    fn what_was_measured_otherwise_is_named() {
        let same = report(2.0);
        let alike = same.compare(&old(&same.json().to_string()).expect("is a report"));
        assert!(alike.other.is_empty() && !alike.text().contains("not alike"), "{alike:?}");
        let mut before = same.json();
        before["parameters"] = json!({ "connections": 4, "reverse": true });
        before["sides"][0]["host"]["machine"] = json!("another");
        before["version"] = json!("0.0.1");
        let other = same.compare(&old(&before.to_string()).expect("is a report"));
        assert_eq!(other.other, ["connections", "reverse", "machine", "version"]);
        assert!(other.text().contains("connections, reverse, machine, version"), "{}", other.text());
        assert_eq!(other.json()["not_alike"][0], "connections");
    }

    #[test]
    fn ten_percent_is_the_line_and_direction_counts() {
        assert_eq!(change(100.0, 110.0, Better::Higher), Change::None);
        assert_eq!(change(1.0, 1.2, Better::Higher), Change::Better);
        assert_eq!(change(1.0, 1.2, Better::Lower), Change::Worse);
        assert_eq!(change(1.0, 0.8, Better::Lower), Change::Better);
        assert_eq!(change(1.0, 0.8, Better::Neither), Change::Other);
        assert_eq!(
            (change(0.0, 0.0, Better::Lower), change(0.0, 1.0, Better::Lower)),
            (Change::None, Change::Worse)
        );
    }

    #[test]
    fn what_is_no_such_report_is_refused() {
        let refused = |content: &str| old(content).expect_err("is refused");
        assert!(refused("{").message.contains("is no JSON"));
        assert!(refused("{\"rows\":[]}").message.contains("is no report"));
        let other = report(1.0).json().to_string();
        assert!(
            refused(&other.replace("\"net\"", "\"disk\""))
                .message
                .contains("bench disk, and this is bench net")
        );
        assert!(
            refused(&other.replace("\"format_version\":1", "\"format_version\":9"))
                .message
                .contains("another format")
        );
        assert!([refused("1"), refused("{}")].iter().all(|failure| failure.exit == Exit::BadInput));
        assert_eq!(
            Old::read(Path::new("/nonexistent.json"), "net").expect_err("is not there").exit,
            Exit::BadInput
        );
    }
}
