//! `Present`: how a report reaches whoever asked for it: as text or JSON on stdout, as a page in a file, and against an
//! older one.

use std::path::PathBuf;

use serde_json::json;

use super::meter::Interval;
use super::report::{Old, Report, interval_line};
use crate::exit::Failure;
use crate::output::{self, note};
use crate::text::quoted;

/// How a report is presented.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// JSON on stdout; what moves meanwhile goes to stderr.
    pub(crate) json: bool,
    /// Where to write a page.
    pub(crate) html: Option<PathBuf>,
    /// An older report to compare with.
    pub(crate) compare: Option<PathBuf>,
}

impl Present {
    /// The older report, where there is one. To be read before anything is measured.
    pub(crate) fn read_old(&self, bench: &str) -> Result<Option<Old>, Failure> {
        self.compare.as_deref().map(|path| Old::read(path, bench)).transpose()
    }

    /// An interval, as it ends.
    pub(crate) fn interval(&self, interval: &Interval) -> Result<(), Failure> {
        let line = interval_line(interval);
        if self.json {
            note(&line);
            return Ok(());
        }
        output::print(&line)
    }

    /// The report.
    pub(crate) fn show(&self, report: &Report, old: Option<&Old>) -> Result<(), Failure> {
        let comparison = old.map(|old| report.compare(old));
        if let Some(path) = &self.html {
            std::fs::write(path, report.html(comparison.as_ref()))
                .map_err(|error| Failure::io(format_args!("cannot write {}", quoted(path)), &error))?;
        }
        if self.json {
            let mut json = report.json();
            if let Some(comparison) = comparison {
                json["comparison"] = json!(comparison.json());
            }
            return output::print_json(&json);
        }
        let between = if report.intervals.is_empty() { "" } else { "\n" };
        let compared = comparison.map(|comparison| format!("\n\n{}", comparison.text())).unwrap_or_default();
        output::print(&format!("{between}{}{compared}", report.text()))
    }
}
