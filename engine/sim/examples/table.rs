//! Plays swarms of a name and prints a line for each: `cargo run --release -p ringtide-sim --example table -- crowd-100`.

use std::time::Instant;

use ringtide_sim::{Crowd, watch};

fn main() {
    let mut args = std::env::args().skip(1);
    let hosts = args.next().and_then(|text| text.parse().ok()).unwrap_or(10);
    let rng_seed = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let scenario = Crowd { hosts, rng_seed, ..Crowd::default() }.scenario().unwrap();
    let began = Instant::now();
    let outcome = watch(&scenario, &mut |progress| {
        if progress.steps % (1 << 20) == 0 {
            eprintln!("{progress:?} {:?}", began.elapsed());
        }
    });
    let outcome = outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let ratio = |percent| outcome.against_bound(outcome.percentile(percent));
    println!(
        "{hosts}: p50 {} p99 {} max {} of the bound of {:?}; {} steps in {:?}; seed {} copies, first copy {:?}, wasted {}, fairness {}, hash {:x}",
        ratio(50),
        ratio(99),
        ratio(100),
        outcome.bound,
        outcome.steps,
        began.elapsed(),
        outcome.copies(outcome.seed_uploaded),
        outcome.first_copy_uploaded.map(|bytes| outcome.copies(bytes)),
        outcome.copies(outcome.wasted),
        outcome.fairness,
        outcome.trace_hash,
    );
}
