//! transmission-daemon 3 (Debian: transmission-daemon), steered over its RPC port. It ignores peers in 127/8 that a
//! tracker names, unchokes only at its ten-second rounds, and does not create empty files.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{PORT, Rival, Running, require};
use crate::content;
use crate::http;
use crate::net::Host;
use crate::process::Process;
use crate::torrent::Torrent;
use crate::wait;

const RPC_PORT: u16 = 9091;
const SESSION_HEADER: &str = "X-Transmission-Session-Id";
/// `status` of a torrent that seeds (its rpc-spec).
const SEEDING: i64 = 6;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Transmission;

impl Rival for Transmission {
    fn name(&self) -> &'static str {
        "transmission-daemon"
    }

    fn seed<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut running = self.leech(host, torrent, dir);
        running.wait_all();
        running
    }

    fn leech<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h> {
        let mut process = start(host, self.name());
        wait::until("transmission's control port", || {
            process.expect_running();
            host.enter(|| call("session-get", &json!({}))).is_some()
        });
        let arguments = json!({"filename": torrent.path, "download-dir": dir, "paused": false});
        let added =
            host.enter(|| call("torrent-add", &arguments)).expect("its control port answered just now");
        assert!(added["torrent-added"].is_object(), "transmission refused the torrent: {added}");
        Running::new(process, |process| {
            process.expect_running();
            host.enter(has_everything)
        })
    }

    fn assert_received(&self, original: &Path, copy: &Path) {
        content::assert_same_but_empty_files(original, copy);
    }
}

fn start(host: &Host, name: &str) -> Process {
    require("transmission-daemon");
    let home = host.scratch().join("transmission");
    fs::create_dir_all(&home).expect("the host's scratch directory");
    fs::write(home.join("settings.json"), settings().to_string()).expect("the host's scratch directory");
    let mut command = host.command("transmission-daemon");
    command.arg("--foreground").arg("--config-dir").arg(&home);
    host.spawn(command, name)
}

fn settings() -> Value {
    json!({
        "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
        "port-forwarding-enabled": false, "encryption": 0, "peer-port": PORT, "preallocation": 0,
        "rpc-bind-address": "127.0.0.1", "rpc-port": RPC_PORT, "rpc-whitelist-enabled": false,
        "rpc-host-whitelist-enabled": false, "rpc-authentication-required": false,
        "ratio-limit-enabled": false, "idle-seeding-limit-enabled": false, "message-level": 2,
    })
}

fn has_everything() -> bool {
    let fields = json!({"fields": ["status", "leftUntilDone", "errorString", "percentDone"]});
    let Some(arguments) = call("torrent-get", &fields) else { return false };
    let torrent = &arguments["torrents"][0];
    torrent["leftUntilDone"] == 0 && torrent["percentDone"] == 1 && torrent["status"] == SEEDING
}

/// Calls a method of the daemon on this thread's host: its arguments, or `None` when the daemon does not listen yet.
fn call(method: &str, arguments: &Value) -> Option<Value> {
    let server = SocketAddr::from(([127, 0, 0, 1], RPC_PORT));
    let body = json!({"method": method, "arguments": arguments}).to_string();
    // The first request is always refused with 409 and the header that the second needs.
    let refused = http::post(server, "/transmission/rpc", "", &body).ok()?;
    let session = refused.header(SESSION_HEADER)?.to_owned();
    let headers = format!("{SESSION_HEADER}: {session}\r\n");
    let response = http::post(server, "/transmission/rpc", &headers, &body).ok()?;
    let answer: Value = serde_json::from_slice(&response.body).ok()?;
    assert_eq!(answer["result"], "success", "transmission refused {method}: {answer}");
    Some(answer["arguments"].clone())
}
