//! `ringtide bench swarm` as its user meets it: what it reports, what it refuses, and that it leaves nothing behind. Speeds
//! are not judged.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use common::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("place")).expect("is made");
    sandbox
}

/// What is left in the directory.
fn left(sandbox: &Sandbox) -> usize {
    fs::read_dir(sandbox.path("place")).expect("is there").count()
}

#[test]
fn every_leech_gets_a_copy_and_nothing_is_left() {
    let sandbox = sandbox();
    let words = ["bench", "swarm", "3", "--size", "8MiB", "--piece-length", "64KiB", "--memory-dir", "place"];
    let first = sandbox.succeed(words.iter().chain(&["--json", "--shards", "1"]));
    let report = first.json();
    assert_eq!((&report["format"], &report["bench"]), (&json!("ringtide-bench"), &json!("swarm")));
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    for key in ["gb_per_s", "cpu_s_per_gb", "leech_cpu_s_per_gb", "efficiency"] {
        assert!(number(key) > 0.0, "{key} in {report}");
    }
    assert_eq!((&report["bytes"], &report["hosts_complete"]), (&json!(3 * (8 << 20)), &json!(3)));
    let times = ["first_complete_s", "median_complete_s", "last_complete_s"].map(number);
    assert!(times.is_sorted() && times[0] > 0.0, "{report}");
    let hosts = report["hosts"].as_array().expect("hosts");
    assert!(hosts.len() == 3 && hosts.iter().all(|host| host["bytes"] == json!(8 << 20)), "{report}");
    // What the leeches did not get from each other the seed gave; in the endgame a block may come twice.
    let given = |host: &Value| host["uploaded"].as_u64().expect("a number") as f64;
    let all = number("seed_copies") * f64::from(8 << 20) + hosts.iter().map(given).sum::<f64>();
    assert!(number("seed_copies") >= 1.0 && all >= f64::from(3 * (8 << 20)), "{report}");
    assert!(report["verdict"]["bottleneck"].is_string(), "{report}");
    assert_eq!(left(&sandbox), 0);

    sandbox.write("old.json", &first.stdout);
    let second = sandbox.succeed(words.iter().chain(&["--compare", "old.json", "--html", "page.html"]));
    for part in ["complete  3 of 3: first ", "seed      gave ", "verdict   ", "seed_copies"] {
        assert!(second.text().contains(part), "{part:?} is not in {}", second.text());
    }
    assert!(second.text().lines().all(|line| line.chars().count() <= 80), "{}", second.text());
    assert!(fs::read_to_string(sandbox.path("page.html")).expect("a page").contains("ringtide bench swarm"));
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn a_stopped_swarm_leaves_nothing() {
    let sandbox = sandbox();
    // Slow enough to be stopped: small pieces, one shard.
    let words = ["bench", "swarm", "2", "--size", "256MiB", "--piece-length", "16KiB", "--shards", "1"];
    let mut command = sandbox.command(words.iter().chain(&["--memory-dir", "place"]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("can be started");
    let mut notes = BufReader::new(child.stderr.take().expect("is piped")).lines().map_while(Result::ok);
    assert!(notes.by_ref().any(|line| line == "2 leeches to fetch it"));
    kill_process(Pid::from_child(&child), Signal::INT).expect("runs");
    let last = notes.last();
    let mut text = String::new();
    child.stdout.take().expect("is piped").read_to_string(&mut text).expect("is UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{text}");
    assert!(last.is_some_and(|line| line.contains("the files are removed")), "{text}");
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn what_makes_no_swarm_is_named_before_anything_is_made() {
    let sandbox = sandbox();
    for (code, words, said) in [
        (2, &["0"][..], "1..=64"),
        (2, &["65"], "1..=64"),
        (2, &[], "<N>"),
        (7, &["64", "--size", "1000000GiB", "--memory-dir", "place"], "its 64 copies do not fit"),
        (7, &["2", "--size", "1000000GiB"], "set TMPDIR to a place with more room"),
        (3, &["2", "--size", "1MiB", "--memory-dir", "gone"], "check the path"),
    ] {
        let stderr = sandbox.fail(code, ["bench", "swarm"].iter().chain(words));
        assert!(stderr.contains(said) && !stderr.contains("an image of 1 MiB"), "{words:?}: {stderr}");
    }
    assert_eq!(left(&sandbox), 0);
}
