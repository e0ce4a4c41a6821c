//! `Report`: what a bench found out, the same for all of them: figures, intervals, what each side measured, the bound and
//! the verdict.
//!
//! Owns the JSON. How people see it is `text` and `html`, how it differs from an older one `compare`.

mod compare;
mod html;
mod text;

use serde_json::{Map, Value, json};

use super::bound::Bound;
use super::meter::Interval;
use super::side::Side;
use super::verdict::Verdict;
pub(crate) use compare::{Comparison, Old};
pub(crate) use text::interval_line;

/// What reports call themselves, so that other JSON is not taken for one.
const FORMAT: &str = "ringtide-bench";

/// To be raised when a key changes its meaning or goes away; new keys may come.
const FORMAT_VERSION: u64 = 1;

/// What a bench found out.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Which bench: only reports of the same are compared.
    pub(crate) bench: &'static str,
    /// What was measured on what, for people: a word and what it means here.
    pub(crate) headings: Vec<(&'static str, String)>,
    /// What was asked for, for programs.
    pub(crate) parameters: Value,
    /// The results, by stable names.
    pub(crate) figures: Vec<Figure>,
    pub(crate) intervals: Vec<Interval>,
    /// The first is the one whose speed is bounded.
    pub(crate) sides: Vec<Side>,
    /// The lowest first; none where no bound is known.
    pub(crate) bounds: Vec<Bound>,
    pub(crate) verdict: Option<Verdict>,
    /// For people, a table of its own, which shows the figures; else they are listed.
    pub(crate) table: Option<String>,
    /// For programs, further keys.
    pub(crate) more: Map<String, Value>,
}

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Ends in its unit: `_s`, `_us`, `_per_s`, `bytes`.
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) better: Better,
}

/// Which way a figure gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
    /// It is no matter of better or worse.
    Neither,
}

impl Figure {
    pub(crate) fn higher(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), value, better: Better::Higher }
    }

    pub(crate) fn lower(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), value, better: Better::Lower }
    }

    pub(crate) fn fixed(name: &str, value: f64) -> Self {
        Self { name: name.to_owned(), value, better: Better::Neither }
    }

    /// Whole numbers without a fraction.
    fn json(&self) -> Value {
        let is_whole = self.value.fract() == 0.0 && self.value.abs() < 9e15 && self.better == Better::Neither;
        if is_whole { json!(self.value as i64) } else { json!(self.value) }
    }
}

impl Report {
    /// The speed, where the bench has one.
    pub(crate) fn gb_per_s(&self) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == "gb_per_s").map(|figure| figure.value)
    }

    /// The bound that applies, and which part of it was reached.
    pub(crate) fn efficiency(&self) -> Option<(&Bound, f64)> {
        let (bound, reached) = (self.bounds.first()?, self.gb_per_s()?);
        (bound.gb_per_s > 0.0).then(|| (bound, reached / bound.gb_per_s))
    }

    /// Everything, for programs. The figures are keys of their own.
    pub(crate) fn json(&self) -> Value {
        let mut json = json!({
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "bench": self.bench,
            "version": env!("CARGO_PKG_VERSION"),
            "parameters": self.parameters,
            "intervals": self.intervals.iter().map(interval_json).collect::<Vec<_>>(),
            "sides": self.sides.iter().map(side_json).collect::<Vec<_>>(),
            "bounds": self.bounds,
            "bound": self.bounds.first().map(|bound| bound.name),
            "bound_gb_per_s": self.bounds.first().map(|bound| bound.gb_per_s),
            "efficiency": self.efficiency().map(|(_, efficiency)| efficiency),
            "verdict": self.verdict,
        });
        if let Value::Object(keys) = &mut json {
            keys.extend(self.figures.iter().map(|figure| (figure.name.clone(), figure.json())));
            keys.extend(self.more.clone());
        }
        json
    }

    /// Every figure that can be compared: the results, and the middle and the end of each distribution.
    pub(crate) fn all_figures(&self) -> Vec<Figure> {
        let of_side = |side: &Side| {
            let role = side.role.clone();
            let quantiles = side.distributions.iter().flat_map(move |named| {
                let figure = |quantile: &str, value: u64| {
                    let name = format!("{role}.{}.{quantile}", named.name);
                    let is_latency = named.name.ends_with("_us");
                    if is_latency {
                        Figure::lower(&name, value as f64)
                    } else {
                        Figure::fixed(&name, value as f64)
                    }
                };
                [figure("p50", named.p50), figure("p99", named.p99)]
            });
            quantiles.collect::<Vec<_>>()
        };
        let mut figures = self.figures.clone();
        figures.extend(self.efficiency().map(|(_, efficiency)| Figure::higher("efficiency", efficiency)));
        figures.extend(self.sides.iter().flat_map(of_side));
        figures
    }
}

fn interval_json(interval: &Interval) -> Value {
    let mut json = serde_json::to_value(interval).unwrap_or_default();
    json["gb_per_s"] = json!(interval.gb_per_s());
    json
}

/// With what follows from it, so that nobody has to divide.
fn side_json(side: &Side) -> Value {
    let mut json = serde_json::to_value(side).unwrap_or_default();
    json["cpu_s_per_gb"] = json!(side.per_gb(side.cpu_s));
    let threads = side.threads.iter().map(|thread| {
        json!({
            "name": thread.name,
            "cpu_s": thread.cpu_s,
            "waited_s": thread.waited_s,
            "cpu_s_per_gb": side.per_gb(thread.cpu_s),
            "busy": side.part(thread.cpu_s),
        })
    });
    json["threads"] = threads.collect();
    let distributions = json["distributions"].take();
    let named = distributions.as_array().into_iter().flatten().filter_map(|named| {
        let mut values = named.as_object()?.clone();
        let name = values.remove("name")?;
        Some((name.as_str()?.to_owned(), Value::Object(values)))
    });
    json["distributions"] = Value::Object(named.collect::<Map<_, _>>());
    json
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::side::Named;
    use super::super::side::tests::side;
    use super::super::verdict::Bottleneck;
    use super::*;

    pub(crate) fn report(gb_per_s: f64) -> Report {
        let named = |name: &str, p50| Named {
            name: name.to_owned(),
            count: 1000,
            mean: 2.5,
            p50,
            p90: 2 * p50,
            p99: 3 * p50,
            p99_9: 4 * p50,
            max: 5 * p50,
        };
        let mut receiver = side("receiver", 20, &[("ringtide-0", 0.95), ("ringtide-hash-0", 0.2)]);
        receiver.distributions = vec![named("request_to_block_us", 1_200), named("hash_backlog", 2)];
        let interval = |second: f64| Interval {
            from_s: second,
            to_s: second + 1.0,
            bytes: 2_000_000_000,
            peers: 1,
            have: Some(0.1 * (second + 1.0)),
            omitted: second < 1.0,
        };
        Report {
            bench: "net",
            headings: vec![("receiver", "a <machine>".to_owned()), ("content", "made up".to_owned())],
            parameters: json!({ "connections": 1 }),
            figures: vec![
                Figure::fixed("bytes", 20e9),
                Figure::fixed("wall_s", 10.0),
                Figure::higher("gb_per_s", gb_per_s),
                Figure::lower("receiver_cpu_s_per_gb", 0.575),
            ],
            intervals: (0..3).map(|second| interval(f64::from(second))).collect(),
            sides: vec![receiver, side("sender", 20, &[("ringtide-0", 0.4)])],
            bounds: vec![
                Bound { name: "cpus", gb_per_s: 4.0, why: "2 CPUs".to_owned() },
                Bound { name: "hashing", gb_per_s: 20.0, why: "2 cores".to_owned() },
            ],
            verdict: Some(Verdict { bottleneck: Bottleneck::ShardCpu, why: "a shard is busy".to_owned() }),
            table: None,
            more: Map::new(),
        }
    }

    #[test]
    fn the_json_has_figures_as_keys_and_nothing_to_divide() {
        let json = report(2.0).json();
        assert_eq!(
            (&json["format"], &json["bench"], &json["bytes"]),
            (&json!("ringtide-bench"), &json!("net"), &json!(20_000_000_000_u64))
        );
        assert_eq!(
            (&json["gb_per_s"], &json["efficiency"], &json["bound"]),
            (&json!(2.0), &json!(0.5), &json!("cpus"))
        );
        assert_eq!(json["verdict"], json!({ "bottleneck": "shard CPU", "why": "a shard is busy" }));
        let receiver = &json["sides"][0];
        assert_eq!(receiver["distributions"]["request_to_block_us"]["p99"], json!(3_600));
        assert_eq!(receiver["threads"][0]["cpu_s_per_gb"], json!(0.475));
        assert_eq!(
            (&json["intervals"][0]["gb_per_s"], &json["intervals"][0]["omitted"]),
            (&json!(2.0), &json!(true))
        );
    }

    #[test]
    fn a_table_stands_for_the_figures_and_more_keys_are_keys() {
        let more = json!({ "choice": "auto" }).as_object().expect("an object").clone();
        let table = Report { table: Some("a  table\n  of <two> lines".to_owned()), more, ..report(2.0) };
        assert_eq!(table.json()["choice"], "auto");
        assert!(table.text().contains("a  table\n  of <two> lines") && !table.text().contains("moved"));
        assert!(table.html(None).contains("<pre>a  table\n  of &lt;two&gt; lines</pre>"));
    }

    #[test]
    fn a_report_without_bounds_or_sides_is_one_too() {
        let bare = Report { bounds: Vec::new(), sides: Vec::new(), verdict: None, ..report(1.0) };
        let json = bare.json();
        assert!(
            json["efficiency"].is_null() && json["bound"].is_null() && json["verdict"].is_null(),
            "{json}"
        );
        assert_eq!(bare.all_figures().len(), 4);
    }
}
