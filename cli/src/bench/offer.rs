//! `Offer`: an image and its torrents, for a seed of this program to give and leeches to fetch.

use std::fs;
use std::path::PathBuf;

use ringtide_proto::metainfo::{TorrentBuilder, auto_piece_length};

use super::image;
use super::place::Place;
use crate::create::hash_file;
use crate::exit::Failure;
use crate::stop::Stop;

/// An image in the directory of the seed, and what a torrent of it says.
pub(super) struct Offer<'a> {
    place: &'a Place,
    pub(super) image: PathBuf,
    pub(super) bytes: u64,
    pub(super) piece_length: u32,
    hashes: Vec<[u8; 20]>,
}

impl<'a> Offer<'a> {
    /// Writes and hashes the image; `piece_length` is as `create` chooses it where none is given.
    pub(super) fn make(place: &'a Place, piece_length: Option<u32>, stop: &Stop) -> Result<Self, Failure> {
        let bytes = place.image_bytes();
        let image = place.path().join("seed/image");
        image::write(&image, bytes, stop)?;
        let piece_length = piece_length.unwrap_or_else(|| auto_piece_length(bytes));
        let hashes = hash_file(&image, piece_length, stop)?;
        Ok(Self { place, image, bytes, piece_length, hashes })
    }

    /// Writes a torrent of the image, without a tracker.
    pub(super) fn torrent(&self) -> Result<PathBuf, Failure> {
        self.write("image.torrent", &[])
    }

    /// Writes a torrent of the image with that tracker.
    pub(super) fn tracked_torrent(&self, tracker: &str) -> Result<PathBuf, Failure> {
        self.write("tracked.torrent", &[tracker])
    }

    fn write(&self, name: &str, trackers: &[&str]) -> Result<PathBuf, Failure> {
        let mut builder = TorrentBuilder::single_file("image", self.bytes, self.piece_length);
        builder.trackers = trackers.iter().map(|&tracker| vec![tracker.to_owned()]).collect();
        let built = builder.build(&self.hashes);
        let bytes = built.map_err(|error| Failure::usage(format_args!("cannot bench: {error}")))?;
        let path = self.place.path().join(name);
        fs::write(&path, bytes)
            .map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), &error))?;
        Ok(path)
    }
}
