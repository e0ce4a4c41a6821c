//! How well the policies do, as tables that are stored: a change of them shows in a review. After a change that is meant,
//! run the tests with RINGTIDE_BLESS=1.
//!
//! The small crowds are played each time. The large ones, for which the issue has its limits, take minutes:
//! `cargo test --release -p ringtide-sim --test tables -- --include-ignored`.

use std::fs;
use std::path::Path;

use ringtide_sim::{Crowd, HEADER, NAMED, row, run};

/// Plays the crowds, as changed, and compares what comes of them with the stored table.
fn assert_table(file: &str, names: impl Iterator<Item = &'static str>, change: fn(&mut Crowd)) {
    let mut table = format!("{HEADER}\n");
    for name in names {
        let mut crowd = Crowd::named(name).expect("has a name");
        change(&mut crowd);
        let outcome = run(&crowd.scenario().expect("few pieces")).unwrap_or_else(|e| panic!("{name}: {e}"));
        table += &format!("{}\n", row(name, &outcome));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables").join(file);
    if std::env::var_os("RINGTIDE_BLESS").is_some() {
        fs::write(&path, &table).expect("can be written");
    }
    let stored = fs::read_to_string(&path).expect("the stored table");
    assert!(table == stored, "{file} is\n{stored}\nand now\n{table}\nRINGTIDE_BLESS=1 stores it");
}

fn names(large: bool) -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name).filter(move |name| name.ends_with("1000") == large)
}

/// 10 or 30 hosts, and half the content in half the pieces.
#[test]
fn small_crowds() {
    assert_table("small.txt", names(false), |crowd| {
        (crowd.hosts, crowd.len) = (crowd.hosts.min(30), crowd.len / 2);
        crowd.pieces /= 2;
    });
}

#[test]
#[ignore = "takes minutes"]
fn crowds_of_100() {
    assert_table("100.txt", names(false), |_| {});
}

#[test]
#[ignore = "takes minutes"]
fn crowds_of_1000() {
    assert_table("1000.txt", names(true), |_| {});
}
