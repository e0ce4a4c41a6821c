//! Where words go: results to stdout, everything else to stderr. Everything passes the guard of `text`.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::text::{guard, guard_json};

/// Prints a result, with a newline.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write_all(guard(text).as_bytes(), true)
}

/// Prints a result for programs, on one line.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    write_all(guard_json(&value.to_string()).as_bytes(), true)
}

/// Writes a file to stdout as it is.
pub(crate) fn write_raw(bytes: &[u8]) -> Result<(), Failure> {
    write_all(bytes, false)
}

/// Says something that is no result, on stderr. That nobody listens is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", guard(text));
}

/// Says that a log goes to stderr too, so that nothing must move there.
pub(crate) fn expect_log() {
    HAS_LOG.store(true, Ordering::Relaxed);
}

/// Whether a person sees stderr, and so wants to see progress move.
pub(crate) fn stderr_is_alive() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !is_dumb && !HAS_LOG.load(Ordering::Relaxed)
}

/// Stderr for a log, whose lines hold words of strangers too.
pub(crate) struct GuardedStderr;

impl Write for GuardedStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let guarded = guard(&String::from_utf8_lossy(bytes));
        io::stderr().write_all(guarded.as_bytes()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

static HAS_LOG: AtomicBool = AtomicBool::new(false);

fn write_all(bytes: &[u8], newline: bool) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let end: &[u8] = if newline { b"\n" } else { b"" };
    let written = stdout.write_all(bytes).and_then(|()| stdout.write_all(end)).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        // Whoever read the output has seen enough: nobody is left to tell.
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Other, ""),
        _ => Failure::new(Exit::Other, format_args!("cannot write the result to stdout: {error}")),
    })
}
