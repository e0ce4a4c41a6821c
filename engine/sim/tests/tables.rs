//! How well the policies do, as tables that are stored: a change of them shows in a review. After a change that is meant,
//! run the tests with INSTA_UPDATE=always.
//!
//! The small crowds are played each time. The large ones, for which the issue has its limits, take minutes:
//! `cargo test --release -p ringtide-sim --test tables -- --include-ignored`.

use insta::assert_snapshot;
use ringtide_sim::{Crowd, HEADER, NAMED, row, run};

/// What comes of the crowds, as changed.
fn table(names: impl Iterator<Item = &'static str>, change: fn(&mut Crowd)) -> String {
    let mut table = format!("{HEADER}\n");
    for name in names {
        let mut crowd = Crowd::named(name).expect("has a name");
        change(&mut crowd);
        let outcome = run(&crowd.scenario().expect("few pieces")).unwrap_or_else(|e| panic!("{name}: {e}"));
        table += &format!("{}\n", row(name, &outcome));
    }
    table
}

fn names(large: bool) -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name).filter(move |name| name.ends_with("1000") == large)
}

/// 10 or 30 hosts, and half the content in half the pieces.
#[test]
fn small_crowds() {
    let small = |crowd: &mut Crowd| {
        (crowd.hosts, crowd.len) = (crowd.hosts.min(30), crowd.len / 2);
        crowd.pieces /= 2;
    };
    assert_snapshot!("small", table(names(false), small));
}

#[test]
#[ignore = "takes minutes"]
fn crowds_of_100() {
    assert_snapshot!("100", table(names(false), |_| {}));
}

#[test]
#[ignore = "takes minutes"]
fn crowds_of_1000() {
    assert_snapshot!("1000", table(names(true), |_| {}));
}
