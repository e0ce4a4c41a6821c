//! perf/link, tiny: ringtide and the yardsticks cross a shaped link and a relay. It mounts and shapes, so only root can
//! run it. How fast they are is not looked at, but for what no speed can change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ringtide_tests::content::{self, MIB};
use ringtide_tests::ringtide;
use serde_json::Value;

const IMAGE_LEN: u64 = 32 * MIB;

/// Where `cargo build -p ringtide-perf` puts the yardsticks.
fn yardsticks() -> PathBuf {
    let dir = content::target_dir().join("debug");
    for name in ["bare_seed", "bare_leech", "relay"] {
        let program = dir.join(name);
        assert!(program.exists(), "{} is missing: run cargo build -p ringtide-perf first", program.display());
    }
    dir
}

/// Without iperf3, which may have to be installed. Its scratch files go below `scratch`.
fn link(programs: &Path, scratch: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(content::repository().join("perf/link"));
    command.args(["--no-build", "--json", "--only", "ringtide,bare", "--rounds", "1", "--size", "32MiB"]);
    command.arg("--ringtide").arg(ringtide::binary().canonicalize().expect("the binary"));
    command.arg("--programs").arg(programs).args(arguments).env("TMPDIR", scratch);
    command.output().expect("perf/link is executable")
}

#[test]
fn an_image_crosses_a_shaped_link_and_a_relay() {
    let scratch = tempfile::tempdir().expect("a directory");
    let output = link(&yardsticks(), scratch.path(), &["--rate", "1gbit", "--delay", "4"]);
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let runs = told["runs"].as_array().expect("runs");
    let mut sides: Vec<_> = runs.iter().map(|run| run["side"].as_str().expect("a side")).collect();
    sides.sort_unstable();
    assert_eq!(sides, ["bare", "ringtide"]);
    for run in runs {
        assert_eq!(run["bytes"].as_u64(), Some(IMAGE_LEN));
        let gb_per_s = run["gb_per_s"].as_f64().expect("a rate");
        // 0.125 GB/s, and a burst of 1 MB that passes at once.
        assert!(gb_per_s > 0.0 && gb_per_s < 0.13, "the link carries no {gb_per_s} GB/s");
        for end in ["seed_cpu_s", "leech_cpu_s", "relay_cpu_s"] {
            assert!(run[end].as_f64().is_some_and(|seconds| seconds > 0.0), "{end}: {run}");
        }
    }
}

/// The programs that run from a directory.
fn running_from(dir: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
    let programs = processes.filter_map(|process| fs::read_link(process.path().join("exe")).ok());
    programs.filter(|program| program.starts_with(dir)).collect()
}

#[test]
fn a_leech_that_fails_is_told_and_nothing_stays() {
    let (programs, scratch) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    fs::copy(yardsticks().join("bare_seed"), programs.path().join("bare_seed")).expect("room");
    symlink("/bin/false", programs.path().join("bare_leech")).expect("room");
    let output = link(programs.path(), scratch.path(), &[]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaints}");
    assert!(complaints.contains("ended with 1"), "{complaints}");
    let left = running_from(programs.path());
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(fs::read_dir(scratch.path()).expect("is there").count(), 0, "scratch files");
}

#[test]
fn a_program_that_is_missing_is_named() {
    let scratch = tempfile::tempdir().expect("a directory");
    let output = link(Path::new("/nonexistent"), scratch.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.contains("/nonexistent/bare_seed is missing"), "{complaints}");
}
