//! `Kid`: a process of this program, its output and its CPU time.
//!
//! Its stdout is lines of JSON, its stderr goes to a file that is shown when it fails. It ends with us, however we end.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitid,
};
use serde_json::Value;

use super::stopped;
use crate::exit::{Exit, Failure};
use crate::stop::Stop;

/// How often a running process is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a process may take to leave its swarm.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How much of what a failed process said is shown.
const TAIL_BYTES: usize = 2000;

/// Asks the kernel to end this process when the one that started it ends: a bench that is killed leaves nobody behind.
pub(crate) fn follow(parent: u32) {
    // Nothing is lost but tidiness where it is refused.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let has_left = getppid().is_none_or(|found| found.as_raw_pid().cast_unsigned() != parent);
    if has_left {
        std::process::exit(Exit::Terminated.code().into());
    }
}

/// What is to be done while a process runs.
pub(super) enum Watch {
    GoOn,
    Stop(Failure),
}

/// A process of this program.
pub(super) struct Kid {
    name: &'static str,
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    lines: Receiver<String>,
    /// The last line of JSON that was taken from `lines`.
    last: Option<Value>,
    log: PathBuf,
}

impl Kid {
    /// Starts `ringtide COMMAND` with what `arguments` adds; its stderr goes to a file in `dir`.
    pub(super) fn start(
        name: &'static str,
        dir: &Path,
        arguments: impl FnOnce(&mut Command),
    ) -> Result<Self, Failure> {
        let cannot =
            |error: &io::Error| Failure::new(Exit::Refused, format_args!("cannot start {name}: {error}"));
        let log = dir.join(format!("{name}.log"));
        let stderr = File::create(&log).map_err(|error| cannot(&error))?;
        let program = std::env::current_exe().map_err(|error| cannot(&error))?;
        let mut command = Command::new(program);
        command.arg(name).args(["--parent", &std::process::id().to_string()]);
        arguments(&mut command);
        // In a group of its own: Ctrl-C is for us, who then ask it to end, and a second signal would have it quit at once.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().map_err(|error| cannot(&error))?;
        let pid = Pid::from_child(&child);
        let opened = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
        let lines = child.stdout.take().map(read_lines).transpose();
        match (opened, lines) {
            (Ok(pidfd), Ok(Some(lines))) => Ok(Self { name, child, pid, pidfd, lines, last: None, log }),
            (opened, _) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(cannot(&opened.err().unwrap_or(io::ErrorKind::Other.into())))
            }
        }
    }

    /// CPU time until now, user and system, of a process that has not been waited for.
    pub(super) fn cpu(&self) -> Result<Duration, Failure> {
        let path = format!("/proc/{}/stat", self.pid.as_raw_pid());
        let stat = fs::read_to_string(&path)
            .map_err(|error| Failure::io(format_args!("cannot read {path}"), &error))?;
        let ticks = cpu_ticks(&stat).unwrap_or(0);
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// The next line of JSON whose `event` is that.
    pub(super) fn next_event(
        &mut self,
        event: &str,
        stop: &Stop,
        deadline: Option<Instant>,
    ) -> Result<Value, Failure> {
        loop {
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) => match serde_json::from_str::<Value>(&line) {
                    Ok(value) if value["event"] == event => return Ok(value),
                    _ => {}
                },
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(exit) = stop.requested() {
                return Err(stopped(exit));
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                let message = format!("{} did not say {event:?} in time{}", self.name, self.tail());
                return Err(Failure::new(Exit::Other, message));
            }
        }
    }

    /// The last line of JSON of a process that has ended.
    pub(super) fn last_json(&mut self) -> Result<Value, Failure> {
        let values = self.lines.iter().filter_map(|line| serde_json::from_str(&line).ok());
        values.last().or(self.last.take()).ok_or_else(|| {
            Failure::new(Exit::Other, format_args!("{} ended without a summary{}", self.name, self.tail()))
        })
    }

    /// Waits for its end, which must be a good one, and returns the CPU time it took. `watch` is called many times a second,
    /// with the lines of JSON that have come meanwhile.
    pub(super) fn wait(&mut self, mut watch: impl FnMut(&[Value]) -> Watch) -> Result<Duration, Failure> {
        while !self.has_ended(LOOK_EVERY)? {
            let new = self.news();
            if let Watch::Stop(failure) = watch(&new) {
                return Err(failure);
            }
        }
        // Ended but not reaped: /proc still tells its times.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid), options).map_err(|errno| self.refused(&errno))?;
        let cpu = self.cpu()?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(cpu),
            _ => Err(self.failure()),
        }
    }

    /// The lines of JSON that have come meanwhile.
    pub(super) fn news(&mut self) -> Vec<Value> {
        let new: Vec<Value> =
            self.lines.try_iter().filter_map(|line| serde_json::from_str(&line).ok()).collect();
        self.last = new.last().cloned().or(self.last.take());
        new
    }

    /// Asks it to leave, and waits.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        let _ = kill_process(self.pid, Signal::TERM);
        if !self.has_ended(END_WITHIN)? {
            let _ = self.child.kill();
            let _ = self.child.wait();
            return Err(Failure::new(
                Exit::Other,
                format_args!("{} did not end when asked to{}", self.name, self.tail()),
            ));
        }
        let _ = self.child.wait();
        Ok(())
    }

    /// Why it has ended, if it has.
    pub(super) fn failure_if_ended(&mut self) -> Option<Failure> {
        matches!(self.has_ended(Duration::ZERO), Ok(true)).then(|| self.failure())
    }

    fn has_ended(&self, within: Duration) -> Result<bool, Failure> {
        let timeout = Timespec {
            tv_sec: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: within.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            // A signal, which the caller looks for anyway.
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(self.refused(&errno)),
        }
    }

    fn refused(&self, errno: &rustix::io::Errno) -> Failure {
        Failure::new(Exit::Refused, format_args!("cannot wait for {}: {errno}", self.name))
    }

    /// It ended too early or badly: its own exit code says most.
    fn failure(&mut self) -> Failure {
        let status = self.child.wait();
        let code = status.as_ref().ok().and_then(std::process::ExitStatus::code);
        let exit = match code {
            Some(2) | None => Exit::Other,
            Some(3) => Exit::BadInput,
            Some(5) => Exit::NoPeers,
            Some(7) => Exit::Disk,
            Some(8) => Exit::Refused,
            Some(_) => Exit::Other,
        };
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        Failure::new(exit, format_args!("{} ended early ({status}){}", self.name, self.tail()))
    }

    fn tail(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(TAIL_BYTES)..]).into_owned();
        if said.is_empty() { String::new() } else { format!("; it said:\n{}", said.trim_end()) }
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        // No effect on one that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stdout: ChildStdout) -> io::Result<Receiver<String>> {
    let (send, lines) = crossbeam::channel::unbounded();
    let reader = std::thread::Builder::new().name("lines".into());
    reader.spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// User and system time of proc(5)'s `stat`, in clock ticks. The name of the program may hold anything: fields are counted
/// from its closing parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "17 (a) b (c) R 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("17 (x) R 1"), None);
    }
}
