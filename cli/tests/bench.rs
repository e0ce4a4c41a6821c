//! `ringtide bench loopback` and `bench net` as their user meets them: reports, pages, comparisons, and what is refused.
//! Speeds are not judged.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use common::{Ended, Sandbox, ended};

/// Longer than anything here takes.
const HANG: Duration = Duration::from_secs(60);

/// `bench net --server` on a port of the kernel's choice, ended with the test.
struct Server {
    child: Child,
    addr: String,
    said: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn start(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let words = ["bench", "net", "--server", "--json", "--listen", "127.0.0.1:0"];
        let mut command = sandbox.command(words.iter().chain(arguments));
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("can be started");
        let mut said = BufReader::new(child.stdout.take().expect("is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("is UTF-8");
        let event: Value = serde_json::from_str(&line).expect("is JSON");
        let addr = event["listen"].as_str().expect("an address").to_owned();
        Self { child, addr, said }
    }

    /// Waits for its end; its exit code and the JSON that it printed since it listened.
    fn end(mut self) -> (Option<i32>, Vec<Value>) {
        let code = self.child.wait().expect("ends").code();
        let mut text = String::new();
        self.said.read_to_string(&mut text).expect("is UTF-8");
        (code, text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(sandbox: &Sandbox, server: &str, arguments: &[&str]) -> Ended {
    ended(sandbox.command(["bench", "net", "--client", server].iter().chain(arguments)))
}

/// What every report of a transfer has.
fn assert_report(report: &Value, bench: &str) {
    assert_eq!((&report["format"], &report["bench"]), (&json!("ringtide-bench"), &json!(bench)));
    for number in ["bytes", "wall_s", "gb_per_s", "bound_gb_per_s", "efficiency"] {
        assert!(report[number].as_f64().is_some_and(|number| number > 0.0), "{number} in {report}");
    }
    assert!(report["verdict"]["bottleneck"].is_string() && report["verdict"]["why"].is_string(), "{report}");
    let sides = report["sides"].as_array().expect("sides");
    let role = |role: &str| {
        sides.iter().find(|side| side["role"] == role).unwrap_or_else(|| panic!("a {role} in {report}"))
    };
    let (receiver, sender) = (role("receiver"), role("sender"));
    for side in [receiver, sender] {
        assert!(side["cpu_s"].as_f64() > Some(0.0) && side["host"]["io"].is_string(), "{side}");
        let threads = side["threads"].as_array().expect("threads");
        assert!(threads.iter().any(|thread| thread["name"] == "ringtide-0"), "{side}");
    }
    for distribution in ["request_to_block_us", "piece_us", "hash_wait_us", "hash_us", "requests_outstanding"]
    {
        let found = &receiver["distributions"][distribution];
        let ordered = ["p50", "p90", "p99", "p99_9", "max"].map(|key| found[key].as_u64().expect("a number"));
        assert!(ordered.is_sorted() && found["count"].as_u64() > Some(0), "{distribution}: {found}");
    }
}

#[test]
fn a_network_is_measured_with_nothing_prepared() {
    for (io, more) in [("auto", &["--peers", "3"][..]), ("epoll", &["--reverse", "--shards", "1"])] {
        let sandbox = Sandbox::new();
        let server = Server::start(&sandbox, &["--once", "--io", io]);
        let words = ["--size", "33MiB", "--piece-length", "256KiB", "--json", "--io", io];
        let client = client(&sandbox, &server.addr, &[&words[..], more].concat());
        assert_eq!(client.code, Some(0), "{client:?}");
        let report = client.json();
        assert_report(&report, "net");
        // In the endgame a block may come twice.
        assert!(report["bytes"].as_u64() >= Some(33 << 20), "{report}");
        let blocks = (33 << 20) / (16 << 10);
        let receiver = &report["sides"][0];
        assert_eq!(receiver["role"], "receiver");
        let counted = receiver["distributions"]["request_to_block_us"]["count"].as_u64().expect("a number");
        assert!((blocks..blocks * 3).contains(&counted), "{counted}");
        assert_eq!(receiver["distributions"]["piece_us"]["count"], json!(33 * 4));
        let (code, told) = server.end();
        assert_eq!((code, told.len()), (Some(0), 1));
        assert_eq!(told[0]["event"], "measured");
    }
}

#[test]
fn a_test_by_time_ends_by_itself_and_omits_its_beginning() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let ended = client(&sandbox, &server.addr, &["--time", "1s", "--omit", "100ms", "--html", "page.html"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.text().starts_with("[ ") && ended.text().contains("verdict   "), "{}", ended.text());
    assert!(ended.text().lines().all(|line| line.chars().count() <= 80), "{}", ended.text());
    let page = std::fs::read_to_string(sandbox.path("page.html")).expect("a page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
    // One server serves one client after the other.
    let again = client(&sandbox, &server.addr, &["--size", "1MiB", "--json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    server.signal(Signal::INT);
    assert_eq!(server.end().0, Some(130));
}

#[test]
fn a_stopped_client_tells_what_there_is_and_the_server_goes_on() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let mut command = sandbox.command(["bench", "net", "--time", "1h", "--client", &server.addr]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("can be started");
    let mut said = BufReader::new(child.stdout.take().expect("is piped"));
    let mut text = String::new();
    said.read_line(&mut text).expect("is UTF-8");
    assert!(text.starts_with("[ "), "an interval: {text}");
    let busy = client(&sandbox, &server.addr, &["--size", "1MiB"]);
    assert_eq!(busy.code, Some(5), "{busy:?}");
    assert!(busy.stderr.contains("busy with the test of another client"), "{}", busy.stderr);
    kill_process(Pid::from_child(&child), Signal::INT).expect("runs");
    said.read_to_string(&mut text).expect("is UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(130), "{text}");
    assert!(text.contains("verdict   ") && text.contains("request to block"), "{text}");
    assert_eq!(client(&sandbox, &server.addr, &["--size", "1MiB"]).code, Some(0));
}

#[test]
fn what_is_no_server_is_named() {
    let sandbox = Sandbox::new();
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let refused = client(&sandbox, &nobody.to_string(), &[]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("is ringtide bench net --server running there?"), "{}", refused.stderr);

    for (answer, said) in [
        ("HTTP/1.1 400 Bad Request\r\n", "is no ringtide bench net --server"),
        ("{\"refused\":{\"reason\":\"bench protocol 9\"}}\n", "bench protocol 9"),
        (
            "{\"ready\":{\"ringtide_bench_net\":99,\"version\":\"9.9.9\",\"ports\":[1],\"boot_id\":\"x\"}}\n",
            "the other end is ringtide 9.9.9 with bench protocol 99",
        ),
        (
            "{\"ready\":{\"ringtide_bench_net\":1,\"version\":\"0.1.0\",\"ports\":[22,25,80]}}\n",
            "the server offers 3 ports for the data and not 1",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepts");
            stream.write_all(answer.as_bytes()).expect("is sent");
            let _ = stream.read(&mut [0; 1000]);
        });
        let ended = client(&sandbox, &addr, &[]);
        assert!(matches!(ended.code, Some(3 | 5)) && ended.stderr.contains(said), "{ended:?}");
        server.join().expect("ends");
    }
}

#[test]
fn a_server_tells_strangers_why_not_and_goes_on() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let ask = |line: &str| {
        let mut stream = TcpStream::connect(&server.addr).expect("connects");
        stream.set_read_timeout(Some(HANG)).expect("is set");
        stream.write_all(line.as_bytes()).expect("is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("is answered");
        answer
    };
    assert!(ask("GET / HTTP/1.1\r\n\r\n").contains("bench net --client only"));
    assert!(
        ask("{\"ringtide_bench_net\":7,\"version\":\"0.0.7\"}\n")
            .contains("ringtide 0.0.7 with bench protocol 7")
    );
    let test = json!({ "size": 1, "piece_length": 5, "seed": 0, "connections": 1, "reverse": false });
    let hello = json!({ "ringtide_bench_net": 1, "version": "0.1.0", "test": test });
    assert!(ask(&format!("{hello}\n")).contains("no power of two"));
    assert_eq!(client(&sandbox, &server.addr, &["--size", "1MiB"]).code, Some(0));
}

#[test]
fn a_server_ends_as_it_is_asked_to_though_a_client_is_silent() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox, &[]);
    let silent = TcpStream::connect(&server.addr).expect("connects");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(143));
    drop(silent);
    let stderr = sandbox.fail(2, ["bench", "net", "--server", "--listen", "127.0.0.1:65535"]);
    assert!(stderr.contains("no 32 ports behind 65535"), "{stderr}");
}

#[test]
fn loopback_reports_compares_and_makes_a_page() {
    let sandbox = Sandbox::new();
    let bench = |more: &[&str]| {
        let words = ["bench", "loopback", "--size", "8MiB", "--json"];
        let mut command = sandbox.command(words.iter().chain(more));
        command.env("TMPDIR", sandbox.path(""));
        ended(command)
    };
    let first = bench(&["--peers", "2"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_report(&first.json(), "loopback");
    sandbox.write("old.json", &first.stdout);
    let second = bench(&["--compare", "old.json", "--html", "page.html"]);
    assert_eq!(second.code, Some(0), "{second:?}");
    let report = second.json();
    let rows = report["comparison"]["figures"].as_array().expect("figures");
    let row = |name: &str| {
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} in {report}"))
    };
    assert_eq!(row("bytes")["ratio"], json!(1.0));
    assert!(row("gb_per_s")["ratio"].is_f64() && row("gb_per_s")["beyond_10_percent"].is_boolean());
    row("receiver.request_to_block_us.p99");
    assert!(
        std::fs::read_to_string(sandbox.path("page.html"))
            .expect("a page")
            .contains("ringtide bench loopback")
    );
}

#[test]
fn a_stopped_loopback_tells_what_there_is() {
    let sandbox = Sandbox::new();
    // Slow enough to be stopped: small pieces, one shard.
    let words = ["bench", "loopback", "--size", "512MiB", "--piece-length", "16KiB", "--shards", "1"];
    let mut command = sandbox.command(words);
    command.env("TMPDIR", sandbox.path("")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("can be started");
    let mut said = BufReader::new(child.stdout.take().expect("is piped"));
    let mut text = String::new();
    said.read_line(&mut text).expect("is UTF-8");
    // An interval, unless it was over within a second.
    let stopped = text.starts_with('[');
    if stopped {
        kill_process(Pid::from_child(&child), Signal::INT).expect("runs");
    }
    said.read_to_string(&mut text).expect("is UTF-8");
    let code = child.wait().expect("ends").code();
    assert!(code == Some(130) && stopped || code == Some(0), "{code:?}: {text}");
    assert!(text.contains("verdict   ") && text.contains("moved     "), "{text}");
}

#[test]
fn foreign_reports_are_refused_before_anything_is_measured() {
    let sandbox = Sandbox::new();
    sandbox.write("rows.json", "{\"rows\":[]}");
    sandbox.write("net.json", "{\"format\":\"ringtide-bench\",\"format_version\":1,\"bench\":\"net\"}");
    sandbox.write("text", "hello");
    for (file, said) in [
        ("rows.json", "is no report of ringtide bench"),
        ("net.json", "is a report of bench net, and this is bench loopback"),
        ("text", "is no JSON"),
        ("gone.json", "cannot read"),
    ] {
        let stderr = sandbox.fail(3, ["bench", "loopback", "--compare", file]);
        assert!(stderr.contains(said) && stderr.contains(file), "{file}: {stderr}");
        assert!(!stderr.contains("an image of"), "{stderr}");
    }
}

#[test]
fn a_page_that_cannot_be_written_is_named_before_anything_is_measured() {
    let sandbox = Sandbox::new();
    for bench in [&["loopback"][..], &["swarm", "2"], &["hash"]] {
        let stderr = sandbox.fail(3, [&["bench"], bench, &["--html", "gone/page.html"]].concat());
        assert!(stderr.contains("cannot write \"gone/page.html\""), "{stderr}");
        assert!(!stderr.contains("an image of") && !stderr.contains("hashing"), "{stderr}");
    }
    // Nor is a page left behind where nothing is measured.
    let stderr = sandbox.fail(3, ["bench", "disk", "gone", "--html", "page.html"]);
    assert!(stderr.contains("gone") && !sandbox.path("page.html").exists(), "{stderr}");
}

#[test]
fn options_of_the_other_end_are_named() {
    let sandbox = Sandbox::new();
    for (words, culprit) in [
        (&["--server", "--time", "5s"][..], "--time"),
        (&["--server", "--peers", "2"], "--peers"),
        (&["--server", "--html", "x"], "--html"),
        (&["--server", "--compare", "x"], "--compare"),
        (&["--client", "h", "--listen", "127.0.0.1:0"], "--listen"),
        (&["--client", "h", "--once"], "--once"),
        (&["--client", "h", "--link", "10G"], "10Gbit"),
        (&["--server", "--link", "10Gbit"], "--link"),
        (&["--client", "h", "--server"], "--server"),
        (&["--client", "h", "--time", "1s", "--size", "1MiB"], "--size"),
        (&["--client", "h", "--peers", "33"], "33"),
        (&["--client", "h:"], "host:port"),
        (&[], "--client"),
    ] {
        let stderr = sandbox.fail(2, ["bench", "net"].iter().chain(words));
        assert!(stderr.contains(culprit), "{words:?}: {stderr}");
    }
    let stderr = sandbox.fail(2, ["bench", "loopback", "--time", "5s"]);
    assert!(stderr.contains("--time"), "{stderr}");
}
