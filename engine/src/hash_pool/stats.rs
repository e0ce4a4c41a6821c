//! `HashStats`: what the hash workers did, for logs and tests.

use std::fmt;

use super::worker::Hashing;

/// What the hash workers did since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashStats {
    /// Jobs that were taken.
    pub jobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches that they were taken in: jobs of one batch are hashed together.
    pub batches: u64,
    /// Jobs of the largest batch.
    pub largest: usize,
    /// Batches by size: of 1 job, of 2 or 3, of 4 to 7, of 8 to 15, and of 16 and more.
    pub by_size: [u64; 5],
}

impl HashStats {
    pub(super) fn count(&mut self, batch: &[Hashing]) {
        let size = batch.len();
        self.jobs += size as u64;
        self.bytes += batch.iter().map(|job| job.data.len() as u64).sum::<u64>();
        self.batches += 1;
        self.largest = self.largest.max(size);
        self.by_size[(size.max(1).ilog2() as usize).min(self.by_size.len() - 1)] += 1;
    }
}

impl fmt::Display for HashStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, four, eight, sixteen] = self.by_size;
        write!(
            f,
            "{} jobs ({} MiB) in {} batches, the largest of {}; of 1: {one}, 2-3: {two}, 4-7: {four}, 8-15: {eight}, \
             16 and more: {sixteen}",
            self.jobs,
            self.bytes >> 20,
            self.batches,
            self.largest
        )
    }
}
