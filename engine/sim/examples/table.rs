//! Plays crowds and prints a line for each: `cargo run --release -p ringtide-sim --example table -- crowd-10 crowd-100`.
//!
//! Without a name, lists them. `hosts=N`, `pieces=N`, `blocks=N` and `rng=N` change all that follow; `-RULE` leaves a rule out
//! of the next, such as `-endgame`.

use std::ops::ControlFlow;
use std::time::Instant;

use ringtide_proto::torrent::{Rule, Rules};
use ringtide_sim::{Crowd, HEADER, NAMED, Outcome, row, watch};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        NAMED.iter().for_each(|(name, what)| println!("{name:18} {what}"));
        return;
    }
    println!("{HEADER}      steps    took  trace");
    let mut changes: Vec<(String, u64)> = Vec::new();
    let mut rules = Rules::ALL;
    for arg in args {
        match (arg.split_once('='), arg.strip_prefix('-')) {
            (Some((what, number)), _) => changes.push((what.to_owned(), number.parse().expect("a number"))),
            (None, Some(rule)) => {
                rules =
                    rules.without(Rule::named(rule).unwrap_or_else(|| panic!("no rule is called {rule}")));
            }
            (None, None) => play(&arg, std::mem::take(&mut rules), &changes),
        }
    }
}

fn play(name: &str, rules: Rules, changes: &[(String, u64)]) {
    let mut crowd = Crowd::named(name).unwrap_or_else(|| panic!("no crowd is called {name}"));
    crowd.policy.rules = rules;
    for (what, number) in changes {
        match what.as_str() {
            "hosts" => crowd.hosts = *number as usize,
            "pieces" => crowd.pieces = *number as u32,
            "blocks" => crowd.blocks = *number as u32,
            "racks" => crowd.racks = *number as u8,
            "link" => crowd.rack_link = Some(*number),
            "rng" => crowd.rng_seed = *number,
            _ => panic!("{what} cannot be changed"),
        }
    }
    let began = Instant::now();
    let outcome = watch(&crowd.scenario().expect("few pieces"), &mut |progress| {
        if progress.steps.is_multiple_of(1 << 20) {
            let (now, done, real) = (progress.now.as_secs(), progress.done / 10, began.elapsed().as_secs());
            eprint!("{name}: {now} s, {done} %, {} million steps in {real} s   \r", progress.steps >> 20);
        }
        ControlFlow::Continue(())
    });
    match outcome {
        Ok(outcome) => print(name, &outcome, began),
        Err(failure) => println!("{name:18} {failure:.200}"),
    }
}

fn print(name: &str, outcome: &Outcome, began: Instant) {
    let (row, took) = (row(name, outcome), began.elapsed().as_secs());
    println!("{row} {:>10} {took:>6}s  {:016x}", outcome.steps, outcome.trace_hash);
}
