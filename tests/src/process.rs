//! Child processes: started with their output in files, ended by id when the guard is dropped, and by the kernel when
//! the thread that started them dies. Does not know what runs in them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How much of a failed child's output a panicking test shows.
const TAIL_BYTES: usize = 4000;

/// A running (or finished) child. Dropping it kills it and, if the test is failing, shows the tail of its output.
///
/// The kernel kills the child too when the *thread* that spawned it ends: spawn from the test's own thread.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` with `NAME.out` and `NAME.err` in `logs` as its output.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(mut command: Command, name: &str, logs: &Path) -> Self {
        let stdout = unused_path(logs, name, "out");
        let stderr = stdout.with_extension("err");
        let open = |path: &Path| File::create(path).expect("a log file in the test's own directory");
        command.stdin(Stdio::null()).stdout(open(&stdout)).stderr(open(&stderr));
        let child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self { child, name: name.to_owned(), stdout, stderr }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// All it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When the kernel refuses to tell.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("waitpid on our own child").is_none()
    }

    /// Sends it a signal; one that has ended already is left in peace.
    ///
    /// # Panics
    /// When the id is not a valid one, which a child's always is.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a child's id is not zero");
        let _ = kill_process(pid, signal);
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not within [`wait::HANG`].
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("{} to end", self.name);
        wait::until_some(&what, || self.child.try_wait().expect("waitpid on our own child"))
    }

    /// Waits until it ends by itself with exit code 0.
    ///
    /// # Panics
    /// When it ends otherwise, or not at all.
    pub fn wait_success(&mut self) {
        let status = self.wait();
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Panics, naming the process, when it has ended although it was to run on.
    ///
    /// # Panics
    /// See above: it is what the method is for.
    pub fn expect_running(&mut self) {
        let ended = self.child.try_wait().expect("waitpid on our own child");
        assert!(ended.is_none(), "{} ended early: {ended:?}", self.name);
    }

    /// CPU time used so far, user and system, of the living process.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        // The command's name may hold spaces: count fields from the closing parenthesis (proc(5): utime, stime).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Anonymous memory resident now, in bytes (`RssAnon` of proc(5)); `None` once it has ended.
    pub fn anonymous_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            show_tail(&self.name, "stdout", &self.stdout());
            show_tail(&self.name, "stderr", &self.stderr());
        }
    }
}

/// A command that the kernel kills when the thread that spawns it ends. `prefix` is a chain of programs that each
/// execute the next (such as `nsenter`), so the child's id is the program's own.
pub(crate) fn mortal(prefix: &[&str], program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(prefix).arg(program);
    command
}

/// Runs a helper command to its end.
///
/// # Panics
/// When it cannot be started or fails; its stderr is in the message.
pub(crate) fn run(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether `program` can be found on the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn unused_path(dir: &Path, name: &str, extension: &str) -> PathBuf {
    (0..)
        .map(|n| {
            dir.join(if n == 0 { format!("{name}.{extension}") } else { format!("{name}-{n}.{extension}") })
        })
        .find(|path| !path.exists())
        .expect("some number is free")
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn show_tail(name: &str, stream: &str, text: &str) {
    let mut from = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    if !text.is_empty() {
        eprintln!("--- {stream} of {name}\n{}", &text[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_output_and_status() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = mortal(&[], "sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut child = Process::spawn(command, "sh", logs.path());
        assert_eq!(child.wait().code(), Some(3));
        assert_eq!((child.stdout().as_str(), child.stderr().as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = mortal(&[], "sleep");
        command.arg("1000");
        let mut child = Process::spawn(command, "sleep", logs.path());
        assert!(child.is_running());
        let proc_entry = PathBuf::from(format!("/proc/{}", child.pid()));
        drop(child);
        assert!(!proc_entry.exists());
    }

    #[test]
    fn tells_memory_of_the_living() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = mortal(&[], "sleep");
        command.arg("1000");
        let child = Process::spawn(command, "sleep", logs.path());
        assert!(child.anonymous_bytes().is_some_and(|bytes| bytes > 0));
        assert!(child.cpu_time().is_some());
    }
}
