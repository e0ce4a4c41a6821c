//! `Progress` of work that has an end and `Status` of work that has none: on a terminal a line that moves,
//! elsewhere a line every few seconds. Both on stderr.
//!
//! Owns how it looks and how often it is drawn, and how fast things go. What is counted is the command's business.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{note, stderr_is_terminal};
use crate::text::guard;
use crate::units::{Bytes, Span};

/// How often lines are printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Over how long a rate is averaged: long enough to be read, short enough to follow.
const RATE_WINDOW: Duration = Duration::from_secs(3);

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
        let display = if stderr_is_terminal() {
            Display::Bar(new_bar(total))
        } else {
            Display::Lines { next: Instant::now() + LINE_EVERY }
        };
        Self { display, total, rate: Rate::new(Instant::now()) }
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
        let display = if stderr_is_terminal() {
            let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                spinner.set_style(style);
            }
            StatusDisplay::Spinner(spinner)
        } else {
            StatusDisplay::Lines { next: Instant::now() + LINE_EVERY, last: String::new() }
        };
        Self { display, rate: Rate::new(Instant::now()) }
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
    if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {msg}") {
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
struct Rate {
    since: Instant,
    from: Option<u64>,
    per_second: f64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { since: now, from: None, per_second: 0.0 }
    }

    /// An exponential average whose memory is [`RATE_WINDOW`], whatever the time between updates.
    fn update(&mut self, now: Instant, done: u64) {
        let Some(from) = self.from else {
            (self.since, self.from) = (now, Some(done));
            return;
        };
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        // Shorter than this, the clock's grain and the burstiness of pieces would show.
        if elapsed < 0.1 {
            return;
        }
        let sample = done.saturating_sub(from) as f64 / elapsed;
        let weight = 1.0 - (-elapsed / RATE_WINDOW.as_secs_f64()).exp();
        self.per_second = if self.per_second == 0.0 {
            sample
        } else {
            self.per_second + weight * (sample - self.per_second)
        };
        (self.since, self.from) = (now, Some(done));
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
        let mut rate = Rate::new(start);
        rate.update(start, 5_000_000);
        for second in 1..=20 {
            rate.update(start + Duration::from_secs(second), 5_000_000 + second * 1000);
        }
        assert!((rate.per_second - 1000.0).abs() < 1.0, "{}", rate.per_second);
        for second in 21..=60 {
            rate.update(start + Duration::from_secs(second), 5_020_000);
        }
        assert!(rate.per_second < 1.0, "{}", rate.per_second);
    }
}
