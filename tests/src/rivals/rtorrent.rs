//! rtorrent 0.9 (Debian: rtorrent) as a daemon without a terminal. It says what it did by touching files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{PORT, Rival, Running, require};
use crate::net::Host;
use crate::torrent::Torrent;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Rtorrent;

impl Rival for Rtorrent {
    fn name(&self) -> &'static str {
        "rtorrent"
    }

    fn seed<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut running = start(host, torrent, dir, "hashed");
        running.wait_all();
        running
    }

    fn leech<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        start(host, torrent, dir, "finished")
    }
}

fn start<'h>(host: &'h Host, torrent: &Torrent, dir: &Path, awaited: &str) -> Running<'h> {
    require("rtorrent");
    let home = host.scratch().join("rtorrent");
    fs::create_dir_all(home.join("session")).expect("the host's scratch directory");
    let rc = home.join("rtorrent.rc");
    fs::write(&rc, settings(&home, torrent, dir)).expect("the host's scratch directory");
    let mut command = host.command("rtorrent");
    command.arg("-n").arg("-o").arg(format!("import={}", rc.display()));
    let marker = home.join(awaited);
    Running::new(host.spawn(command, "rtorrent"), move |process| {
        process.expect_running();
        marker.exists()
    })
}

fn settings(home: &Path, torrent: &Torrent, dir: &Path) -> String {
    let (home, torrent, dir) = (home.display(), torrent.path.display(), dir.display());
    let mut text = String::from(
        "system.daemon.set = true\ndht.mode.set = disable\nprotocol.pex.set = no\ntrackers.use_udp.set = no\n\
         protocol.encryption.set = none\nnetwork.port_random.set = no\npieces.hash.on_completion.set = no\n",
    );
    let mut line = |line: std::fmt::Arguments| writeln!(text, "{line}").expect("writing to a string");
    line(format_args!("network.port_range.set = {PORT}-{PORT}"));
    line(format_args!("session.path.set = {home}/session"));
    line(format_args!("directory.default.set = \"{dir}\""));
    line(format_args!("log.open_file = log,{home}/log"));
    line(format_args!("log.add_output = info,log"));
    for (event, marker) in [("finished", "finished"), ("hash_done", "hashed")] {
        line(format_args!(
            "method.set_key = event.download.{event},{marker},\"execute2={{touch,{home}/{marker}}}\""
        ));
    }
    line(format_args!("schedule2 = add,0,0,\"load.start=\\\"{torrent}\\\"\""));
    text
}
