//! The program under test: where its binary is, how it is started, and what it says at its end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::content;
use crate::net::Host;
use crate::process::{self, Process};
use crate::rivals::{PORT, Rival, Running};
use crate::torrent::Torrent;
use crate::wait;

/// The port of [`Ringtide::track`].
pub const TRACKER_PORT: u16 = 6969;

/// `ringtide` as one of the clients, on a host of a network.
#[derive(Debug, Clone, Default)]
pub struct Ringtide {
    /// Value of `--io`; empty: not given.
    pub io: &'static str,
    /// `--peer`, each.
    pub peers: Vec<SocketAddr>,
    /// `seed --track` at [`TRACKER_PORT`] of its host.
    pub track: bool,
    /// Further arguments.
    pub arguments: Vec<String>,
}

impl Ringtide {
    /// Starts `get`; it ends by itself.
    pub fn get(&self, host: &Host, torrent: &Torrent, dir: &Path) -> Process {
        let mut command = self.command(host, "get", torrent);
        command.arg("--json").arg("-o").arg(dir);
        host.spawn(command, "ringtide-get")
    }

    /// The announce URL of a seed on `host` that [tracks](Self::track).
    pub fn announce_url(host: &Host) -> String {
        format!("http://{}/announce", host.socket(TRACKER_PORT))
    }

    fn command(&self, host: &Host, verb: &str, torrent: &Torrent) -> Command {
        let mut command = host.command(binary());
        command.arg(verb).arg(&torrent.path).arg("--listen").arg(host.socket(PORT).to_string());
        if !self.io.is_empty() {
            command.args(["--io", self.io]);
        }
        for peer in &self.peers {
            command.arg("--peer").arg(peer.to_string());
        }
        command.args(&self.arguments);
        command
    }
}

impl Rival for Ringtide {
    fn name(&self) -> &'static str {
        "ringtide"
    }

    fn seed<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut command = self.command(host, "seed", torrent);
        command.arg("-d").arg(dir);
        if self.track {
            command.arg("--track").arg(host.socket(TRACKER_PORT).to_string());
        }
        let mut running = Running::new(host.spawn(command, "ringtide-seed"), |process| {
            process.expect_running();
            host.enter(|| TcpStream::connect(host.socket(PORT))).is_ok()
        });
        running.wait_all();
        running
    }

    fn leech<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        Running::new(self.get(host, torrent, dir), |process| {
            let ended = !process.is_running();
            if ended {
                process.wait_success();
            }
            ended
        })
    }
}

/// The binary under test: `RINGTIDE_BIN`, or what `cargo build --release` made.
///
/// # Panics
/// When it is not there.
pub fn binary() -> PathBuf {
    let built = || content::target_dir().join("release/ringtide");
    let binary = std::env::var_os("RINGTIDE_BIN").map_or_else(built, PathBuf::from);
    assert!(binary.exists(), "{} is missing: run cargo build --release first", binary.display());
    binary
}

/// A command of ringtide on this machine's loopback, ended with the thread that spawns it.
pub fn command(verb: &str) -> Command {
    let mut command = process::mortal(&[], binary());
    command.arg(verb);
    command
}

/// Starts a command of ringtide on this machine's loopback; `logs` takes its output.
pub fn spawn(command: Command, logs: &Path) -> Process {
    Process::spawn(command, "ringtide", logs)
}

/// Runs a command of ringtide to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Output {
    let mut command = process::mortal(&[], binary());
    command.args(arguments).stdin(std::process::Stdio::null());
    command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// What `--json` printed at the end: the last line of stdout that is a JSON object.
///
/// # Panics
/// When there is none.
pub fn summary(stdout: &str) -> Value {
    let mut objects = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.rfind(Value::is_object).unwrap_or_else(|| panic!("no JSON object in stdout: {stdout:?}"))
}

/// A number of a [`summary`].
///
/// # Panics
/// When it is not there or no whole number.
pub fn number(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or_else(|| panic!("no whole number {field:?} in {summary}"))
}

/// An address of loopback with a port that was free a moment ago.
///
/// # Panics
/// When no port is free.
pub fn free_address(last: u8) -> SocketAddr {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
    TcpListener::bind(any).and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Waits until something accepts connections at `addr`.
///
/// # Panics
/// When nothing does within [`wait::HANG`].
pub fn wait_listening(addr: SocketAddr) {
    wait::until(&format!("something to listen at {addr}"), || TcpStream::connect(addr).is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_object_is_the_summary() {
        let stdout = "{\"event\":1}\nnoise\n{\"bytes\":5,\"io\":\"uring\"}\n";
        assert_eq!(number(&summary(stdout), "bytes"), 5);
    }

    #[test]
    #[should_panic(expected = "no whole number")]
    fn a_missing_number_is_noticed() {
        number(&summary("{}"), "bytes");
    }
}
