//! `Speeds`: how fast one core hashes and copies, measured in a moment, so that a figure can be held against it.
//!
//! Both from the L2 cache, by what the engine uses: nothing the engine does with memory is faster, so bounds made of them
//! are bounds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ringtide_hasher::{Dispatcher, Sha1Digest};
use serde::{Deserialize, Serialize};

use super::image;

/// Pieces that are hashed together: the widest kernels' lanes.
const MESSAGES: usize = 32;

/// Bytes of each: with them the messages fit an L2 cache.
const MESSAGE: usize = 8 << 10;

/// How long each try takes, and how many there are: the best counts.
const RUN: Duration = Duration::from_millis(2);
const RUNS: usize = 5;

/// What one core does, in decimal gigabytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Speeds {
    /// Hashing with full lanes.
    pub(crate) hash_gb_per_s: f64,
    /// Copying.
    pub(crate) copy_gb_per_s: f64,
}

impl Speeds {
    /// Measures for about 20 ms.
    pub(crate) fn measure() -> Self {
        let mut source = vec![0; MESSAGES * MESSAGE];
        image::fill(&mut source, &mut 0);
        let messages: Vec<&[u8]> = source.chunks(MESSAGE).collect();
        let mut digests = [Sha1Digest::default(); MESSAGES];
        let hash = || Dispatcher::current().sha1_many(black_box(&messages), &mut digests);
        let hash_gb_per_s = best(source.len(), hash);
        let mut target = vec![0; source.len()];
        let copy_gb_per_s = best(source.len(), || black_box(&mut target).copy_from_slice(black_box(&source)));
        Self { hash_gb_per_s, copy_gb_per_s }
    }
}

/// The best speed of some tries at work on so many bytes.
fn best(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut run = || {
        let (begun, mut done) = (Instant::now(), 0);
        while begun.elapsed() < RUN {
            work();
            done += bytes;
        }
        done as f64 / 1e9 / begun.elapsed().as_secs_f64()
    };
    (0..RUNS).map(|_| run()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_speeds() {
        let speeds = Speeds::measure();
        assert!(speeds.hash_gb_per_s > 0.0 && speeds.copy_gb_per_s > 0.0, "{speeds:?}");
    }
}
