//! `Progress` of work that has an end and `Status` of work that has none: on a terminal a line that moves,
//! elsewhere a line every few seconds. Both on stderr.
//!
//! Owns how it looks and how often it is drawn, and how fast things go. What is counted is the command's business.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{note, stderr_is_alive};
use crate::text::guard;
use crate::units::{Bytes, Span};

/// How often lines are printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Over how long a rate is averaged: long enough to be read, short enough to follow.
const RATE_WINDOW: Duration = Duration::from_secs(3);
/// How often a rate is sampled: shorter, the clock's grain and the burstiness of pieces would show.
const SAMPLE_EVERY: Duration = Duration::from_millis(90);

/// How far a piece of work is.
pub(crate) struct Progress {
    display: Display,
    total: u64,
    rate: Rate,
}

enum Display {
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Progress {
    /// For `total` bytes of work.
    pub(crate) fn new(total: u64) -> Self {
        let display = if stderr_is_alive() {
            Display::Bar(new_bar(total))
        } else {
            Display::Lines { next: Instant::now() + LINE_EVERY }
        };
        Self { display, total, rate: Rate::default() }
    }

    /// `done` bytes are done now. `details` is asked for what else there is to say, only when something is drawn.
    pub(crate) fn update(&mut self, done: u64, details: impl FnOnce() -> String) {
        let now = Instant::now();
        self.rate.update(now, done);
        let status = |rate: &Rate, total| {
            let details = details();
            let details = if details.is_empty() { details } else { format!("  {details}") };
            format!("{}{details}", summary(done, total, rate.per_second))
        };
        match &mut self.display {
            Display::Bar(bar) => {
                bar.set_position(done.min(self.total));
                bar.set_message(guard(&status(&self.rate, self.total)));
            }
            Display::Lines { next } if now >= *next => {
                *next = now + LINE_EVERY;
                note(&status(&self.rate, self.total));
            }
            Display::Lines { .. } => {}
        }
    }

    /// Says something without disturbing the bar.
    pub(crate) fn note(&self, text: &str) {
        match &self.display {
            Display::Bar(bar) => bar.suspend(|| note(text)),
            Display::Lines { .. } => note(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

/// How things are, for work without an end.
pub(crate) struct Status {
    display: StatusDisplay,
    rate: Rate,
}

enum StatusDisplay {
    Spinner(ProgressBar),
    /// What was said last is not said again: a log should not grow while nothing happens.
    Lines {
        next: Instant,
        last: String,
    },
}

impl Status {
    pub(crate) fn new() -> Self {
        let display = if stderr_is_alive() {
            let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                spinner.set_style(style);
            }
            StatusDisplay::Spinner(spinner)
        } else {
            StatusDisplay::Lines { next: Instant::now() + LINE_EVERY, last: String::new() }
        };
        Self { display, rate: Rate::default() }
    }

    /// `done` bytes were moved so far; `words` is given the bytes per second and makes the line.
    pub(crate) fn update(&mut self, done: u64, words: impl FnOnce(Bytes) -> String) {
        let now = Instant::now();
        self.rate.update(now, done);
        let rate = Bytes(self.rate.per_second as u64);
        match &mut self.display {
            StatusDisplay::Spinner(spinner) => spinner.set_message(guard(&words(rate))),
            StatusDisplay::Lines { next, last } if now >= *next => {
                *next = now + LINE_EVERY;
                let line = words(rate);
                if line != *last {
                    note(&line);
                    *last = line;
                }
            }
            StatusDisplay::Lines { .. } => {}
        }
    }

    /// Says something without disturbing the line.
    pub(crate) fn note(&self, text: &str) {
        match &self.display {
            StatusDisplay::Spinner(spinner) => spinner.suspend(|| note(text)),
            StatusDisplay::Lines { .. } => note(text),
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        if let StatusDisplay::Spinner(spinner) = &self.display {
            spinner.finish_and_clear();
        }
    }
}

fn new_bar(total: u64) -> ProgressBar {
    // Ten times a second is smooth and costs nothing.
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// `42.0 %  1.2 GB of 2.9 GB  1.05 GB/s  ETA 2s`
fn summary(done: u64, total: u64, per_second: f64) -> String {
    let percent = if total == 0 { 100.0 } else { done as f64 * 100.0 / total as f64 };
    // Not rounded up to what is not reached yet.
    let percent = (percent * 10.0).floor() / 10.0;
    let eta = eta(total.saturating_sub(done), per_second);
    format!("{percent:5.1} %  {} of {}  {}/s  ETA {eta}", Bytes(done), Bytes(total), Bytes(per_second as u64))
}

fn eta(left: u64, per_second: f64) -> String {
    let seconds = left as f64 / per_second;
    // Nothing is foretold further than a month.
    if per_second < 1.0 || seconds > 30.0 * 86_400.0 {
        return "-".to_owned();
    }
    Span(Duration::from_secs_f64(seconds)).to_string()
}

/// Bytes per second over the last few seconds.
#[derive(Default)]
struct Rate {
    /// What was done when, oldest first, over [`RATE_WINDOW`] at the most.
    samples: VecDeque<(Instant, u64)>,
    per_second: f64,
}

impl Rate {
    fn update(&mut self, now: Instant, done: u64) {
        // The wait for the first byte is nobody's speed.
        if self.samples.len() == 1 && self.samples[0].1 == done {
            self.samples.clear();
        }
        if self.samples.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < SAMPLE_EVERY) {
            return;
        }
        self.samples.push_back((now, done));
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= RATE_WINDOW) {
            self.samples.pop_front();
        }
        if let Some((since, from)) = self.samples.front() {
            let elapsed = now.saturating_duration_since(*since).as_secs_f64();
            self.per_second = if elapsed == 0.0 { 0.0 } else { done.saturating_sub(*from) as f64 / elapsed };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_never_claims_what_is_not_there() {
        assert_eq!(summary(0, 0, 0.0), "100.0 %  0 B of 0 B  0 B/s  ETA -");
        assert_eq!(summary(999_999, 1_000_000, 1.0), " 99.9 %  1.00 MB of 1.00 MB  1 B/s  ETA 1.0s");
        assert_eq!(summary(1, 4_000_000_000, 0.5), "  0.0 %  1 B of 4.00 GB  0 B/s  ETA -");
    }

    #[test]
    fn a_rate_follows_and_forgets_what_was_there_before() {
        let start = Instant::now();
        let mut rate = Rate::default();
        let mut at = |millis: u64, done: u64| {
            rate.update(start + Duration::from_millis(millis), done);
            rate.per_second
        };
        // There before, and then nothing for a while.
        assert_eq!([at(0, 5_000), at(1000, 5_000), at(9000, 5_000)], [0.0; 3]);
        assert_eq!(at(10_000, 6_000), 1000.0, "from the first byte on");
        assert_eq!(at(10_001, 9_000), 1000.0, "too soon to tell");
        assert_eq!(
            (1..=10).map(|second| at(10_000 + second * 1000, 6_000 + second * 500)).next_back(),
            Some(500.0)
        );
        assert_eq!((1..=4).map(|second| at(20_000 + second * 1000, 11_000)).next_back(), Some(0.0));
    }
}
