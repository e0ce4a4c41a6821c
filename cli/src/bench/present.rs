//! `Present`: how a report reaches whoever asked for it: as text or JSON on stdout, as a page in a file, and against an
//! older one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::meter::Interval;
use super::report::{Comparison, Old, Report, interval_line};
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

/// What a report needs besides itself, so that nothing is missing once it is there.
pub(crate) struct Ready {
    old: Option<Old>,
    page: Option<Page>,
}

impl Present {
    /// Reads the older report and opens the page, where there is one. To be done before anything is measured: what is wrong
    /// with either must not cost the report.
    pub(crate) fn ready(&self, bench: &str) -> Result<Ready, Failure> {
        Ok(Ready {
            old: self.compare.as_deref().map(|path| Old::read(path, bench)).transpose()?,
            page: self.html.as_deref().map(Page::open).transpose()?,
        })
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

    /// The report: first where it is read, then as a page.
    pub(crate) fn show(&self, report: &Report, ready: Ready) -> Result<(), Failure> {
        let comparison = ready.old.map(|old| report.compare(&old));
        self.print(report, comparison.as_ref())?;
        ready.page.map_or(Ok(()), |page| page.write(&report.html(comparison.as_ref())))
    }

    fn print(&self, report: &Report, comparison: Option<&Comparison>) -> Result<(), Failure> {
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

/// A page that is yet to be written. What was in the file stays until then; a file that is new is removed if nothing comes.
struct Page {
    path: PathBuf,
    file: File,
    is_new: bool,
}

impl Page {
    fn open(path: &Path) -> Result<Self, Failure> {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let is_new = made.is_ok();
        let file = match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).open(path)
            }
            made => made,
        };
        let file = file.map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), file, is_new })
    }

    fn write(mut self, page: &str) -> Result<(), Failure> {
        self.replace(page).map_err(|error| cannot_write(&self.path, &error))?;
        self.is_new = false;
        Ok(())
    }

    fn replace(&mut self, page: &str) -> io::Result<()> {
        // A pipe or a device has nothing to be cut.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(page.as_bytes())
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::io(format_args!("cannot write {}", quoted(path)), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_page_takes_the_place_of_the_last_only_when_it_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("page.html");
        let open = || Page::open(&path).expect("can be written");
        drop(open());
        assert!(!path.exists(), "nothing came");
        open().write("a long page").expect("is written");
        drop(open());
        assert_eq!(fs::read_to_string(&path).expect("is there"), "a long page");
        open().write("short").expect("is written");
        assert_eq!(fs::read_to_string(&path).expect("is there"), "short");
    }

    #[test]
    fn pages_go_to_devices_too_but_not_nowhere() {
        Page::open(Path::new("/dev/null")).and_then(|page| page.write("x")).expect("takes all");
        assert!(Path::new("/dev/null").exists());
        let refused = Page::open(Path::new("/nonexistent/page.html")).err().expect("is nowhere");
        assert_eq!(refused.exit, Exit::BadInput);
    }
}
