//! `Verifier`: hashes the pieces that arrived, batch by batch, and writes them.
//!
//! Owns the file. One thread runs it, beside those that receive: a message per batch wakes it, not one per piece.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crossbeam::channel::{Receiver, Sender};
use ringtide_hasher::{Sha1Digest, sha1_verify_many};
use ringtide_proto::layout::PieceLayout;
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::Failure;
use super::pieces::{Batch, Buffer, Filled};

/// What O_DIRECT demands of offsets and lengths; buffers are aligned to whole pieces.
const SECTOR: usize = 4096;

/// Where pieces are written.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// The same file past the page cache. What is not whole sectors goes through `file`.
    direct: Option<File>,
}

impl Output {
    /// Makes a file of `len` bytes, or takes over the one that is there.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(path: &Path, len: u64, direct: bool) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        if !direct {
            file.set_len(len)?;
            return Ok(Self { file, direct: None });
        }
        fallocate(&file, FallocateFlags::empty(), 0, len)?;
        let flags = OFlags::DIRECT.bits() as i32;
        let direct = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, direct: Some(direct) })
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let Some(direct) = &self.direct else { return self.file.write_all_at(bytes, offset) };
        let aligned = if offset.is_multiple_of(SECTOR as u64) { bytes.len() / SECTOR * SECTOR } else { 0 };
        direct.write_all_at(&bytes[..aligned], offset)?;
        self.file.write_all_at(&bytes[aligned..], offset + aligned as u64)
    }
}

/// What is done with batches.
pub(super) struct Verifier<'t> {
    pub(super) layout: &'t PieceLayout,
    pub(super) hashes: &'t [Sha1Digest],
    pub(super) output: Option<&'t Output>,
}

impl Verifier<'_> {
    /// Works until all receivers have hung up, or something fails. Buffers go back to the receiver of their number.
    pub(super) fn run<'b>(
        &self,
        batches: &Receiver<Batch<'b>>,
        back: &[Sender<Vec<Buffer<'b>>>],
    ) -> Result<(), Failure> {
        for batch in batches {
            self.verify(&batch.pieces)?;
            for filled in &batch.pieces {
                self.write(filled)?;
            }
            let emptied = batch.pieces.into_iter().map(|filled| filled.buffer).collect();
            // One that has all it wanted has hung up.
            let _ = back[batch.receiver].send(emptied);
        }
        Ok(())
    }

    fn verify(&self, pieces: &[Filled<'_>]) -> Result<(), Failure> {
        let messages: Vec<&[u8]> = pieces.iter().map(Filled::bytes).collect();
        let expected: Vec<_> = pieces.iter().map(|filled| self.hashes[filled.piece.index()]).collect();
        let mut good = vec![false; pieces.len()];
        sha1_verify_many(&messages, &expected, &mut good);
        match good.iter().position(|good| !good) {
            Some(bad) => Err(Failure::Corrupt { piece: pieces[bad].piece.number() }),
            None => Ok(()),
        }
    }

    fn write(&self, filled: &Filled<'_>) -> Result<(), Failure> {
        let Some(output) = self.output else { return Ok(()) };
        output.write(filled.bytes(), self.layout.piece_offset(filled.piece)).map_err(Failure::Write)
    }
}
