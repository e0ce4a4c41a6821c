//! The comparison harness, `perf/run`, on a very small image: what it says is not believed here, only that it runs to its
//! end and tells what it measured in every form.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ringtide_tests::content;
use ringtide_tests::process::Process;
use ringtide_tests::wait;
use rustix::process::Signal;
use serde_json::Value;

/// Small, once: a fetch by each of two clients, a seed, a seed and a leech of the same kind, and a yardstick.
const SIDES: &str = "leech/ringtide,leech/libtorrent,leech/floor: write,seed/ringtide,pair/ringtide";

fn perf_run(arguments: &[&str]) -> Output {
    let program = content::repository().join("perf/run");
    let mut command = Command::new(program);
    command.args(arguments).env("CARGO_TARGET_DIR", content::target_dir());
    command.output().expect("perf/run")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_small_comparison_tells_what_it_measured() {
    let dir = content::disk_dir();
    let (json, html) = (dir.path().join("told.json"), dir.path().join("told.html"));
    let files = ["--json", json.to_str().unwrap(), "--html", html.to_str().unwrap()];
    let output = perf_run(&[&["--size", "16MiB", "--rounds", "1", "--only", SIDES], &files[..]].concat());
    let (said, rows) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{rows}");

    let told: Value = serde_json::from_str(&read(&json)).expect("JSON");
    let page = read(&html);
    for side in SIDES.split(',') {
        let (pairing, side) = side.split_once('/').expect("a pairing and a side");
        let found = told["pairings"].as_array().expect("pairings").iter().find(|one| one["name"] == pairing);
        let spread = &found.expect("the pairing")["sides"][side]["spread"];
        for measure in ["gb_per_s", "wall_s", "cpu_s_per_gb", "context_switches"] {
            assert!(spread[measure]["median"].as_f64() > Some(0.0), "{pairing}/{side}: {measure}: {spread}");
        }
        // Looked at now and then: of what ends within milliseconds there may be nothing to tell.
        assert!(spread["peak_rss_bytes"]["median"].is_number(), "{pairing}/{side}: {spread}");
        for text in [said.as_ref(), rows.as_ref(), page.as_str()] {
            assert!(text.contains(side), "{side} is missing from {text}");
        }
    }
    let measured = told["targets"].as_array().expect("goals").iter().filter(|goal| goal["met"].is_boolean());
    assert!(measured.count() >= 3, "{}", told["targets"]);
    assert!(page.contains("<svg") && page.contains("</html>"), "{page}");
    assert!(
        !["<script", "<link", "src=", "@import"].iter().any(|word| page.contains(word)),
        "needs other files"
    );
}

#[test]
fn a_client_that_fails_is_told_in_its_row() {
    let output = perf_run(&[
        "--size",
        "16MiB",
        "--rounds",
        "1",
        "--only",
        "leech/libtorrent",
        "--set",
        "no_such_setting=1",
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "only ringtide's failures are its own: {said}");
    assert!(said.contains("failed: ") && said.contains("no_such_setting"), "{said}");
}

#[test]
fn a_run_that_is_stopped_tells_what_it_measured() {
    let dir = content::disk_dir();
    let json = dir.path().join("told.json");
    let mut command = Command::new(content::repository().join("perf/run"));
    command.args(["--size", "16MiB", "--rounds", "1000000", "--only", "leech/ringtide", "--json"]).arg(&json);
    command.env("CARGO_TARGET_DIR", content::target_dir());
    let mut run = Process::spawn(command, "perf-run", dir.path());
    wait::until("two runs", || {
        run.expect_running();
        run.stderr().matches("CPU s/GB").count() >= 2
    });
    run.signal(Signal::TERM);
    assert_eq!(run.wait().code(), Some(143), "{}", run.stderr());
    let told: Value = serde_json::from_str(&read(&json)).expect("JSON");
    let runs = told["pairings"][0]["sides"]["ringtide"]["runs"].as_array().expect("runs");
    assert!(runs.len() >= 2 && told["stopped"] == true, "{told}");
    assert!(run.stdout().contains("measured until then"), "{}", run.stdout());
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_is_measured() {
    let output = perf_run(&["--only", "leech/ringtide", "--json", "/nonexistent/told.json"]);
    assert_eq!(output.status.code(), Some(1));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.contains("cannot write /nonexistent/told.json"), "{complaints}");
}

#[test]
fn what_does_not_exist_is_a_usage_error() {
    for arguments in [&["--size", "17MiB"][..], &["--only", "leech/nobody"]] {
        assert_eq!(perf_run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
