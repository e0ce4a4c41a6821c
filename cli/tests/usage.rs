//! Help and usage: what is promised is stored, so that a change of it shows in a review. After a change that is meant, run the
//! tests with INSTA_UPDATE=always.

mod common;

use common::{Sandbox, ended};
use insta::assert_snapshot;

/// What `--help` of a command prints, compared with the stored text.
fn assert_help(name: &str, words: &[&str]) {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(words.iter().chain(&["--help"]));
    // Lines are broken where the terminal ends.
    command.env("COLUMNS", "100");
    let ended = ended(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_snapshot!(name, ended.text());
}

#[test]
fn help_is_what_is_stored() {
    assert_help("ringtide", &[]);
    for command in ["create", "show", "verify", "get", "seed", "simulate"] {
        assert_help(command, &[command]);
    }
    for bench in ["loopback", "net", "disk", "swarm", "hash"] {
        assert_help(&format!("bench-{bench}"), &["bench", bench]);
    }
}

#[test]
fn what_makes_no_sense_ends_with_2_and_says_so_on_stderr() {
    let sandbox = Sandbox::new();
    let nonsense: [&[&str]; 12] = [
        &[],
        &["fetch"],
        &["get", "x"],
        &["get", "-o", "d"],
        &["get", "x", "-o", "d", "--shards", "0"],
        &["get", "x", "-o", "d", "--io", "magic"],
        &["seed", "x"],
        &["verify", "x"],
        &["simulate", "--hosts", "10"],
        &["bench", "loopback", "--size", "0"],
        &["bench", "hash", "--message", "63"],
        &["bench", "hash", "--size", "1MiB"],
    ];
    for words in nonsense {
        let ended = sandbox.run(words);
        assert_eq!((ended.code, ended.text()), (Some(2), ""), "{words:?}: {ended:?}");
        assert!(
            ended.stderr.contains("Usage") || ended.stderr.contains("--help"),
            "{words:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn the_version_is_told() {
    let told = Sandbox::new().succeed(["--version"]);
    assert_eq!(told.text(), concat!("ringtide ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_kernel_that_is_none_is_refused() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["bench", "hash"]);
    command.env("RINGTIDE_KERNEL", "sha-ni,avx9");
    let ended = ended(command);
    assert_eq!((ended.code, ended.text()), (Some(2), ""), "{ended:?}");
    assert!(
        ended.stderr.contains("RINGTIDE_KERNEL") && ended.stderr.contains("\"avx9\""),
        "{}",
        ended.stderr
    );
}
