//! How well the policies do, as tables that are stored: a change of them shows in a review. After a change that is meant,
//! run the tests with INSTA_UPDATE=always.
//!
//! The small crowds are played each time. The large ones, for which the issue has its limits, take minutes:
//! `cargo test --release -p ringtide-sim --test tables -- --include-ignored`.

use insta::assert_snapshot;
use ringtide_proto::torrent::Rule;
use ringtide_sim::{ABLATIONS, Crowd, HEADER, NAMED, row, run};

/// What comes of the crowds, as changed.
fn table(names: impl Iterator<Item = &'static str>, change: fn(&mut Crowd)) -> String {
    let mut table = format!("{HEADER}\n");
    for name in names {
        table += &line(name, name, change);
    }
    table
}

fn line(title: &str, name: &str, change: impl FnOnce(&mut Crowd)) -> String {
    let mut crowd = Crowd::named(name).expect("has a name");
    change(&mut crowd);
    let outcome = run(&crowd.scenario().expect("few pieces")).unwrap_or_else(|e| panic!("{title}: {e}"));
    format!("{}\n", row(title, &outcome))
}

/// What comes of crowds where nobody follows a rule, below the same with all rules.
fn ablations(change: fn(&mut Crowd)) -> String {
    let mut table = format!("{HEADER}\n");
    let mut crowds: Vec<&str> = ABLATIONS.iter().map(|&(name, _)| name).collect();
    crowds.sort_unstable();
    crowds.dedup();
    for name in crowds {
        table += &line(name, name, change);
        for (_, rule) in ABLATIONS.into_iter().filter(|&(crowd, _)| crowd == name) {
            let without = |crowd: &mut Crowd| {
                change(crowd);
                crowd.policy.rules = crowd.policy.rules.without(rule);
            };
            table += &line(&format!("-{}", name_of(rule)), name, without);
        }
    }
    table
}

fn name_of(rule: Rule) -> &'static str {
    Rule::NAMED.into_iter().find(|&(_, known)| known == rule).map(|(name, _)| name).expect("has a name")
}

fn names(large: bool) -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, _)| *name).filter(move |name| name.ends_with("1000") == large)
}

/// 10 or 30 hosts, and half the content in half the pieces.
fn small(crowd: &mut Crowd) {
    (crowd.hosts, crowd.len) = (crowd.hosts.min(30), crowd.len / 2);
    crowd.pieces /= 2;
}

#[test]
fn small_crowds() {
    assert_snapshot!("small", table(names(false), small));
}

#[test]
fn rules_left_out() {
    assert_snapshot!("rules", ablations(small));
}

#[test]
#[ignore = "takes minutes"]
fn rules_left_out_by_100() {
    assert_snapshot!("rules-100", ablations(|_| {}));
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
