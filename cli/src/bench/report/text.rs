//! A report for people: lines of at most 80 columns.

use super::super::meter::{Interval, Role};
use super::super::side::{Named, Side};
use super::super::threads::ThreadTime;
use super::{Figure, Report};
use crate::units::{Bytes, count};

/// Columns of a terminal that is not wide.
const COLUMNS: usize = 80;

/// Columns before the words of a heading.
const LABEL: usize = 10;

/// Threads that took less than this part of a core are not listed one by one.
const WORTH_A_LINE: f64 = 0.005;

/// An interval as one line.
pub(crate) fn interval_line(interval: &Interval) -> String {
    let rate = interval.gb_per_s();
    let have = interval.have.map(|have| format!("  have {:.0} %", have * 100.0)).unwrap_or_default();
    let omitted = if interval.omitted { "  (omitted)" } else { "" };
    let (to, gbit, peers) = (interval.to_s, rate * 8.0, interval.peers);
    format!("[{to:6.1} s]  {rate:6.3} GB/s  {gbit:6.2} Gbit/s  peers {peers}{have}{omitted}")
}

impl Report {
    /// Everything but the intervals.
    pub(crate) fn text(&self) -> String {
        let mut lines: Vec<String> =
            self.headings.iter().flat_map(|(label, words)| labelled(label, words)).collect();
        lines.push(String::new());
        match &self.table {
            Some(table) => lines.extend(table.lines().map(str::to_owned)),
            None => lines.extend(self.figures()),
        }
        lines.extend(self.conclusion());
        for side in &self.sides {
            lines.push(String::new());
            lines.extend(distributions(side));
            lines.extend(threads(side));
            lines.extend(tcp_words(side).iter().flat_map(|words| labelled("  TCP", words)));
        }
        lines.join("\n")
    }

    fn figures(&self) -> Vec<String> {
        let value =
            |name: &str| self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
        let mut lines = Vec::new();
        if let (Some(rate), Some(bytes), Some(wall)) = (value("gb_per_s"), value("bytes"), value("wall_s")) {
            let words =
                format!("{rate:.3} GB/s ({:.2} Gbit/s): {} in {wall:.2} s", rate * 8.0, Bytes(bytes as u64));
            lines.extend(labelled("moved", &words));
        }
        let told = ["gb_per_s", "bytes", "wall_s"];
        let rest = self.figures.iter().filter(|figure| !told.contains(&figure.name.as_str()));
        lines.extend(rest.map(|figure| format!("{:<LABEL$}{}", "", figure_words(figure))));
        lines
    }

    fn conclusion(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((bound, efficiency)) = self.efficiency() {
            let words = format!(
                "{:.2} GB/s ({}: {}); {:.0} % of it was reached",
                bound.gb_per_s,
                bound.name,
                bound.why,
                efficiency * 100.0
            );
            lines.extend(labelled("bound", &words));
        }
        if let Some(verdict) = &self.verdict {
            lines.extend(labelled("verdict", &format!("{}: {}", verdict.bottleneck.name(), verdict.why)));
        }
        lines
    }
}

fn figure_words(figure: &Figure) -> String {
    let units = [("_cpu_s_per_gb", "CPU-s/GB"), ("_cpu_s", "CPU-s"), ("_s", "s")];
    let unit = units.iter().find_map(|(end, unit)| Some((figure.name.strip_suffix(end)?, *unit)));
    let (name, unit) = unit.unwrap_or((&figure.name, ""));
    format!("{} {unit} {}", figure.amount(), name.replace('_', " ")).replace("  ", " ")
}

impl Figure {
    /// The value as people read it.
    pub(super) fn amount(&self) -> String {
        if self.name == "bytes" { Bytes(self.value as u64).to_string() } else { amount(self.value) }
    }
}

/// What the kernel says of the connections of a side that sends.
pub(super) fn tcp_words(side: &Side) -> Option<String> {
    let tcp = side.tcp.as_ref().filter(|tcp| tcp.busy > 0.0 && side.role == Role::Sender.name())?;
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    Some(format!(
        "{}: something on its way {} of the time, held up by the receive window {}, by the send buffer {}; {} ms round trip, {}",
        count(tcp.connections, "connection"),
        percent(tcp.busy),
        percent(tcp.rwnd_limited),
        percent(tcp.sndbuf_limited),
        amount(f64::from(tcp.rtt_us) / 1000.0),
        count(tcp.retransmits, "retransmit")
    ))
}

/// Three digits that count.
pub(super) fn amount(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A microsecond value, or a plain number, as its name says.
pub(super) fn measured(name: &str, value: u64) -> String {
    if !name.ends_with("_us") {
        return value.to_string();
    }
    match value {
        0..1_000 => format!("{value} us"),
        1_000..1_000_000 => format!("{} ms", amount(value as f64 / 1e3)),
        _ => format!("{} s", amount(value as f64 / 1e6)),
    }
}

/// What a distribution is of, in words.
pub(super) fn spoken(name: &str) -> String {
    name.strip_suffix("_us").unwrap_or(name).replace('_', " ")
}

fn distributions(side: &Side) -> Vec<String> {
    if side.distributions.is_empty() {
        return Vec::new();
    }
    let row = |first: &str, cells: [String; 5]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        format!("{first:<26}{cells}")
    };
    let head = ["p50", "p90", "p99", "p99.9", "max"].map(str::to_owned);
    let line = |named: &Named| {
        let cells = [named.p50, named.p90, named.p99, named.p99_9, named.max]
            .map(|value| measured(&named.name, value));
        row(&format!("  {}", spoken(&named.name)), cells)
    };
    let rows = side.distributions.iter().map(line);
    [row(&side.role, head)].into_iter().chain(rows).collect()
}

fn threads(side: &Side) -> Vec<String> {
    let row = |name: &str, cpu_s: f64, waited_s: f64| {
        let (busy, waited) = (side.part(cpu_s) * 100.0, side.part(waited_s) * 100.0);
        format!("  {name:<24}{:>10.3}{busy:>8.0} %{waited:>8.0} %", side.per_gb(cpu_s))
    };
    let title =
        format!("{:<26}{:>10}{:>10}{:>10}", format!("{} threads", side.role), "CPU-s/GB", "busy", "waiting");
    let worth = |thread: &&ThreadTime| side.part(thread.cpu_s) >= WORTH_A_LINE;
    let (listed, rest): (Vec<_>, Vec<_>) = side.threads.iter().partition(worth);
    let mut lines = vec![title];
    lines.extend(listed.iter().map(|thread| row(&thread.name, thread.cpu_s, thread.waited_s)));
    let waited = |threads: &[&ThreadTime]| threads.iter().map(|thread| thread.waited_s).sum::<f64>();
    let known: f64 = listed.iter().map(|thread| thread.cpu_s).sum();
    let others = (side.cpu_s - known).max(0.0);
    if !rest.is_empty() || side.part(others) >= WORTH_A_LINE {
        lines.push(row("others", others, waited(&rest)));
    }
    lines.push(row("all", side.cpu_s, waited(&listed) + waited(&rest)));
    lines
}

/// Words behind a label, broken where the terminal ends.
pub(super) fn labelled(label: &str, words: &str) -> Vec<String> {
    let mut lines = vec![format!("{label:<LABEL$}")];
    for word in words.split(' ') {
        let line = lines.last_mut().expect("there is one");
        let is_first = line.trim_end().is_empty() || line.len() == LABEL;
        if !is_first && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(format!("{:<LABEL$}{word}", ""));
            continue;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn a_report_fits_a_terminal_and_names_the_verdict() {
        let text = report(2.0).text();
        for line in [
            "moved     2.000 GB/s (16.00 Gbit/s): 20.0 GB in 10.00 s",
            "bound     4.00 GB/s (cpus: 2 CPUs); 50 % of it was reached",
            "verdict   shard CPU: a shard is busy",
            "  request to block           1.20 ms   2.40 ms   3.60 ms   4.80 ms   6.00 ms",
            "  hash backlog                     2         4         6         8        10",
            "receiver threads            CPU-s/GB      busy   waiting",
            "  ringtide-0                   0.475      95 %       0 %",
            "  all                          0.575     115 %       0 %",
            "          0.575 CPU-s/GB receiver",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }

    #[test]
    fn intervals_are_lines() {
        let report = report(2.0);
        let lines: Vec<_> = report.intervals.iter().map(interval_line).collect();
        assert_eq!(lines[0], "[   1.0 s]   2.000 GB/s   16.00 Gbit/s  peers 1  have 10 %  (omitted)");
        assert_eq!(lines[2], "[   3.0 s]   2.000 GB/s   16.00 Gbit/s  peers 1  have 30 %");
    }

    #[test]
    fn long_headings_are_broken_between_words() {
        let lines = labelled("machine", &"seven words of a dozen characters or so ".repeat(5));
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= COLUMNS), "{lines:?}");
        assert!(lines[0].starts_with("machine   seven") && lines[1].starts_with("          "));
    }

    #[test]
    fn values_are_short() {
        assert_eq!(
            ["a_us", "a_us", "a_us", "a"].map(|name| measured(name, 999)),
            ["999 us", "999 us", "999 us", "999"]
        );
        assert_eq!(
            [1_234, 56_789, 2_345_678].map(|value| measured("a_us", value)),
            ["1.23 ms", "56.8 ms", "2.35 s"]
        );
    }
}
