//! libtorrent (PyPI: libtorrent) through `tests/interop/lt.py`, which prints its events as lines of JSON.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{PORT, Rival, Running};
use crate::content;
use crate::net::Host;
use crate::torrent::Torrent;

/// See the module. By default it takes its peers from the torrent's tracker.
#[derive(Debug, Clone, Default)]
pub struct Libtorrent {
    /// Peers to dial.
    pub peers: Vec<SocketAddr>,
    /// Bytes per second that it uploads at most; 0: no limit.
    pub upload_limit: u64,
    /// How many files it wants, the first of the torrent; none: all.
    pub first_files: Option<u64>,
}

impl Rival for Libtorrent {
    fn name(&self) -> &'static str {
        "libtorrent"
    }

    fn seed<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut running = self.leech(host, torrent, dir);
        running.wait_all();
        running
    }

    fn leech<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut command = host.command(python());
        command.arg(content::repository().join("tests/interop/lt.py"));
        command.arg("--listen").arg(host.socket(PORT).to_string()).arg("--dir").arg(dir);
        command.arg("--upload-limit").arg(self.upload_limit.to_string());
        if let Some(files) = self.first_files {
            command.arg("--first-files").arg(files.to_string());
        }
        for peer in &self.peers {
            command.arg("--peer").arg(peer.to_string());
        }
        command.arg(&torrent.path);
        Running::new(host.spawn(command, self.name()), |process| {
            process.expect_running();
            events(&process.stdout()).iter().any(|event| event["event"] == "complete")
        })
    }
}

/// Payload bytes that a libtorrent has uploaded, by its latest event.
pub(crate) fn uploaded(stdout: &str) -> u64 {
    events(stdout).iter().rev().find_map(|event| event["uploaded"].as_u64()).unwrap_or(0)
}

impl Running<'_> {
    /// Payload bytes uploaded so far: known of [`Libtorrent`] only, 0 for the others.
    pub fn uploaded(&self) -> u64 {
        uploaded(&self.process.stdout())
    }
}

fn events(stdout: &str) -> Vec<Value> {
    stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The Python of the virtual environment that tests/run makes.
fn python() -> PathBuf {
    let python = content::target_dir().join("interop/venv/bin/python");
    assert!(python.exists(), "{} is missing: run tests/run, which makes it", python.display());
    python
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_upload_counts() {
        let stdout = "{\"event\":\"stats\",\"uploaded\":5}\nnoise\n{\"event\":\"stats\",\"uploaded\":9}\n{\"event\":\"x\"}\n";
        assert_eq!(uploaded(stdout), 9);
        assert_eq!(uploaded(""), 0);
    }
}
