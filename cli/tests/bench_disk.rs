//! `ringtide bench disk` as its user meets it: what it reports, what it refuses, and that it leaves nothing behind. Speeds
//! are not judged.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use common::Sandbox;

/// What is left in the directory.
fn left(sandbox: &Sandbox) -> usize {
    fs::read_dir(sandbox.path("disk")).expect("is there").count()
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("disk")).expect("is made");
    sandbox
}

#[test]
fn what_is_written_is_read_back_and_removed() {
    let sandbox = sandbox();
    let words = ["bench", "disk", "disk", "--size", "20MiB", "--piece-length", "256KiB", "--json"];
    for more in [&["--direct", "off"][..], &["--direct", "auto", "--io", "epoll"]] {
        let report = sandbox.succeed(words.iter().chain(more)).json();
        assert_eq!((&report["format"], &report["bench"]), (&json!("ringtide-bench"), &json!("disk")));
        for key in ["wall_s", "gb_per_s", "read_gb_per_s", "write_cpu_s_per_gb", "efficiency"] {
            assert!(report[key].as_f64() > Some(0.0), "{key} in {report}");
        }
        assert_eq!((&report["bytes"], &report["read_bytes"]), (&json!(20 << 20), &json!(20 << 20)));
        let (direct, cached) = (report["direct_bytes"].as_u64(), report["cached_bytes"].as_u64());
        assert_eq!(direct.zip(cached).map(|(direct, cached)| direct + cached), Some(20 << 20), "{report}");
        assert!(more[1] == "auto" || direct == Some(0), "{report}");
        assert_eq!(report["sides"][0]["distributions"]["write_us"]["count"], json!(80));
        assert!(report["verdict"]["bottleneck"].is_string(), "{report}");
        assert_eq!(left(&sandbox), 0);
    }
}

#[test]
fn it_can_be_repeated_compared_and_looked_at() {
    let sandbox = sandbox();
    let words = ["bench", "disk", "disk", "--size", "4MiB", "--time", "1s"];
    let first = sandbox.succeed(words.iter().chain(&["--json"]));
    let report = first.json();
    let rounds = report["parameters"]["rounds"].as_u64().expect("a number");
    assert!(rounds >= 1, "{report}");
    assert_eq!((&report["bytes"], &report["read_bytes"]), (&json!(rounds << 22), &json!(rounds << 22)));
    sandbox.write("old.json", &first.stdout);
    let second = sandbox.succeed(words.iter().chain(&["--compare", "old.json", "--html", "page.html"]));
    for part in ["wrote     ", "read      ", "verdict   ", "read_gb_per_s"] {
        assert!(second.text().contains(part), "{part:?} is not in {}", second.text());
    }
    assert!(second.text().lines().all(|line| line.chars().count() <= 80), "{}", second.text());
    assert!(fs::read_to_string(sandbox.path("page.html")).expect("a page").contains("ringtide bench disk"));
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn a_stopped_one_tells_what_there_is_and_leaves_nothing() {
    let sandbox = sandbox();
    // Again and again, so that there is a second to be stopped in.
    let words = ["bench", "disk", "disk", "--size", "256MiB", "--time", "1h"];
    let mut command = sandbox.command(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("can be started");
    let mut notes = BufReader::new(child.stderr.take().expect("is piped")).lines().map_while(Result::ok);
    // The second round fetches: of the first there is something to tell.
    let fetches = notes.by_ref().filter(|line| line.starts_with("fetching ")).take(2).count();
    assert_eq!(fetches, 2);
    kill_process(Pid::from_child(&child), Signal::INT).expect("runs");
    let last = notes.last();
    let mut text = String::new();
    child.stdout.take().expect("is piped").read_to_string(&mut text).expect("is UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{text}");
    assert!(text.contains("wrote     ") && text.contains("stopped: what there is"), "{text}");
    assert!(last.is_some_and(|line| line.contains("the files are removed")));
    assert_eq!(left(&sandbox), 0);
}

#[test]
fn what_cannot_be_written_to_is_named_before_anything_is() {
    let sandbox = sandbox();
    sandbox.write("file", "x");
    for (code, words, said) in [
        (3, &["gone"][..], "check the path"),
        (3, &["file"], "is no directory"),
        (7, &["disk", "--size", "100000GiB", "--piece-length", "64MiB"], "do not fit in"),
        (2, &["disk", "--size", "1000GiB", "--piece-length", "16KiB"], "larger --piece-length"),
        (2, &["disk", "--piece-length", "auto"], "a power of two"),
        (2, &["disk", "--time", "0s"], "longer than nothing"),
        (2, &[], "<DIR>"),
        (3, &["disk", "--compare", "file"], "is no JSON"),
    ] {
        let stderr = sandbox.fail(code, ["bench", "disk"].iter().chain(words));
        assert!(stderr.contains(said) && !stderr.contains("writing"), "{words:?}: {stderr}");
    }
    assert_eq!(left(&sandbox), 0);
    // Nobody, root included, makes directories there.
    let stderr = sandbox.fail(8, ["bench", "disk", "/sys", "--size", "1MiB"]);
    assert!(stderr.contains("cannot make a directory in \"/sys\""), "{stderr}");
}
