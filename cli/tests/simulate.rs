//! `ringtide simulate`: what it answers, that it answers the same each time, and what it refuses.

mod common;

use common::Sandbox;
use serde_json::Value;

const SMALL: [&str; 11] =
    ["simulate", "--size", "1GiB", "--hosts", "12", "--link", "1Gbit", "--pieces", "150", "--seeds", "1"];

fn answer(sandbox: &Sandbox, more: &[&str]) -> Value {
    sandbox.succeed(SMALL.iter().chain(&["--json"]).chain(more)).json()
}

#[test]
fn the_same_question_gets_the_same_answer_in_another_process() {
    let sandbox = Sandbox::new();
    let [first, again, other] =
        ["7", "7", "8"].map(|seed| answer(&sandbox, &["--rng-seed", seed, "--poisoners", "0.1"]));
    assert_eq!(first, again);
    assert_ne!(first["trace_hash"], other["trace_hash"]);
    assert_eq!((first["rng_seed"].as_u64(), other["rng_seed"].as_u64()), (Some(7), Some(8)));
}

#[test]
fn the_answer_has_its_keys_and_makes_sense() {
    let json = answer(&Sandbox::new(), &[]);
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key} in {json}"));
    // 1 GiB over a link of 1 Gbit/s.
    assert!((number("bound_s") - 8.589_934).abs() < 0.001, "{json}");
    let times = ["bound_s", "p50_s", "p99_s", "last_s"].map(number);
    assert!(times.is_sorted() && times[3] < 3.0 * times[0], "{json}");
    assert!(number("seed_copies") >= 1.0 && number("seed_copies") < 12.0, "{json}");
    assert!(number("duplicate_bytes") < 12e9, "{json}");
    assert_eq!((number("pieces"), number("honest_hosts")), (150.0, 12.0));
    assert_eq!(json["trace_hash"].as_str().map(str::len), Some(16), "{json}");
}

#[test]
fn the_text_says_the_same() {
    let sandbox = Sandbox::new();
    let json = answer(&sandbox, &[]);
    let text = sandbox.succeed(SMALL).text().to_owned();
    for words in [
        "the last is done",
        "of the bound",
        "copies",
        "--rng-seed 1",
        json["trace_hash"].as_str().expect("text"),
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn villains_do_not_count_as_hosts() {
    let json = answer(&Sandbox::new(), &["--free-riders", "0.25", "--poisoners", "0.25"]);
    assert_eq!(json["honest_hosts"], 6);
}

#[test]
fn a_rule_that_is_left_out_shows_what_it_is_worth() {
    let last = |more: &[&str]| answer(&Sandbox::new(), more)["last_s"].as_f64().expect("a number");
    let all = last(&[]);
    // Nobody has a slot before the first round, ten seconds after the start.
    assert!(last(&["--without", "free-slots", "--without", "random-first"]) > all + 9.0);
}

#[test]
fn nonsense_is_refused_with_what_would_make_sense() {
    let sandbox = Sandbox::new();
    let refused = |more: &[&str], advice: &str| {
        let base = ["simulate", "--size", "1GiB", "--hosts", "10"];
        let said = sandbox.fail(2, base.iter().chain(more));
        assert!(said.contains(advice), "{more:?}: {said}");
    };
    refused(&["--seeds", "0"], "1..=1000");
    refused(&["--free-riders", "1.5"], "0 to 1");
    refused(&["--poisoners=-1"], "0 to 1");
    refused(&["--free-riders", "0.5", "--poisoners", "0.5"], "less than 1");
    refused(&["--link", "fast"], "10Gbit");
    refused(&["--policy", "best"], "rarest");
    refused(&["--without", "luck"], "tit-for-tat");
    refused(&["--pieces", "0"], "1..=100000");
    refused(&["--latency", "1h"], "10s");
    let said = |words: [&str; 5]| sandbox.fail(2, words);
    assert!(said(["simulate", "--size", "1GiB", "--hosts", "0"]).contains("1..=20000"));
    assert!(said(["simulate", "--size", "0", "--hosts", "1"]).contains("at least one byte"));
    assert!(said(["simulate", "--size", "16EiB", "--hosts", "1"]).contains("size"));
    assert!(said(["simulate", "--size", "5TiB", "--hosts", "1"]).contains("4TiB"));
}
