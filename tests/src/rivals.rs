//! The clients of others at the other end, each as one trait: seed this, or fetch it. Every one of them runs with its
//! discovery (DHT, LSD, PEX, UPnP) and uTP off and plain connections allowed: what is found, is found through a tracker
//! or by hand.

mod aria2;
mod libtorrent;
mod opentracker;
mod rtorrent;
mod transmission;

use std::path::Path;

pub use aria2::Aria2;
pub use libtorrent::Libtorrent;
pub use opentracker::Opentracker;
pub use rtorrent::Rtorrent;
pub use transmission::Transmission;

use crate::content;
use crate::net::Host;
use crate::process::{self, Process};
use crate::torrent::Torrent;
use crate::wait;

/// The port every client listens on: hosts have addresses of their own.
pub const PORT: u16 = 6881;

/// A BitTorrent client that is not ours.
pub trait Rival: Sync {
    /// Its name, for logs and messages.
    fn name(&self) -> &'static str;

    /// Starts it on `host` with the complete content in `dir`; returns when it has checked all of it and offers it.
    fn seed<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h>;

    /// Starts it on `host` to fetch into `dir`.
    fn leech<'h>(&self, host: &'h Host, torrent: &Torrent, dir: &Path) -> Running<'h>;

    /// Asserts that what it fetched is what was sent.
    ///
    /// # Panics
    /// When anything differs.
    fn assert_received(&self, original: &Path, copy: &Path) {
        content::assert_same(original, copy);
    }
}

/// All of them.
pub fn all() -> Vec<Box<dyn Rival>> {
    vec![Box::new(Transmission), Box::new(Aria2), Box::new(Rtorrent), Box::new(Libtorrent::default())]
}

/// A client at work, ended on drop.
pub struct Running<'h> {
    /// Its process.
    pub process: Process,
    has_all: Box<dyn FnMut(&mut Process) -> bool + 'h>,
}

impl<'h> Running<'h> {
    pub(crate) fn new(process: Process, has_all: impl FnMut(&mut Process) -> bool + 'h) -> Self {
        Self { process, has_all: Box::new(has_all) }
    }

    /// Whether it says that it has everything, verified and in its files.
    pub fn has_all(&mut self) -> bool {
        (self.has_all)(&mut self.process)
    }

    /// Waits until it has everything.
    ///
    /// # Panics
    /// When that does not happen within [`wait::HANG`].
    pub fn wait_all(&mut self) {
        let Self { process, has_all } = self;
        wait::until("a client to have everything", || has_all(process));
    }
}

/// # Panics
/// When `program` is not installed; the message says how it gets there.
fn require(program: &str) {
    assert!(process::is_installed(program), "{program} is not installed: run tests/run, which installs it");
}
