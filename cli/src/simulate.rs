//! `ringtide simulate`: a forecast of how a swarm gets an image to many hosts.
//!
//! Owns how the question becomes a swarm that is played in time, and both forms of the answer. The swarm is `ringtide_sim`'s.

use std::ops::ControlFlow;
use std::time::Duration;

use ringtide_proto::picker::Order;
use ringtide_proto::torrent::{Policy, Rules, Seeding};
use ringtide_sim::{Crowd, Outcome as Played, Progress, RACKS, watch};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure, Outcome};
use crate::output;
use crate::progress::Status;
use crate::stop::Stop;
use crate::units::{Bytes, Span};

/// Most hosts that want the image: some 200 kB each.
pub(crate) const MAX_HOSTS: u32 = 20_000;

/// Most hosts that have it.
pub(crate) const MAX_SEEDS: u32 = 1_000;

/// Longest image.
const MAX_SIZE: u64 = 4 << 40;

/// Longest piece.
const MAX_PIECE: u64 = 1 << 30;

/// Shortest piece that is chosen.
const MIN_PIECE: u64 = 256 << 10;

/// Pieces that are chosen, of all hosts together: as many as are played in less than a minute.
const PIECES_OF_ALL: u64 = 400_000;

/// Fewest and most pieces that are chosen: fewer and the end of each piece shows in the end of all, more and nothing changes.
const PIECES: (u64, u64) = (250, 2_000);

/// Blocks to a piece.
const BLOCKS: u32 = 4;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Simulate {
    /// Bytes of the image.
    pub(crate) size: u64,
    pub(crate) hosts: u32,
    pub(crate) seeds: u32,
    /// Bytes a second, each way.
    pub(crate) rate: u64,
    pub(crate) seed_rate: u64,
    pub(crate) round_trip: Duration,
    /// In thousandths of the hosts.
    pub(crate) free_riders: usize,
    pub(crate) poisoners: usize,
    /// As the image is modelled; chosen where none.
    pub(crate) pieces: Option<u32>,
    pub(crate) order: Order,
    /// How many, and bytes a second between each and the others.
    pub(crate) racks: Option<(u8, u64)>,
    /// Hosts mind racks.
    pub(crate) lan: bool,
    pub(crate) seeding: Seeding,
    pub(crate) rules: Rules,
    pub(crate) rng_seed: u64,
    pub(crate) json: bool,
}

impl Simulate {
    /// Whether it can be played.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.size > MAX_SIZE {
            return Err(Failure::usage("--size is more than 4TiB, the longest image that is modelled"));
        }
        if self.size.div_ceil(u64::from(self.piece_count())) > MAX_PIECE {
            let pieces = self.size.div_ceil(MAX_PIECE);
            return Err(Failure::usage(format_args!(
                "--pieces makes pieces of more than 1GiB of this --size; use {pieces} or more"
            )));
        }
        if self.honest_hosts() == 0 {
            return Err(Failure::usage(
                "--free-riders and --poisoners leave no honest host; together they must be less than 1",
            ));
        }
        Ok(())
    }

    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        let bad = |error| Failure::usage(format_args!("the image cannot be modelled: {error}"));
        let scenario = self.crowd().scenario().map_err(bad)?;
        let mut status = Status::new();
        let played = watch(&scenario, &mut |progress: Progress| {
            status.update(0, |_| words(progress));
            if stop.requested().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        drop(status);
        if let Some(exit) = stop.requested() {
            return Err(Failure::new(exit, "stopped"));
        }
        let seed = self.rng_seed;
        let played = played.map_err(|failure| {
            Failure::new(
                Exit::Other,
                format_args!("the swarm of --rng-seed {seed} did not end well {failure}"),
            )
        })?;
        if self.json {
            output::print_json(&self.to_json(&played))?;
        } else {
            output::print(&self.to_text(&played))?;
        }
        Ok(Exit::Done)
    }

    fn crowd(&self) -> Crowd {
        let mut crowd = Crowd {
            rng_seed: self.rng_seed,
            len: self.size,
            pieces: self.piece_count(),
            blocks: BLOCKS,
            seeds: self.seeds as usize,
            hosts: self.hosts as usize,
            rate: self.rate,
            seed_rate: self.seed_rate,
            // Two hosts are on the way, each way.
            latency: self.round_trip / 4,
            free_riders: self.free_riders,
            poisoners: self.poisoners,
            ..Crowd::default()
        };
        if let Some((racks, link)) = self.racks {
            (crowd.racks, crowd.rack_link) = (racks, Some(link));
        }
        let lan = self.lan.then_some(RACKS);
        let Self { order, seeding, rules, .. } = *self;
        crowd.policy = Policy { order, lan, seeding, rules, ..crowd.policy };
        crowd
    }

    fn piece_count(&self) -> u32 {
        let fit = PIECES_OF_ALL / u64::from(self.hosts);
        let (fewest, most) = PIECES;
        let real = self.size.div_ceil(MIN_PIECE);
        let chosen = fit.clamp(fewest, most).min(real).max(self.size.div_ceil(MAX_PIECE)).max(1);
        self.pieces.unwrap_or(u32::try_from(chosen).unwrap_or(u32::MAX))
    }

    fn honest_hosts(&self) -> usize {
        let share = |part: usize| self.hosts as usize * part / 1_000;
        (self.hosts as usize).saturating_sub(share(self.free_riders) + share(self.poisoners))
    }

    fn to_json(&self, played: &Played) -> Value {
        let copies = |bytes| thousandths(played.copies(bytes));
        json!({
            "bound_s": played.bound.as_secs_f64(),
            "p50_s": played.percentile(50).as_secs_f64(),
            "p99_s": played.percentile(99).as_secs_f64(),
            "last_s": played.percentile(100).as_secs_f64(),
            "seed_copies": copies(played.seed_uploaded),
            "first_copy_copies": played.first_copy_uploaded.map(copies),
            "rack_copies": copies(played.crossed),
            "duplicate_bytes": played.wasted,
            "fairness": thousandths(u64::from(played.fairness)),
            "honest_hosts": self.honest_hosts(),
            "bans": played.bans,
            "pieces": self.piece_count(),
            "piece_bytes": self.size.div_ceil(u64::from(self.piece_count())),
            "steps": played.steps,
            "trace_hash": format!("{:016x}", played.trace_hash),
            "rng_seed": self.rng_seed,
        })
    }

    fn to_text(&self, played: &Played) -> String {
        let line = |what: &str, time: Duration| {
            let against = thousandths(played.against_bound(time));
            format!("{what:<22}{:>10}   {against:.2} of the bound\n", Span(time).to_string())
        };
        let mut text = format!(
            "{} to {} honest hosts, from {}, modelled as {} pieces\n\n",
            Bytes(self.size),
            self.honest_hosts(),
            crate::units::count(u64::from(self.seeds), "seed"),
            self.piece_count(),
        );
        text += &format!("{:<22}{:>10}\n", "no way is faster than", Span(played.bound).to_string());
        text += &line("half of them are done", played.percentile(50));
        text += &line("99 % are done", played.percentile(99));
        text += &line("the last is done", played.percentile(100));
        text += &format!(
            "\nthe seeds send {:.2} copies; {} come twice\n",
            thousandths(played.copies(played.seed_uploaded)),
            Bytes(played.wasted)
        );
        if self.racks.is_some() {
            text +=
                &format!("{:.2} copies go from rack to rack\n", thousandths(played.copies(played.crossed)));
        }
        text += &format!("--rng-seed {}, trace {:016x}", self.rng_seed, played.trace_hash);
        text
    }
}

fn words(progress: Progress) -> String {
    let percent = progress.done / 10;
    format!("{percent} % of all pieces after {} of the swarm's time", Span(progress.now))
}

fn thousandths(number: u64) -> f64 {
    number as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(size: u64, hosts: u32) -> Simulate {
        Simulate {
            size,
            hosts,
            seeds: 1,
            rate: 125_000_000,
            seed_rate: 125_000_000,
            round_trip: Duration::from_millis(1),
            free_riders: 0,
            poisoners: 0,
            pieces: None,
            order: Order::RarestFirst,
            racks: None,
            lan: false,
            seeding: Seeding::ByRate,
            rules: Rules::ALL,
            rng_seed: 1,
            json: false,
        }
    }

    #[test]
    fn the_more_hosts_the_fewer_pieces() {
        assert_eq!(ask(20 << 30, 10).piece_count(), 2_000);
        assert_eq!(ask(20 << 30, 500).piece_count(), 800);
        assert_eq!(ask(20 << 30, 20_000).piece_count(), 250);
        assert_eq!(ask(1, 10).piece_count(), 1);
        assert_eq!(ask(1 << 20, 10).piece_count(), 4, "pieces are not shorter than a torrent's");
        assert_eq!(ask(4 << 40, 20_000).piece_count(), 4_096, "nor too long");
        assert_eq!(Simulate { pieces: Some(7), ..ask(1 << 20, 10) }.piece_count(), 7);
    }

    #[test]
    fn what_cannot_be_played_is_refused() {
        let complaint = |simulate: Simulate| simulate.check().map_err(|failure| failure.message).unwrap_err();
        assert!(complaint(ask((4 << 40) + 1, 10)).contains("--size"));
        assert!(complaint(Simulate { pieces: Some(1), ..ask(2 << 30, 10) }).contains("use 2 or more"));
        assert!(
            complaint(Simulate { free_riders: 600, poisoners: 400, ..ask(1, 10) }).contains("--poisoners")
        );
        assert_eq!(Simulate { free_riders: 999, ..ask(1, 10) }.check(), Ok(()));
    }
}
