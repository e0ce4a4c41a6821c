//! aria2c (Debian: aria2). It takes no peers by hand. As a seed it is asked over its JSON-RPC port, as a leecher it exits
//! with 0 when it is done.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{PORT, Rival, Running, require};
use crate::http;
use crate::net::Host;
use crate::torrent::Torrent;

const RPC_PORT: u16 = 6800;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Aria2;

impl Rival for Aria2 {
    fn name(&self) -> &'static str {
        "aria2c"
    }

    fn seed<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut command = common(host, dir);
        command.args(["--check-integrity=true", "--seed-ratio=0.0", "--enable-rpc=true"]);
        command.arg(format!("--rpc-listen-port={RPC_PORT}")).arg(&torrent.path);
        let process = host.spawn(command, self.name());
        let mut running = Running::new(process, |process| {
            process.expect_running();
            host.enter(is_seeding)
        });
        running.wait_all();
        running
    }

    fn leech<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut command = common(host, dir);
        command.arg("--seed-time=0").arg(&torrent.path);
        Running::new(host.spawn(command, self.name()), |process| {
            let ended = !process.is_running();
            if ended {
                process.wait_success();
            }
            ended
        })
    }
}

fn common(host: &Host, dir: &Path) -> Command {
    require("aria2c");
    let mut command = host.command("aria2c");
    command.args(["--no-conf=true", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"]);
    command.args(["--enable-peer-exchange=false", "--file-allocation=none", "--allow-overwrite=true"]);
    command.args(["--bt-require-crypto=false", "--bt-min-crypto-level=plain"]);
    // It asks a tracker again only this often, and the other side may come after it.
    command.args(["--bt-tracker-interval=3", "--summary-interval=0", "--download-result=full"]);
    command.arg(format!("--listen-port={PORT}")).arg("--dir").arg(dir);
    command
}

fn is_seeding() -> bool {
    let server = SocketAddr::from(([127, 0, 0, 1], RPC_PORT));
    let call = json!({"jsonrpc": "2.0", "id": "1", "method": "aria2.tellActive"});
    let Ok(response) =
        http::post(server, "/jsonrpc", "Content-Type: application/json\r\n", &call.to_string())
    else {
        return false;
    };
    let answer: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    answer["result"][0]["seeder"] == "true"
}
