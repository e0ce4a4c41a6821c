//! Plays one swarm and prints all that happens.

fn main() {
    let seed = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let scenario = ringtide_sim::Scenario::random(seed);
    println!("{scenario:#?}");
    let result = ringtide_sim::trace(&scenario, &mut |line| println!("{line}"));
    println!("{result:?}");
}
