//! Fresh swarms of every run, and those that once went wrong.
//!
//! `RINGTIDE_SEEDS=N` plays N fresh swarms (200 by default); `RINGTIDE_SEED=S` plays that one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringtide_sim::{Scenario, run};

/// What went wrong with the seed, if anything.
fn complaint(seed: u64) -> Option<String> {
    let scenario = Scenario::random(seed);
    match catch_unwind(AssertUnwindSafe(|| run(&scenario))) {
        Ok(Ok(_)) => None,
        Ok(Err(failure)) => Some(failure.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(text.unwrap_or_default())
        }
    }
}

fn number_from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn fresh_seeds() -> Vec<u64> {
    if let Some(seed) = number_from_env("RINGTIDE_SEED") {
        return vec![seed];
    }
    let count = number_from_env("RINGTIDE_SEEDS").unwrap_or(200);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let base = since.map_or(0, |since| since.as_micros() as u64);
    (0..count).map(|n| base.wrapping_add(n)).collect()
}

#[test]
fn fresh_swarms_go_well() {
    let mut bad = Vec::new();
    for seed in fresh_seeds() {
        if let Some(what) = complaint(seed) {
            eprintln!("RINGTIDE_SEED={seed} cargo test -p ringtide-sim --test seeds fresh\n    {what}");
            bad.push(seed);
        }
    }
    assert!(bad.is_empty(), "{} swarms went wrong, see above", bad.len());
}

#[test]
fn the_same_seed_gives_the_same_swarm() {
    for seed in 1..6 {
        let (first, second) = (run(&Scenario::random(seed)), run(&Scenario::random(seed)));
        assert_eq!(first, second);
        assert_ne!(
            first.map(|outcome| outcome.trace_hash),
            run(&Scenario::random(seed + 100)).map(|o| o.trace_hash)
        );
    }
}
