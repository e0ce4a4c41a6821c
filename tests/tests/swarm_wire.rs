//! perf/swarm, tiny: ringtide crosses shaped links between namespaces, against the bound that was measured on them. It
//! shapes and mounts, so only root can run it. How fast it is is not looked at, but for what no speed can change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use ringtide_tests::content::{self, MIB};
use ringtide_tests::ringtide;
use serde_json::Value;

const IMAGE_LEN: u64 = 32 * MIB;
const HOSTS: usize = 3;

/// Without other clients and iperf3, which may have to be installed. Its scratch files go below `scratch`.
fn swarm(program: &Path, scratch: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(content::repository().join("perf/swarm"));
    command.args(["--no-build", "--json", "--clients", "ringtide", "--goodput", "stream", "--seconds", "1"]);
    command.args(["--hosts", &HOSTS.to_string(), "--rounds", "1", "--size", "32MiB", "--rate", "100mbit"]);
    command.arg("--ringtide").arg(program).args(arguments).env("TMPDIR", scratch);
    command.output().expect("perf/swarm is executable")
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_image_reaches_all_hosts_over_shaped_links() {
    let scratch = tempfile::tempdir().expect("a directory");
    let binary = ringtide::binary().canonicalize().expect("the binary");
    let output = swarm(&binary, scratch.path(), &["--forecast"]);
    assert!(output.status.success(), "{}: {}", output.status, complaints(&output));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let number = |value: &Value| value.as_f64().expect("a number");
    // 12.5 MB/s, of which no stream gets more than the payload of its frames, but for a burst of 128 kB.
    for up in told["goodput"]["up"].as_array().expect("rates") {
        assert!(number(up) > 0.0 && number(up) < 12.8e6, "a link carries no {up} bytes per second");
    }
    let bound = number(&told["bound_s"]);
    assert!(bound > 2.5, "the links carry less than {IMAGE_LEN} bytes in {bound} s");
    let [run] = &told["runs"].as_array().expect("runs")[..] else { panic!("one run: {told}") };
    let times = run["times_s"].as_array().expect("times");
    assert_eq!(times.len(), HOSTS);
    for time in times {
        assert!(number(time) > 2.5, "a link carries no image in {time} s");
    }
    let last = times.iter().map(number).fold(0.0, f64::max);
    assert!(
        (number(&run["max_s"]) - last).abs() < 1e-9 && (number(&run["of_bound"]) - last / bound).abs() < 1e-9,
        "{run}"
    );
    // Every byte has left the seed, and not more than all hosts together fetched, with what was sent again.
    assert!((1.0..1.2 * HOSTS as f64).contains(&number(&run["seed_copies"])), "{run}");
    assert!(run["told_by_seed"]["uploaded"].as_u64().is_some_and(|bytes| bytes >= IMAGE_LEN), "{run}");
    for leech in run["told_by_leeches"].as_array().expect("leeches") {
        assert!(leech["downloaded"].as_u64().is_some_and(|bytes| bytes >= IMAGE_LEN), "{leech}");
    }
    let forecast = &told["forecast"]["told"];
    assert!(number(&forecast["last_s"]) >= number(&forecast["bound_s"]), "{forecast}");
    assert!(
        (number(&forecast["bound_s"]) / bound - 1.0).abs() < 0.02,
        "both of the same links: {forecast}, {bound}"
    );
    assert_eq!(fs::read_dir(scratch.path()).expect("is there").count(), 0, "scratch files");
}

#[test]
fn a_program_that_fails_is_told_and_nothing_stays() {
    let (programs, scratch) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let fails = programs.path().join("ringtide");
    symlink("/bin/false", &fails).expect("room");
    let output = swarm(&fails, scratch.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", complaints(&output));
    assert!(complaints(&output).contains("ringtide ended with 1"), "{}", complaints(&output));
    assert_eq!(fs::read_dir(scratch.path()).expect("is there").count(), 0, "scratch files");
}

#[test]
fn what_makes_no_sense_is_said() {
    let scratch = tempfile::tempdir().expect("a directory");
    for (arguments, reason) in [
        (&["--rate", "fast"][..], "write it like 200mbit"),
        (&["--clients", "ringtide,nobody"], "nobody: there are"),
        (&["--forecast", "--clients", "aria2"], "--forecast is for ringtide"),
    ] {
        let output = swarm(Path::new("/nonexistent"), scratch.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(complaints(&output).contains(reason), "{arguments:?}: {}", complaints(&output));
    }
    let output = swarm(Path::new("/nonexistent"), scratch.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaints(&output).contains("/nonexistent is not there"), "{}", complaints(&output));
}
