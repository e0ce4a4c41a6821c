//! A report as a page of its own: no scripts, nothing from elsewhere, pictures as inline SVG.

use std::fmt::Write;

use super::super::meter::Interval;
use super::super::side::{Named, Side};
use super::text::{measured, spoken, tcp_words};
use super::{Comparison, Report};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:56rem;padding:0 1rem;color:#1c2330;background:#fff}\
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.2rem .8rem .2rem 0;text-align:right;font-weight:400}\
th:first-child,td:first-child{text-align:left}thead th{color:#5b6678;border-bottom:1px solid #d5dae3}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:1rem 0}dt{color:#5b6678}dd{margin:0}\
.big{font-size:2.2rem;font-weight:600}.verdict{background:#f2f5fa;border-left:4px solid #2f6fde;padding:.6rem 1rem;margin:1rem 0}\
pre{background:#f2f5fa;padding:.8rem;overflow-x:auto}svg{display:block;width:100%;height:auto}\
svg text{font:12px system-ui,sans-serif;fill:#5b6678}";

/// Size of the picture of the intervals, and the room for its numbers.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 60.0;
const BELOW: f64 = 24.0;
const ABOVE: f64 = 12.0;

/// Room for the names of distributions, and for the value behind each bar.
const NAMES: f64 = 170.0;
const VALUES: f64 = 90.0;
const BAR: f64 = 14.0;

impl Report {
    /// The page.
    pub(crate) fn html(&self, comparison: Option<&Comparison>) -> String {
        let title = format!("ringtide bench {}", self.bench);
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<h1>{title}</h1>\n"
        );
        if let Some(rate) = self.gb_per_s() {
            page += &format!(
                "<div class=\"big\">{rate:.3} GB/s <small>({:.2} Gbit/s)</small></div>\n",
                rate * 8.0
            );
        }
        page += &self.verdict_html();
        page += &self.headings_html();
        if let Some(table) = &self.table {
            page += &format!("<pre>{}</pre>\n", escape(table));
        }
        if self.intervals.len() > 1 {
            page += &format!("<h2>Payload by time</h2>\n{}", intervals_svg(&self.intervals));
        }
        for side in &self.sides {
            page += &side_html(side);
        }
        page += &self.bounds_html();
        if let Some(comparison) = comparison {
            page += &format!("<h2>Compared</h2>\n<pre>{}</pre>\n", escape(&comparison.text()));
        }
        page += "</body>\n</html>\n";
        page
    }

    fn verdict_html(&self) -> String {
        let Some(verdict) = &self.verdict else { return String::new() };
        format!("<p class=\"verdict\"><b>{}</b>: {}</p>\n", verdict.bottleneck.name(), escape(&verdict.why))
    }

    fn headings_html(&self) -> String {
        let version = ("ringtide", env!("CARGO_PKG_VERSION").to_owned());
        let listed = if self.table.is_some() { &[][..] } else { &self.figures };
        let figures = listed.iter().map(|figure| (figure.name.as_str(), figure.amount()));
        let rows = self
            .headings
            .iter()
            .map(|(label, words)| (*label, words.clone()))
            .chain([version])
            .chain(figures);
        let rows: String = rows
            .map(|(label, words)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(label), escape(&words)))
            .collect();
        format!("<dl>\n{rows}</dl>\n")
    }

    fn bounds_html(&self) -> String {
        let Some(rate) = self.gb_per_s().filter(|_| !self.bounds.is_empty()) else { return String::new() };
        let rows: String = self
            .bounds
            .iter()
            .map(|bound| {
                format!(
                    "<tr><td>{}</td><td>{:.2}</td><td>{:.0} %</td><td>{}</td></tr>\n",
                    bound.name,
                    bound.gb_per_s,
                    rate / bound.gb_per_s * 100.0,
                    escape(&bound.why)
                )
            })
            .collect();
        format!(
            "<h2>Bounds</h2>\n<table><thead><tr><th>bound</th><th>GB/s</th><th>reached</th><th></th></tr></thead>\n\
             <tbody>{rows}</tbody></table>\n"
        )
    }
}

/// A step for each interval; what was left out is pale.
fn intervals_svg(intervals: &[Interval]) -> String {
    let (first, end) = (intervals[0].from_s, intervals[intervals.len() - 1].to_s);
    let most = intervals.iter().map(Interval::gb_per_s).fold(0.0, f64::max);
    let top = round_up(most);
    let x = |seconds: f64| {
        LEFT + (seconds - first) / (end - first).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - 10.0)
    };
    let y = |rate: f64| HEIGHT - BELOW - rate / top * (HEIGHT - BELOW - ABOVE);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"payload by time\">\n");
    for quarter in 0..=4 {
        let rate = top * f64::from(quarter) / 4.0;
        let at = y(rate);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e3e7ee\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{rate:.2}</text>",
            WIDTH - 10.0,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for interval in intervals {
        let (from, to, at) = (x(interval.from_s), x(interval.to_s), y(interval.gb_per_s()));
        let colour = if interval.omitted { "#c9d6ee" } else { "#2f6fde" };
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{at:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\">\
             <title>{:.1} to {:.1} s: {:.3} GB/s</title></rect>",
            (to - from - 1.0).max(0.5),
            HEIGHT - BELOW - at,
            interval.from_s,
            interval.to_s,
            interval.gb_per_s()
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{0}\">{first:.0} s</text><text x=\"{1}\" y=\"{0}\" text-anchor=\"end\">{end:.1} s</text>\
         <text x=\"8\" y=\"{2}\">GB/s</text>\n</svg>",
        HEIGHT - 6.0,
        WIDTH - 10.0,
        HEIGHT - 6.0
    );
    svg
}

/// The next number of the form 1, 2, 2.5, 4 or 5 times a power of ten, for the top of a scale.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let step = [1.0, 2.0, 2.5, 4.0, 5.0, 10.0].into_iter().find(|step| step * power >= value);
    step.unwrap_or(10.0) * power
}

fn side_html(side: &Side) -> String {
    let mut html = String::new();
    if !side.distributions.is_empty() {
        html += &format!("<h2>{}: latencies, on a logarithmic scale</h2>\n", escape(&side.role));
        html += &percentiles_svg(&side.distributions);
        html += &distributions_table(&side.distributions);
    }
    let row = |name: &str, cpu_s: f64, waited_s: f64| {
        format!(
            "<tr><td>{}</td><td>{:.3}</td><td>{:.0} %</td><td>{:.0} %</td></tr>\n",
            escape(name),
            side.per_gb(cpu_s),
            side.part(cpu_s) * 100.0,
            side.part(waited_s) * 100.0
        )
    };
    let rows: String =
        side.threads.iter().map(|thread| row(&thread.name, thread.cpu_s, thread.waited_s)).collect();
    let waited_s = side.threads.iter().map(|thread| thread.waited_s).sum();
    html += &format!(
        "<h2>{}: threads</h2>\n<table><thead><tr><th>thread</th><th>CPU-s/GB</th><th>busy</th><th>waiting for a CPU</th></tr></thead>\n\
         <tbody>{rows}{}</tbody></table>\n",
        escape(&side.role),
        row("all", side.cpu_s, waited_s)
    );
    html += &tcp_words(side).map(|words| format!("<p>{}</p>\n", escape(&words))).unwrap_or_default();
    html
}

fn distributions_table(distributions: &[Named]) -> String {
    let row = |named: &Named| {
        let cells = [named.p50, named.p90, named.p99, named.p99_9, named.max];
        let cells: String =
            cells.iter().map(|&value| format!("<td>{}</td>", measured(&named.name, value))).collect();
        format!("<tr><td>{}</td><td>{}</td>{cells}</tr>\n", escape(&spoken(&named.name)), named.count)
    };
    let rows: String = distributions.iter().map(row).collect();
    format!(
        "<table><thead><tr><th></th><th>values</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead>\n\
         <tbody>{rows}</tbody></table>\n"
    )
}

/// For each latency three bars on a logarithmic scale, from a microsecond: p50, p99 and the largest.
fn percentiles_svg(distributions: &[Named]) -> String {
    let latencies: Vec<&Named> = distributions.iter().filter(|named| named.name.ends_with("_us")).collect();
    let most = latencies.iter().map(|named| named.max).max().unwrap_or(1).max(10) as f64;
    let length = |value: u64| ((value.max(1) as f64).log10() / most.log10()) * (WIDTH - NAMES - VALUES);
    let row_height = 3.0 * BAR + 10.0;
    let height = row_height * latencies.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"latencies\">\n");
    for (row, named) in latencies.iter().enumerate() {
        let top = row as f64 * row_height;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            NAMES - 10.0,
            top + 1.5 * BAR + 4.0,
            escape(&spoken(&named.name))
        );
        let bars =
            [("p50", named.p50, "#2f6fde"), ("p99", named.p99, "#8fb3ef"), ("max", named.max, "#d3dff5")];
        for (number, (label, value, colour)) in bars.into_iter().enumerate() {
            let (at, length) = (top + number as f64 * BAR, length(value));
            let _ = writeln!(
                svg,
                "<rect x=\"{NAMES}\" y=\"{at:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{label} {}</text>",
                length.max(1.0),
                BAR - 1.0,
                NAMES + length + 6.0,
                at + BAR - 2.0,
                measured(&named.name, value)
            );
        }
    }
    svg + "</svg>\n"
}

/// Text of others as text of the page.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    /// Every element that is opened is closed, in order: what a browser would not have to guess at.
    fn assert_nested(page: &str) {
        const VOID: [&str; 1] = ["meta"];
        let mut open: Vec<&str> = Vec::new();
        for tag in page.split('<').skip(2) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.split([' ', '/']).find(|name| !name.is_empty()).expect("a name");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "in {page}");
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn the_page_is_whole_and_has_pictures_and_nothing_from_elsewhere() {
        let page = report(2.0).html(None);
        assert_nested(&page);
        assert_eq!(page.matches("<svg").count(), 2);
        assert_eq!(page.matches("#c9d6ee").count(), 1, "one interval is omitted");
        for part in
            ["2.000 GB/s", "<b>shard CPU</b>: a shard is busy", "request to block", "a &lt;machine&gt;"]
        {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("http") && !page.contains("<script") && !page.contains("NaN"));
    }

    #[test]
    fn a_bare_report_is_a_page_too() {
        let bare = Report {
            intervals: Vec::new(),
            sides: Vec::new(),
            bounds: Vec::new(),
            verdict: None,
            ..report(1.0)
        };
        assert_nested(&bare.html(None));
        let mut still = report(0.0);
        still.intervals.iter_mut().for_each(|interval| interval.bytes = 0);
        assert!(!still.html(None).contains("NaN"));
    }

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!(
            [0.0, 0.9, 1.0, 1.1, 2.3, 30.0, 41.0].map(round_up),
            [1.0, 1.0, 1.0, 2.0, 2.5, 40.0, 50.0]
        );
    }
}
