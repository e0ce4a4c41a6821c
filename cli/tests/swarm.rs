//! `ringtide get`, `seed` and `bench`: the whole program over loopback.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Sandbox, ended, fixture, noise};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A command that runs until it is told otherwise.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("can be started");
        let stdout = child.stdout.take().expect("is piped");
        Self { child, lines: BufReader::new(stdout).lines() }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("another line").expect("is UTF-8")
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("is JSON")
    }

    /// Its exit code and what it said on stderr.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), signal).expect("runs");
        let mut said = String::new();
        self.child.stderr.take().expect("is piped").read_to_string(&mut said).expect("is UTF-8");
        (self.child.wait().expect("can be waited for").code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No effect on one that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A tree of odd sizes, its torrent, and a seed of it.
fn seeded(more: &[&str]) -> (Sandbox, Running, Value) {
    let sandbox = Sandbox::new();
    for (index, len) in [0, 1, 16_383, 70_000, 1_000_003].into_iter().enumerate() {
        sandbox.write(&format!("from/tree/{index}"), noise(len, index as u64));
    }
    sandbox.succeed(["create", "from/tree", "--piece-length", "16KiB"]);
    let words = ["seed", "tree.torrent", "-d", "from", "--listen", "127.0.0.1:0", "--json"];
    let mut seed = Running::start(sandbox.command(words.iter().chain(more)));
    let event = seed.json();
    assert_eq!(event["event"], "seeding");
    (sandbox, seed, event)
}

fn assert_same(sandbox: &Sandbox, to: &str) {
    let words = ["verify", "tree.torrent", to];
    sandbox.succeed(words);
    for index in 0..5 {
        let read = |dir: &str| std::fs::read(sandbox.path(format!("{dir}/tree/{index}"))).expect("is there");
        assert!(read("from") == read(to), "file {index}");
    }
}

#[test]
fn a_tree_is_found_through_the_seeds_tracker() {
    let (sandbox, mut seed, event) = seeded(&["--track", "127.0.0.1:0"]);
    let checked = seed.json();
    assert_eq!((&checked["event"], &checked["good"]), (&json!("checked"), &checked["pieces"]));
    let tracker = event["tracker"].as_str().expect("a URL").to_owned();
    // The same content with the tracker in it is the same torrent.
    sandbox.succeed([
        "create",
        "from/tree",
        "--piece-length",
        "16KiB",
        "-a",
        &tracker,
        "-o",
        "tracked.torrent",
    ]);
    let got = sandbox.succeed(["get", "tracked.torrent", "-o", "to", "--json", "--listen", "127.0.0.1:0"]);
    assert_same(&sandbox, "to");
    let summary = got.json();
    assert_eq!((&summary["bytes"], &summary["complete"]), (&json!(1_086_387), &json!(true)));
    assert_eq!((&summary["banned"], &summary["hash_failures"]), (&json!(0), &json!(0)));
    let sum: u64 = summary["shards"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["downloaded"].as_u64())
        .sum();
    assert_eq!(summary["downloaded"], json!(sum));
    let (code, said) = seed.end(Signal::TERM);
    assert_eq!(code, Some(143), "{said}");
}

#[test]
fn a_torrent_may_come_from_the_web_and_be_named_twice() {
    let (sandbox, seed, event) = seeded(&[]);
    let torrent = std::fs::read(sandbox.path("tree.torrent")).expect("is there");
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/tree.torrent", server.local_addr().expect("is bound"));
    let served = std::thread::spawn(move || {
        let (mut peer, _) = server.accept().expect("a request");
        let mut request = BufReader::new(peer.try_clone().expect("can be cloned")).lines();
        while request.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", torrent.len());
        peer.write_all(&[head.as_bytes(), &torrent].concat()).expect("is read");
    });
    let listen = event["listen"][0].as_str().expect("an address").to_owned();
    let got = sandbox.succeed(["get", &url, "tree.torrent", "-o", "to", "--peer", &listen]);
    served.join().expect("was asked");
    assert_same(&sandbox, "to");
    assert!(got.text().contains("tree: complete, 1.09 MB\nreceived 1.09 MB in "), "{}", got.text());
    let (code, said) = seed.end(Signal::INT);
    assert_eq!(code, Some(130), "{said}");
}

/// The fourth file has pieces 1 to 5, the last of them together with the fifth.
#[test]
fn selected_files_are_fetched_and_more_later() {
    let (sandbox, seed, event) = seeded(&[]);
    let listen = event["listen"][0].as_str().expect("an address").to_owned();
    let get = |more: &[&str]| {
        let words = ["get", "tree.torrent", "-o", "to", "--listen", "127.0.0.1:0", "--peer", &listen];
        [&words[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (exit, words, why) in [
        (2, &["--files", "0"][..], "1,3-5 or 7-"),
        (2, &["--files", "1", "tree.torrent"], "one torrent"),
        (3, &["--files", "4,6"], "no file 6 in tree, which has 5 files"),
        (3, &["--skip", "*.iso"], "no file of tree is called \"*.iso\""),
        (3, &["--files", "4", "--skip", "3-"], "no file of tree is left"),
    ] {
        let said = sandbox.fail(exit, get(words));
        assert!(said.contains(why), "{words:?}: {said}");
        assert!(!sandbox.path("to").exists(), "nothing is made: {words:?}");
    }
    let got = sandbox.succeed(get(&["--files", "4", "--json"])).json();
    assert_eq!((&got["bytes"], &got["complete"]), (&json!(81_920), &json!(true)));
    let torrent = &got["torrents"][0];
    assert_eq!(
        (&torrent["pieces"], &torrent["have"], &torrent["complete"]),
        (&json!(5), &json!(5), &json!(true))
    );
    assert_eq!((&torrent["files"], &torrent["selected_files"]), (&json!(5), &json!(1)));
    let bytes = |dir: &str, name: &str| std::fs::read(sandbox.path(format!("{dir}/tree/{name}"))).ok();
    assert_eq!(bytes("to", "3"), bytes("from", "3"));
    assert_eq!([0, 1, 2].map(|name| bytes("to", &name.to_string())), [None, None, None]);
    assert_eq!(bytes("to", "4").map(|kept| kept.len()), Some(11_920), "what shares the last piece");
    let verified = sandbox.run(["verify", "tree.torrent", "to", "--json"]);
    assert_eq!(verified.code, Some(4), "all files count");
    assert_eq!(verified.json()["missing_files"], json!(["tree/0", "tree/1", "tree/2"]));
    let again = sandbox.succeed(get(&["--files", "tree/3"]));
    assert!(
        again.text().starts_with("tree: 1 of 5 files, complete, 81.9 kB\nreceived 0 B"),
        "{}",
        again.text()
    );
    let more = sandbox.succeed(get(&["--skip", "4", "--first", "5", "--json"])).json();
    assert_eq!((&more["torrents"][0]["selected_files"], &more["complete"]), (&json!(4), &json!(true)));
    assert!(more["downloaded"].as_u64() < Some(1_086_387 - 4 * 16_384 + 16_384), "{more}");
    assert_same(&sandbox, "to");
    let (code, said) = seed.end(Signal::INT);
    assert_eq!(code, Some(130), "{said}");
}

/// The first seed has one of two selected files, so that the download is in its middle for as long as it takes.
#[test]
fn a_killed_download_of_selected_files_goes_on() {
    let (sandbox, seed, event) = seeded(&[]);
    sandbox.write("part/tree/4", std::fs::read(sandbox.path("from/tree/4")).expect("is there"));
    let words = ["seed", "tree.torrent", "-d", "part", "--listen", "127.0.0.1:0", "--json"];
    let mut poor = Running::start(sandbox.command(words));
    let from = |event: &Value| event["listen"][0].as_str().expect("an address").to_owned();
    let get = |peer: String| {
        let words =
            ["get", "tree.torrent", "-o", "to", "--listen", "127.0.0.1:0", "--files", "4-5", "--json"];
        sandbox.command(words.map(str::to_owned).into_iter().chain(["--peer".to_owned(), peer]))
    };
    let killed = Running::start(get(from(&poor.json())));
    // Pieces 6 to 66 are the one file's alone.
    let verified = || {
        let found = sandbox.run(["verify", "tree.torrent", "to", "--json"]);
        serde_json::from_slice::<Value>(&found.stdout).ok().and_then(|found| found["good"].as_u64())
    };
    let begun = Instant::now();
    while verified().is_none_or(|good| good < 61) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", verified());
    }
    let (code, _) = killed.end(Signal::KILL);
    assert_eq!(code, None, "killed");
    let got = ended(get(from(&event)));
    assert_eq!(got.code, Some(0), "{got:?}");
    let summary = got.json();
    // Five pieces were missing; in the endgame some blocks may come twice.
    let fetched = summary["downloaded"].as_u64().zip(summary["wasted"].as_u64());
    assert_eq!(fetched.map(|(all, wasted)| all - wasted), Some(5 * 16_384), "{summary}");
    for name in ["3", "4"] {
        let read = |dir: &str| std::fs::read(sandbox.path(format!("{dir}/tree/{name}"))).expect("is there");
        assert!(read("from") == read("to"), "{name}");
    }
    drop((seed, poor));
}

#[test]
fn stopped_while_it_waits_it_says_how_to_go_on() {
    let sandbox = Sandbox::new();
    sandbox.write("image", noise(100_000, 1));
    sandbox.succeed(["create", "image"]);
    let words = ["get", "image.torrent", "-o", "to", "--listen", "127.0.0.1:0", "--json"];
    let mut get = sandbox.command(words);
    get.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = get.spawn().expect("can be started");
    let mut said = BufReader::new(child.stderr.take().expect("is piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("is UTF-8");
    assert!(line.contains("no tracker and no --peer"), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).expect("runs");
    said.read_to_string(&mut line).expect("is UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{line}");
    assert!(line.contains("stopped with 0.0 % done; run the same command to continue"), "{line}");
}

#[test]
fn a_deadline_has_a_code_of_its_own_and_a_summary() {
    let sandbox = Sandbox::new();
    sandbox.write("image", noise(100_000, 1));
    sandbox.succeed(["create", "image"]);
    let words =
        ["get", "image.torrent", "-o", "to", "--listen", "127.0.0.1:0", "--json", "--deadline", "100ms"];
    let ended = sandbox.run(words);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("the deadline of 0.1s passed with 0.0 % done"), "{}", ended.stderr);
    assert_eq!((&ended.json()["complete"], &ended.json()["bytes"]), (&json!(false), &json!(0)));
}

#[test]
fn what_is_there_needs_nobody() {
    let sandbox = Sandbox::new();
    sandbox.write("to/image", noise(1_000_000, 1));
    sandbox.succeed(["create", "to/image"]);
    for io in ["auto", "epoll"] {
        let got = sandbox.succeed(["get", "image.torrent", "-o", "to", "--json", "--io", io]);
        assert_eq!((&got.json()["bytes"], &got.json()["downloaded"]), (&json!(1_000_000), &json!(0)));
    }
}

#[test]
fn what_cannot_be_downloaded_is_explained_before_anything_starts() {
    let sandbox = Sandbox::new();
    let link = format!("magnet:?xt=urn:btih:{}", "0".repeat(40));
    assert!(sandbox.fail(3, ["get", &link, "-o", "to"]).contains("use the .torrent"));
    let v2 = fixture("v2_only.torrent");
    let said = sandbox.fail(3, ["get".as_ref(), v2.as_os_str(), "-o".as_ref(), "to".as_ref()]);
    assert!(said.contains("v2_only.torrent") && said.contains("v2-only"), "{said}");
    for (dir, content) in [("a", "one"), ("b", "two")] {
        sandbox.write(&format!("{dir}/same"), content);
        sandbox.succeed(["create", &format!("{dir}/same"), "-o", &format!("{dir}.torrent")]);
    }
    assert!(sandbox.fail(3, ["get", "a.torrent", "b.torrent", "-o", "to"]).contains("\"same\""));
    let busy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = busy.local_addr().expect("is bound").to_string();
    let said = sandbox.fail(5, ["get", "a.torrent", "-o", "to", "--listen", &addr]);
    assert!(said.contains(&addr) && said.contains("choose another port"), "{said}");
    assert!(!sandbox.path("to").exists(), "nothing was started");
}

#[test]
fn a_seed_of_nothing_does_not_go_unnoticed() {
    let sandbox = Sandbox::new();
    sandbox.write("image", "content");
    sandbox.succeed(["create", "image"]);
    sandbox.write("else/image", "garbage");
    let said = sandbox.fail(3, ["seed", "image.torrent", "-d", "else", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("nothing of the content is in \"else\""), "{said}");
    sandbox.fail(3, ["seed", "image.torrent", "-d", "gone", "--listen", "127.0.0.1:0"]);
}

#[test]
fn the_bench_reports_every_number_and_leaves_nothing() {
    for io in ["auto", "epoll"] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.command(["bench", "loopback", "--size", "4MiB", "--json", "--io", io]);
        command.env("TMPDIR", sandbox.path(""));
        let ended = ended(command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let report = ended.json();
        assert_eq!(report["bytes"], json!(4 << 20));
        for number in ["wall_s", "gb_per_s", "leech_cpu_s", "seed_cpu_s"] {
            assert!(report[number].is_f64(), "{number} in {report}");
        }
        let io = &report["parameters"]["io"];
        assert!(io == "uring" || io == "epoll", "{report}");
        let place =
            ended.stderr.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()).expect("says where");
        assert!(place.contains("ringtide-bench-") && !std::path::Path::new(place).exists(), "{place}");
    }
}

/// Speeds are not judged, but there is one for every kernel, algorithm, memory and number of messages.
#[test]
fn the_hash_bench_has_a_row_for_everything() {
    let sandbox = Sandbox::new();
    let ended = ended(sandbox.command(["bench", "hash", "--size", "32MiB", "--message", "1KiB", "--json"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report = ended.json();
    let rows = report["rows"].as_array().expect("rows");
    for kernel in ["crate", "scalar", "auto"] {
        for (algorithm, memory) in [("sha1", "l2"), ("sha1", "l3"), ("sha1", "dram"), ("sha256", "dram")] {
            for messages in [1, 2, 4, 8, 16, 32] {
                let is_it = |row: &&Value| {
                    row["kernel"] == kernel
                        && row["algorithm"] == algorithm
                        && row["memory"] == memory
                        && row["messages"] == messages
                };
                let found: Vec<_> = rows.iter().filter(is_it).collect();
                assert_eq!(found.len(), 1, "{kernel} {algorithm} {memory} {messages}");
                assert!(
                    found[0]["bytes"] == 1024 && found[0]["gb_per_s"].as_f64() > Some(0.0),
                    "{}",
                    found[0]
                );
            }
        }
    }
    assert!(report["choice"].as_str().is_some_and(|choice| choice.starts_with("sha1 1: ")), "{report}");
}

#[test]
fn a_bench_that_is_stopped_leaves_nothing() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["bench", "loopback", "--size", "64MiB"]);
    command.env("TMPDIR", sandbox.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("can be started");
    let mut said = BufReader::new(child.stderr.take().expect("is piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("is UTF-8");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("runs");
    said.read_to_string(&mut line).expect("is UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(143), "{line}");
    assert!(line.contains("stopped; the files are removed"), "{line}");
    let place = line.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()).expect("says where");
    assert!(place.contains("ringtide-bench-") && !std::path::Path::new(place).exists(), "{place}");
}
