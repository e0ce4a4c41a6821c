//! The usual scene on loopback: an image and its torrent, scripted peers at addresses of their own (so that a ban of one
//! address hits one peer), and a `get` that is told of them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use crate::content;
use crate::hostile::{Manner, Peer};
use crate::process::Process;
use crate::ringtide;
use crate::torrent::Torrent;

/// Last byte of the first peer's address in 127.0.0/24; the next peers follow. 1 is left to ringtide.
const FIRST_PEER: u8 = 2;

/// See the module. The directory vanishes on drop.
#[derive(Debug)]
pub struct Scene {
    /// The directory of everything.
    pub dir: TempDir,
    /// The original.
    pub image: PathBuf,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
    /// Its torrent.
    pub torrent: Torrent,
}

impl Scene {
    /// An image of `len` bytes in pieces of `piece_length`, on disk.
    ///
    /// # Panics
    /// When there is no room.
    pub fn new(len: u64, piece_length: u64) -> Self {
        Self::within(content::disk_dir(), len, piece_length)
    }

    /// The same in a directory of the caller's choice.
    ///
    /// # Panics
    /// When there is no room.
    pub fn within(dir: TempDir, len: u64, piece_length: u64) -> Self {
        let image = dir.path().join("image");
        content::write_file(&image, len, 1);
        let torrent = Torrent::create(&image, piece_length, "", dir.path());
        let bytes = Arc::new(fs::read(&image).expect("the image"));
        fs::create_dir_all(dir.path().join("to")).expect("room for a directory");
        Self { dir, image, bytes, torrent }
    }

    /// One peer of each manner.
    pub fn peers(&self, manners: &[Manner]) -> Vec<Peer> {
        let addresses = (FIRST_PEER..=254).map(|last| SocketAddr::from(([127, 0, 0, last], 0)));
        addresses
            .zip(manners)
            .map(|(addr, &manner)| Peer::start(addr, &self.torrent, &self.bytes, manner))
            .collect()
    }

    /// Where `get` puts the image.
    pub fn copy(&self) -> PathBuf {
        self.to().join("image")
    }

    /// The download directory.
    pub fn to(&self) -> PathBuf {
        self.dir.path().join("to")
    }

    /// `get --json` of the torrent from `peers`, with further arguments.
    pub fn get(&self, peers: &[Peer], arguments: &[&str]) -> Process {
        let mut command = self.get_command(arguments);
        for peer in peers {
            command.arg("--peer").arg(peer.addr().to_string());
        }
        ringtide::spawn(command, self.dir.path())
    }

    /// The command of [`Scene::get`] without its peers.
    pub fn get_command(&self, arguments: &[&str]) -> Command {
        let mut command = ringtide::command("get");
        command.arg(&self.torrent.path).arg("-o").arg(self.to()).arg("--json").args(arguments);
        command
    }

    /// Whether the copy is whole and right.
    pub fn is_copied(&self) -> bool {
        self.copy().exists() && content::first_difference(&self.image, &self.copy()).is_none()
    }

    /// Asserts that the copy is the image.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_copied(&self) {
        content::assert_same(&self.image, &self.copy());
    }

    /// Bytes in pieces that are whole and right in the copy.
    pub fn good_bytes(&self) -> u64 {
        let copy = fs::read(self.copy()).unwrap_or_default();
        let piece = usize::try_from(self.torrent.piece_length).expect("a piece fits memory");
        let pairs = self.bytes.chunks(piece).zip(copy.chunks(piece));
        pairs.filter(|(ours, theirs)| ours == theirs).map(|(ours, _)| ours.len() as u64).sum()
    }
}
