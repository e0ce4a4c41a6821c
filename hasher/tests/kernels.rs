//! Every kernel that this CPU can run, and the mixes of CPUs that have less, against the oracle.

use ringtide_hasher::{Dispatcher, Kernel, Sha1State, Sha256State, scalar};

/// Bytes without a pattern that a mistake in the order of words, lanes or blocks could hide behind.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn fill(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}

fn dispatchers() -> impl Iterator<Item = (String, Dispatcher)> {
    let only =
        Kernel::available().map(|kernel| (kernel.to_string(), Dispatcher::only(kernel).expect("runs here")));
    only.chain([("auto".to_owned(), Dispatcher::current().clone())])
}

fn check(name: &str, dispatcher: &Dispatcher, messages: &[&[u8]]) {
    let mut sha1 = vec![[0; 20]; messages.len()];
    let mut sha256 = vec![[0; 32]; messages.len()];
    dispatcher.sha1_many(messages, &mut sha1);
    dispatcher.sha256_many(messages, &mut sha256);
    for (i, message) in messages.iter().enumerate() {
        let (count, len) = (messages.len(), message.len());
        assert_eq!(sha1[i], scalar::sha1(message), "{name}: SHA-1 of message {i} of {count}, {len} bytes");
        assert_eq!(
            sha256[i],
            scalar::sha256(message),
            "{name}: SHA-256 of message {i} of {count}, {len} bytes"
        );
    }
}

/// Each message has other bytes, and other alignment.
#[test]
fn all_lengths_up_to_four_blocks_in_any_number_of_lanes() {
    let data = Bytes(1).fill(1 << 16);
    for (name, dispatcher) in dispatchers() {
        for len in 0..=256 {
            for count in [1, 2, 5, 16, 31, 33] {
                let at = |lane: usize| lane * 1021 + len * 67;
                let messages: Vec<_> = (0..count).map(|lane| &data[at(lane)..at(lane) + len]).collect();
                check(&name, &dispatcher, &messages);
            }
        }
    }
}

#[test]
fn every_number_of_lanes_and_every_alignment() {
    let data = Bytes(2).fill(1 << 16);
    for (name, dispatcher) in dispatchers() {
        for count in 0..=70 {
            let messages: Vec<_> = (0..count).map(|lane| &data[lane * 500 + lane % 64..][..448]).collect();
            check(&name, &dispatcher, &messages);
        }
    }
}

/// Some 30,000 messages for each kernel; lengths from nothing to several KiB in one call, so that lanes become
/// free at different times and are taken again.
#[test]
fn random_messages_of_unequal_lengths() {
    let mut random = Bytes(3);
    let data = random.fill(1 << 16);
    let rounds = if cfg!(miri) { 1 } else { 600 };
    let batches: Vec<Vec<&[u8]>> = (0..rounds)
        .map(|_| {
            let (count, most) = (1 + random.below(100), 1 + random.below(3000));
            let message = |random: &mut Bytes| {
                let len = random.below(most);
                &data[random.below(data.len() - len)..][..len]
            };
            (0..count).map(|_| message(&mut random)).collect()
        })
        .collect();
    let expected: Vec<Vec<_>> = batches
        .iter()
        .map(|batch| batch.iter().map(|message| (scalar::sha1(message), scalar::sha256(message))).collect())
        .collect();
    for (name, dispatcher) in dispatchers() {
        for (batch, expected) in batches.iter().zip(&expected) {
            let (mut sha1, mut sha256) = (vec![[0; 20]; batch.len()], vec![[0; 32]; batch.len()]);
            dispatcher.sha1_many(batch, &mut sha1);
            dispatcher.sha256_many(batch, &mut sha256);
            for (i, expected) in expected.iter().enumerate() {
                assert_eq!((sha1[i], sha256[i]), *expected, "{name}: message {i} of {}", batch.len());
            }
        }
    }
}

#[test]
fn streams_fed_together_in_random_parts() {
    let mut random = Bytes(4);
    let data = random.fill(1 << 15);
    for (name, dispatcher) in dispatchers() {
        // A block in two parts is completed by the state's own kernel.
        let kernel = name.parse().unwrap_or(Kernel::Crate);
        let mut states = vec![Sha1State::with_kernel(kernel).expect("runs here"); 50];
        let mut fed = vec![0; states.len()];
        for _ in 0..12 {
            let until: Vec<usize> =
                fed.iter().map(|&from| (from + random.below(700)).min(data.len())).collect();
            let parts = states.iter_mut().zip(fed.iter().zip(&until));
            let mut streams: Vec<_> = parts.map(|(state, (&from, &to))| (state, &data[from..to])).collect();
            dispatcher.update_many(&mut streams);
            fed = until;
        }
        let mut digests = vec![[0; 20]; states.len()];
        dispatcher.finish_many(&states.iter().collect::<Vec<_>>(), &mut digests);
        for (state, (digest, &len)) in states.into_iter().zip(digests.iter().zip(&fed)) {
            assert_eq!(*digest, scalar::sha1(&data[..len]), "{name}: {len} bytes");
            assert_eq!(state.finish(), *digest, "{name}: {len} bytes");
        }
    }
}

/// FIPS 180-4's examples, the empty message, one whose padding takes a block of its own and the million "a": by the oracle,
/// and in sixteen lanes at once.
#[test]
fn standard_vectors() {
    let million = vec![b'a'; 1_000_000];
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    let vectors: [(&[u8], &str, &str); 4] = [
        (
            b"",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            b"abc",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            two_blocks,
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (
            &million,
            "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        ),
    ];
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (message, expected1, expected256) in vectors {
        assert_eq!(hex(&scalar::sha1(message)), expected1);
        assert_eq!(hex(&scalar::sha256(message)), expected256);
    }
    for (name, dispatcher) in dispatchers() {
        let messages: Vec<_> = (0..16).map(|lane| vectors[lane % 4].0).collect();
        let (mut sha1, mut sha256) = ([[0; 20]; 16], [[0; 32]; 16]);
        dispatcher.sha1_many(&messages, &mut sha1);
        dispatcher.sha256_many(&messages, &mut sha256);
        for lane in 0..16 {
            let (_, expected1, expected256) = vectors[lane % 4];
            assert_eq!((&*hex(&sha1[lane]), &*hex(&sha256[lane])), (expected1, expected256), "{name} {lane}");
        }
    }
}

#[test]
fn one_message_in_parts_by_every_kernel() {
    let data = Bytes(5).fill(5000);
    for kernel in Kernel::available() {
        for part in [1, 63, 64, 65, 1000] {
            let mut sha1 = Sha1State::with_kernel(kernel).expect("runs here");
            let mut sha256 = Sha256State::with_kernel(kernel).expect("runs here");
            data.chunks(part).for_each(|part| {
                sha1.update(part);
                sha256.update(part);
            });
            assert_eq!(sha1.finish(), scalar::sha1(&data), "{kernel} {part}");
            assert_eq!(sha256.finish(), scalar::sha256(&data), "{kernel} {part}");
        }
    }
}
