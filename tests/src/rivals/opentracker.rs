//! opentracker (Debian: opentracker): a HTTP tracker. Debian builds it to serve only hashes on a list.

use std::fs;
use std::net::SocketAddr;

use super::require;
use crate::http;
use crate::net::Host;
use crate::process::Process;
use crate::torrent::Torrent;
use crate::wait;

const PORT: u16 = 6969;

/// A tracker on a host of its own, ended on drop.
#[derive(Debug)]
pub struct Opentracker<'h> {
    host: &'h Host,
    _process: Process,
}

impl<'h> Opentracker<'h> {
    /// The announce URL of the tracker that will run on `host`: torrents need it before the tracker knows them.
    pub fn announce_url(host: &Host) -> String {
        format!("http://{}/announce", host.socket(PORT))
    }

    /// Starts it on `host` for `torrents`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(host: &'h Host, torrents: &[&Torrent]) -> Self {
        require("opentracker");
        let list: String = torrents.iter().map(|torrent| torrent.info_hash_hex() + "\n").collect();
        fs::write(host.scratch().join("whitelist"), list).expect("the host's scratch directory");
        // It refuses to be root, and in a user namespace root cannot become another: it gets a user namespace of its own.
        let mut command = host.command("unshare");
        command.args([
            "--user",
            "--map-user=65534",
            "--",
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            "opentracker",
        ]);
        command.args(["-i", &host.addr().to_string(), "-p", &PORT.to_string(), "-P", &PORT.to_string()]);
        command.args(["-w", "whitelist", "-d"]).arg(host.scratch());
        let mut process = host.spawn(command, "opentracker");
        wait::until("opentracker to answer", || {
            process.expect_running();
            http_get(host, "/stats").is_some()
        });
        Self { host, _process: process }
    }

    /// Waits until it knows at least `seeds` peers that have everything.
    ///
    /// # Panics
    /// When that does not happen within [`wait::HANG`].
    pub fn wait_seeds(&self, torrent: &Torrent, seeds: u64) {
        let hash: String = torrent.info_hash.iter().map(|byte| format!("%{byte:02x}")).collect();
        wait::until("seeds to announce themselves", || {
            let answer = http_get(self.host, &format!("/scrape?info_hash={hash}")).unwrap_or_default();
            complete_of(&answer) >= seeds
        });
    }
}

fn http_get(host: &Host, target: &str) -> Option<Vec<u8>> {
    let server: SocketAddr = host.socket(PORT);
    host.enter(|| http::fetch(server, target)).ok().map(|response| response.body)
}

/// The number under `complete` in a scrape's answer for one torrent (BEP 48).
fn complete_of(answer: &[u8]) -> u64 {
    let key = b"8:completei";
    let Some(at) = answer.windows(key.len()).position(|window| window == key) else { return 0 };
    let digits = answer[at + key.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_scrape() {
        let answer = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei12e10:downloadedi0e10:incompletei1eeee";
        assert_eq!(complete_of(answer), 12);
        assert_eq!(complete_of(b"d5:filesdee"), 0);
    }
}
