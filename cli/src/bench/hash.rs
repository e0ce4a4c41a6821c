//! `ringtide bench hash`: how fast one core hashes, by every kernel it can run, by the number of messages that wait and
//! by where they lie.
//!
//! Owns the measuring. All rows of one memory are measured in turns, several times, and the best time of each counts: a slow
//! moment of the machine then spoils a turn, not a row. What is printed is `table`'s.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ringtide_engine::storage::{AlignedBuf, BufferPool};
use ringtide_hasher::{Algorithm, Dispatcher, Kernel, Sha1Digest, Sha256Digest};

use super::image;
use super::machine::cache_bytes;
use super::present::Present;
use super::table::{Memory, Row, Table};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::note;
use crate::stop::Stop;
use crate::units::BinaryBytes;

/// Numbers of waiting messages that are measured.
const COUNTS: [usize; 6] = [1, 2, 4, 8, 16, MOST];

/// Most messages that wait.
const MOST: usize = 32;

/// How often each row is measured.
const RUNS: usize = 5;

/// How long a row is measured at a time: thousands of times what reading the clock takes.
const RUN: Duration = Duration::from_millis(3);

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hash {
    /// Bytes of a message.
    pub(crate) message_bytes: u64,
    /// Bytes of memory that count as DRAM.
    pub(crate) memory_bytes: u64,
    pub(crate) present: Present,
}

impl Hash {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        // What is wrong with the old report or the page shows before anything is measured.
        let ready = self.present.ready("hash")?;
        let memory = usize::try_from(self.memory_bytes).ok().and_then(Data::random);
        let asked = BinaryBytes(self.memory_bytes);
        let mut data = memory.ok_or_else(|| {
            Failure::usage(format_args!("no {asked} of memory to hash; try a smaller --size"))
        })?;
        let message_bytes = usize::try_from(self.message_bytes).unwrap_or(usize::MAX);
        let subjects = subjects();
        check(&subjects, &data, message_bytes)?;
        let mut rows = Vec::new();
        for memory in [Memory::L2, Memory::L3, Memory::Dram] {
            note(&format!("hashing from {}", memory.spelled()));
            rows.extend(measure(&subjects, memory, message_bytes, &mut data, stop)?);
        }
        let table = Table { rows, message_bytes, memory_bytes: data.len(), runs: RUNS };
        self.present.show(&table.report(), ready)?;
        Ok(Exit::Done)
    }
}

/// What hashes: one kernel whatever there is, or the choice that the engine makes.
struct Subject {
    name: String,
    dispatcher: Dispatcher,
}

impl Subject {
    /// Whether another kernel does not stand in for this one.
    fn has(&self, algorithm: Algorithm) -> bool {
        self.name == "auto" || self.dispatcher.mix(algorithm, 1)[0].to_string() == self.name
    }
}

fn subjects() -> Vec<Subject> {
    let only = Kernel::available().filter_map(|kernel| {
        Dispatcher::only(kernel).map(|dispatcher| Subject { name: kernel.to_string(), dispatcher })
    });
    let auto = Subject { name: "auto".to_owned(), dispatcher: Dispatcher::current().clone() };
    only.chain([auto]).collect()
}

/// A speed is worth nothing where the digests are wrong.
fn check(subjects: &[Subject], data: &Data, message_bytes: usize) -> Result<(), Failure> {
    let messages = data.batch(0, MOST, message_bytes);
    let mut expected: Option<Digests> = None;
    for subject in subjects {
        let mut digests = Digests::default();
        digests.hash(&subject.dispatcher, Algorithm::Sha1, &messages);
        digests.hash(&subject.dispatcher, Algorithm::Sha256, &messages);
        if *expected.get_or_insert_with(|| digests.clone()) != digests {
            let name = &subject.name;
            return Err(Failure::new(
                Exit::Other,
                format_args!("the kernel {name} hashes wrong on this CPU"),
            ));
        }
    }
    Ok(())
}

/// All rows of one memory.
fn measure(
    subjects: &[Subject],
    memory: Memory,
    message_bytes: usize,
    data: &mut Data,
    stop: &Stop,
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
        for subject in subjects.iter().filter(|subject| subject.has(algorithm)) {
            let row = |messages| Row {
                algorithm,
                kernel: subject.name.clone(),
                messages,
                bytes: message_bytes,
                memory,
                gb_per_s: 0.0,
            };
            rows.extend(COUNTS.map(|messages| (&subject.dispatcher, row(messages))));
        }
    }
    let set = working_set(memory, data.len());
    for _ in 0..RUNS {
        for (dispatcher, row) in &mut rows {
            if let Some(exit) = stop.requested() {
                return Err(Failure::new(exit, "stopped"));
            }
            row.gb_per_s = row.gb_per_s.max(data.speed(dispatcher, row, set));
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// Random bytes on huge pages, and where in them the next message begins.
struct Data {
    bytes: AlignedBuf,
    at: usize,
}

impl Data {
    fn random(len: usize) -> Option<Self> {
        let mut bytes = BufferPool::new(len).try_take_aligned(len)?;
        bytes.set_len(len);
        image::fill(bytes.as_mut_slice(), &mut 0);
        Some(Self { bytes, at: 0 })
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// That many messages from `at` on. Where there are fewer bytes, they overlap.
    fn batch(&self, at: usize, count: usize, message_bytes: usize) -> Vec<&[u8]> {
        let bytes = self.bytes.as_slice();
        let last = bytes.len() - message_bytes;
        (0..count)
            .map(|i| (at + i * message_bytes).min(last))
            .map(|at| &bytes[at..at + message_bytes])
            .collect()
    }

    /// Decimal gigabytes per second of one measurement, in the first `set` bytes.
    fn speed(&mut self, dispatcher: &Dispatcher, row: &Row, set: usize) -> f64 {
        let batch_bytes = row.messages * row.bytes;
        let mut digests = Digests::default();
        let mut hash = |data: &mut Self| {
            if data.at + batch_bytes > set {
                data.at = 0;
            }
            let batch = data.batch(data.at, row.messages, row.bytes);
            digests.hash(dispatcher, row.algorithm, black_box(&batch));
            black_box(&mut digests);
            data.at += batch_bytes;
        };
        // In DRAM it goes on behind the measurement before, where nothing is in a cache; elsewhere the bytes are brought
        // where they are to lie.
        if row.memory != Memory::Dram {
            self.at = 0;
            (0..(set / batch_bytes).max(1)).for_each(|_| hash(self));
        }
        let begun = Instant::now();
        let mut hashed = 0;
        while begun.elapsed() < RUN {
            hash(self);
            hashed += batch_bytes;
        }
        hashed as f64 / begun.elapsed().as_secs_f64() / 1e9
    }
}

/// Bytes that are hashed again and again so that they stay in that memory: half of the L2 cache; of the L3 cache, which
/// others use too, a quarter, but more than the L2 holds.
fn working_set(memory: Memory, all: usize) -> usize {
    let l2 = cache_bytes(2).unwrap_or(1 << 20);
    let set = match memory {
        Memory::L2 => l2 / 2,
        Memory::L3 => cache_bytes(3).map_or(8 * l2, |l3| (l3 / 4).max(2 * l2)),
        Memory::Dram => all,
    };
    set.min(all)
}

/// Room for digests of a batch.
#[derive(Clone, PartialEq, Eq)]
struct Digests {
    sha1: [Sha1Digest; MOST],
    sha256: [Sha256Digest; MOST],
}

impl Default for Digests {
    fn default() -> Self {
        Self { sha1: [[0; 20]; MOST], sha256: [[0; 32]; MOST] }
    }
}

impl Digests {
    fn hash(&mut self, dispatcher: &Dispatcher, algorithm: Algorithm, messages: &[&[u8]]) {
        match algorithm {
            Algorithm::Sha1 => dispatcher.sha1_many(messages, &mut self.sha1[..messages.len()]),
            Algorithm::Sha256 => dispatcher.sha256_many(messages, &mut self.sha256[..messages.len()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_lie_inside_the_memory() {
        let data = Data::random(1 << 20).expect("a megabyte");
        let batch = data.batch(1 << 19, 32, 1 << 15);
        assert_eq!((batch.len(), batch[0].len()), (32, 1 << 15));
        assert!(batch.iter().all(|message| data.bytes.as_slice().as_ptr_range().contains(&message.as_ptr())));
        assert_ne!(batch[0], batch[1]);
    }

    #[test]
    fn all_subjects_agree_and_each_has_a_speed() {
        let mut data = Data::random(1 << 20).expect("a megabyte");
        let subjects = subjects();
        check(&subjects, &data, 1 << 14).expect("the kernels are right");
        let auto = subjects.last().expect("there is one");
        let row = Row {
            algorithm: Algorithm::Sha1,
            kernel: auto.name.clone(),
            messages: 4,
            bytes: 1 << 14,
            memory: Memory::L2,
            gb_per_s: 0.0,
        };
        assert!(data.speed(&auto.dispatcher, &row, 1 << 20) > 0.0);
    }
}
