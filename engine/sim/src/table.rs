//! Tables of outcomes, for people and for comparing: a line for each swarm. Times are multiples of the bound, amounts are
//! copies of the content.

use crate::outcome::Outcome;

/// What stands above the columns of [`row`].
pub const HEADER: &str =
    "swarm              bound s    p50    p99    max    seed   first   cross     dup   jain  bans";

/// A line of the table: the bound in seconds; when half, 99 % and all of the hosts were done; what the seeds sent, and what
/// they had sent when every piece was first elsewhere; what went from rack to rack; what came twice, of each host; fairness; and bans.
pub fn row(name: &str, outcome: &Outcome) -> String {
    let against = |percent| thousandths(outcome.against_bound(outcome.percentile(percent)));
    let first = outcome.first_copy_uploaded.map(|bytes| thousandths(outcome.copies(bytes)));
    let twice = outcome.copies(outcome.wasted) / outcome.completions.len().max(1) as u64;
    format!(
        "{name:16} {:>9} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7} {:>7} {:>6} {:>5}",
        thousandths(outcome.bound.as_millis() as u64),
        against(50),
        against(99),
        against(100),
        thousandths(outcome.copies(outcome.seed_uploaded)),
        first.as_deref().unwrap_or("-"),
        if outcome.crossed > 0 { thousandths(outcome.copies(outcome.crossed)) } else { "-".to_owned() },
        thousandths(twice),
        thousandths(u64::from(outcome.fairness)),
        outcome.bans,
    )
}

fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1_000, number % 1_000)
}
