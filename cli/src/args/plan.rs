//! `Plan`: what will be done. It is valid: it can be carried out without looking at options again.

use std::ffi::OsString;

use ringtide_engine::Rates;
use ringtide_engine::storage::DirectChoice;
use ringtide_proto::limits::{MAX_PEERS, PEERS_PER_TORRENT};
use ringtide_proto::picker::Order;
use ringtide_proto::torrent::{Lan, Policy, Rules, Seeding};

use super::values::parse_epoch;
use super::{
    EngineArgs, PresentArgs, Typed, TypedBench, TypedCommand, TypedCreate, TypedDirect, TypedGet, TypedNet,
    TypedPolicy, TypedSeed, TypedSeeding, TypedSimulate,
};
use crate::bench::{Client, Disk, Extent, Hash, Loopback, Present, Running, Server, Swarm};
use crate::create::{Create, Output};
use crate::exit::Failure;
use crate::get::{Files, Get};
use crate::seed::Seed;
use crate::show::Show;
use crate::simulate::Simulate;
use crate::source::Source;
use crate::swarm::{Listen, Options};
use crate::verify::Verify;

/// What will be done.
#[derive(Debug)]
pub(crate) enum Plan {
    Create(Create),
    Show(Show),
    Verify(Verify),
    Get(Get),
    Seed(Seed),
    Loopback(Loopback),
    NetServer(Server),
    NetClient(Client),
    Disk(Disk),
    Swarm(Swarm),
    Hash(Hash),
    Simulate(Simulate),
}

impl Typed {
    /// What will be done. Environment variables that belong to the command line are read here.
    pub(crate) fn plan(self) -> Result<Plan, Failure> {
        Ok(match self.command {
            TypedCommand::Create(typed) => Plan::Create(typed.plan(std::env::var_os("SOURCE_DATE_EPOCH"))?),
            TypedCommand::Show(typed) => {
                Plan::Show(Show { source: file_or_magnet(&typed.torrent)?, json: typed.json })
            }
            TypedCommand::Verify(typed) => {
                let torrent = Source::new(&typed.torrent);
                Plan::Verify(Verify { torrent, path: typed.path, json: typed.json })
            }
            TypedCommand::Get(typed) => Plan::Get(typed.plan()?),
            TypedCommand::Seed(typed) => Plan::Seed(typed.plan()),
            TypedCommand::Simulate(typed) => Plan::Simulate(typed.plan()?),
            TypedCommand::Bench(TypedBench::Loopback(typed)) => Plan::Loopback(Loopback {
                size: typed.size,
                piece_length: typed.piece_length.0,
                io: typed.io,
                shards: typed.shards,
                peers: typed.peers,
                present: typed.present.plan(),
            }),
            TypedCommand::Bench(TypedBench::Net(typed)) => typed.plan()?,
            TypedCommand::Bench(TypedBench::Disk(typed)) => Plan::Disk(Disk {
                dir: typed.dir,
                size: typed.size,
                time: typed.time,
                piece_length: typed.piece_length,
                direct: typed.direct.plan(),
                io: typed.io,
                present: typed.present.plan(),
            }),
            TypedCommand::Bench(TypedBench::Swarm(typed)) => Plan::Swarm(Swarm {
                leeches: typed.leeches,
                size: typed.size,
                piece_length: typed.piece_length.0,
                shards: typed.shards,
                io: typed.io,
                dir: typed.memory_dir,
                present: typed.present.plan(),
            }),
            TypedCommand::Bench(TypedBench::Hash(typed)) => {
                let present = typed.present.plan();
                Plan::Hash(Hash { message_bytes: typed.message, memory_bytes: typed.size, present })
            }
        })
    }
}

impl TypedCreate {
    fn plan(self, source_date_epoch: Option<OsString>) -> Result<Create, Failure> {
        let output = match self.output {
            None => Output::Default,
            Some(path) if path.as_os_str() == "-" => Output::Stdout,
            Some(path) => Output::File(path),
        };
        Ok(Create {
            path: self.path,
            output,
            trackers: self.announce,
            web_seeds: self.web_seed,
            piece_length: self.piece_length.0,
            name: self.name,
            comment: self.comment,
            private: self.private,
            creation_date: source_date_epoch.map(|text| parse_epoch(&text)).transpose()?,
        })
    }
}

impl TypedGet {
    fn plan(self) -> Result<Get, Failure> {
        let files = Files { only: self.files, skip: self.skip, first: self.first };
        if self.torrents.len() > 1 && !files.is_everything() {
            return Err(Failure::usage(
                "--files, --skip and --first are about the files of one torrent; download the others by commands of their own",
            ));
        }
        let order = if self.sequential { Order::Sequential } else { Order::RarestFirst };
        let (peers, options) = self.engine.plan(self.direct.plan());
        Ok(Get {
            torrents: self.torrents.iter().map(|typed| Source::new(typed)).collect(),
            target: self.output,
            files,
            peers,
            options: Options { policy: Policy { order, ..options.policy }, ..options },
            seed_for: self.seed_for,
            deadline: self.deadline,
            json: self.json,
        })
    }
}

impl TypedSeed {
    fn plan(self) -> Seed {
        let (peers, options) = self.engine.plan(DirectChoice::Auto);
        Seed {
            torrents: self.torrents.iter().map(|typed| Source::new(typed)).collect(),
            dir: self.dir,
            peers,
            track: self.track,
            options: Options { policy: Policy { super_seed: self.super_seed, ..options.policy }, ..options },
            json: self.json,
        }
    }
}

impl TypedSimulate {
    fn plan(self) -> Result<Simulate, Failure> {
        let rate = |mbit: u64| mbit * 125_000;
        let simulate = Simulate {
            size: self.size,
            hosts: self.hosts,
            seeds: self.seeds,
            rate: rate(self.link),
            seed_rate: rate(self.seed_link.unwrap_or(self.link)),
            round_trip: self.latency,
            free_riders: self.free_riders,
            poisoners: self.poisoners,
            pieces: self.pieces,
            order: match self.policy {
                TypedPolicy::Rarest => Order::RarestFirst,
                TypedPolicy::Sequential => Order::Sequential,
                TypedPolicy::Random => Order::Random,
            },
            racks: self.racks.zip(self.rack_link.map(rate)),
            lan: self.lan,
            seeding: match self.seeding {
                TypedSeeding::Rate => Seeding::ByRate,
                TypedSeeding::Turns => Seeding::RoundRobin,
            },
            rules: self.without.into_iter().fold(Rules::ALL, Rules::without),
            rng_seed: self.rng_seed,
            json: self.json,
        };
        simulate.check().map(|()| simulate)
    }
}

impl TypedNet {
    fn plan(self) -> Result<Plan, Failure> {
        let running = Running { io: self.io, shards: self.shards, zero_copy: self.zero_copy };
        let present = self.present.plan();
        let Some(server) = self.client else {
            let page = [("--html", &present.html), ("--compare", &present.compare)];
            if let Some((option, _)) = page.iter().find(|(_, given)| given.is_some()) {
                return Err(Failure::usage(format_args!(
                    "{option} is for the client, which makes the report; see ringtide bench net --help"
                )));
            }
            let Self { listen, once, .. } = self;
            return Ok(Plan::NetServer(Server { listen, once, running, json: present.json }));
        };
        Ok(Plan::NetClient(Client {
            server,
            extent: self.size.map_or(Extent::Time(self.time), Extent::Size),
            omit: self.omit,
            piece_length: self.piece_length,
            connections: self.peers,
            reverse: self.reverse,
            link_mbit_per_s: self.link,
            running,
            present,
        }))
    }
}

impl TypedDirect {
    fn plan(self) -> DirectChoice {
        match self {
            Self::Auto => DirectChoice::Auto,
            Self::On => DirectChoice::On,
            Self::Off => DirectChoice::Off,
        }
    }
}

impl PresentArgs {
    fn plan(self) -> Present {
        Present { json: self.json, html: self.html, compare: self.compare }
    }
}

impl EngineArgs {
    /// The peers, and how the engine is to run.
    fn plan(self, direct: DirectChoice) -> (Vec<String>, Options) {
        let listen = if self.listen.is_empty() { Listen::Default } else { Listen::At(self.listen) };
        let options = Options {
            listen,
            shards: self.shards,
            hash_threads: self.hash_threads.map(usize::from),
            latency: self.latency,
            zero_copy: self.zero_copy,
            io: self.io,
            memory: self.memory,
            max_peers: usize::try_from(self.max_peers).unwrap_or(MAX_PEERS),
            torrent_peers: usize::try_from(self.torrent_peers).unwrap_or(PEERS_PER_TORRENT),
            policy: Policy {
                lan: self.lan.map(|v4_prefix| Lan { v4_prefix, ..Lan::default() }),
                ..Policy::default()
            },
            rates: Rates { up: self.upload_limit, down: self.download_limit },
            torrent_rates: Rates { up: self.torrent_upload_limit, down: self.torrent_download_limit },
            direct,
            measure: self.measure,
        };
        (self.peers, options)
    }
}

fn file_or_magnet(typed: &OsString) -> Result<Source, Failure> {
    match Source::new(typed) {
        Source::Url(_) => {
            Err(Failure::usage("show reads files and magnet links; download the torrent first"))
        }
        source => Ok(source),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use clap::{CommandFactory, Parser};
    use ringtide_engine::driver::IoChoice;

    use super::*;
    use crate::exit::Exit;

    fn plan(words: &[&str]) -> Plan {
        let words = ["ringtide"].iter().chain(words);
        Typed::try_parse_from(words).expect("makes sense").plan().expect("is valid")
    }

    fn refused(words: &[&str]) -> String {
        let words = ["ringtide"].iter().chain(words);
        Typed::try_parse_from(words).expect_err("makes no sense").to_string()
    }

    #[test]
    fn clap_finds_nothing_wrong_with_the_definition() {
        Typed::command().debug_assert();
    }

    #[test]
    fn create_is_understood() {
        let words =
            ["create", "dir", "-o", "-", "-a", "http://a/1", "-a", "udp://b:1/", "--piece-length", "1MiB"];
        let Plan::Create(create) = plan(&words) else { panic!("is create") };
        assert_eq!(create.output, Output::Stdout);
        assert_eq!(create.trackers, ["http://a/1", "udp://b:1/"]);
        assert_eq!(create.piece_length, Some(1 << 20));
        assert!(!create.private);
    }

    #[test]
    fn nonsense_says_what_would_make_sense() {
        assert!(
            refused(&["create", "x", "--piece-length", "1000"])
                .contains("a power of two from 16KiB to 64MiB")
        );
        assert!(refused(&["create", "x", "--piece-length", "128MiB"]).contains("a power of two"));
        assert!(refused(&["create", "x", "-a", "tracker.example"]).contains("a URL begins with http://"));
        let get = |words: &[&str]| refused(&[&["get", "x", "-o", "d"], words].concat());
        assert!(get(&["--shards", "17"]).contains("1..=16"));
        assert!(get(&["--hash-threads", "0"]).contains("1..=64"));
        assert!(get(&["--peer", "h"]).contains("a peer is written host:port"));
        assert!(get(&["--io", "kqueue"]).contains("choose auto, uring or epoll"));
        assert!(get(&["--memory", "lots"]).contains("write it like 1GiB"));
        assert!(get(&["--seed-for", "ever"]).contains("write it like 45s"));
        assert!(refused(&["get", "x"]).contains("--output"));
    }

    #[test]
    fn get_is_understood() {
        let words =
            ["get", "a.torrent", "https://h/b.torrent", "-o", "d", "--peer", "[::1]:5", "--peer", "h:6881"];
        let more = [
            "--seed-for",
            "1h30m",
            "--deadline",
            "90s",
            "--memory",
            "64MiB",
            "--io",
            "epoll",
            "--direct",
            "off",
            "--hash-threads",
            "2",
            "--latency",
            "--zero-copy",
            "--sequential",
            "--upload-limit",
            "5MiB",
            "--torrent-download-limit",
            "100Mbit",
        ];
        let Plan::Get(get) = plan(&[&words[..], &more].concat()) else { panic!("is get") };
        assert_eq!(
            get.torrents,
            [Source::File("a.torrent".into()), Source::Url("https://h/b.torrent".into())]
        );
        assert_eq!(get.peers, ["[::1]:5", "h:6881"]);
        assert!(get.files.is_everything());
        assert_eq!(
            (get.seed_for, get.deadline),
            (Some(Duration::from_secs(5400)), Some(Duration::from_secs(90)))
        );
        let options = Options {
            listen: Listen::Default,
            shards: None,
            hash_threads: Some(2),
            latency: true,
            zero_copy: true,
            io: IoChoice::Epoll,
            memory: 64 << 20,
            max_peers: MAX_PEERS,
            torrent_peers: PEERS_PER_TORRENT,
            policy: Policy { order: Order::Sequential, ..Policy::default() },
            rates: Rates { up: NonZeroU64::new(5 << 20), down: None },
            torrent_rates: Rates { up: None, down: NonZeroU64::new(12_500_000) },
            direct: DirectChoice::Off,
            measure: false,
        };
        assert_eq!(get.options, options);
    }

    #[test]
    fn files_are_of_one_torrent() {
        let options = ["--files", "1,3-", "--files", "*.txt", "--skip", "5", "--first", "1"];
        let Plan::Get(get) = plan(&[&["get", "a.torrent", "-o", "d"][..], &options].concat()) else {
            panic!("is get")
        };
        assert_eq!([get.files.only.len(), get.files.skip.len(), get.files.first.len()], [2, 1, 1]);
        for option in ["--files", "--skip", "--first"] {
            let words = ["ringtide", "get", "a.torrent", "b.torrent", "-o", "d", option, "1"];
            let refused = Typed::try_parse_from(words).expect("makes sense").plan().expect_err("of which?");
            assert!(refused.exit == Exit::Usage && refused.message.contains("one torrent"), "{refused:?}");
        }
        assert!(refused(&["get", "a", "-o", "d", "--files", "3-1"]).contains("1,3-5 or 7-"));
    }

    #[test]
    fn seed_is_understood() {
        let words = [
            "seed",
            "a",
            "-d",
            "dir",
            "--track",
            "0.0.0.0:6969",
            "--listen",
            "[::1]:0",
            "--shards",
            "3",
            "--super-seed",
        ];
        let Plan::Seed(seed) = plan(&words) else { panic!("is seed") };
        assert_eq!(seed.options.listen, Listen::At(vec!["[::1]:0".parse().expect("an address")]));
        assert_eq!((seed.options.hash_threads, seed.options.latency), (None, false));
        assert_eq!((seed.options.shards, seed.options.memory), (Some(3), ringtide_engine::DEFAULT_MEMORY));
        assert!(seed.options.policy.super_seed);
        assert_eq!(seed.track, Some("0.0.0.0:6969".parse().expect("an address")));
    }

    #[test]
    fn the_bench_is_understood() {
        let Plan::Loopback(bench) = plan(&["bench", "loopback", "--size", "64MiB"]) else {
            panic!("is bench")
        };
        assert_eq!((bench.size, bench.piece_length), (Some(64 << 20), Some(1 << 20)));
    }

    #[test]
    fn simulate_is_understood() {
        let words = ["simulate", "--size", "20GiB", "--hosts", "500", "--link", "10Gbit", "--seeds", "2"];
        let more = ["--free-riders", "0.3", "--poisoners", "0.05", "--policy", "random", "--latency", "2ms"];
        let Plan::Simulate(simulate) = plan(&[&words[..], &more].concat()) else { panic!("is simulate") };
        assert_eq!((simulate.hosts, simulate.seeds, simulate.size), (500, 2, 20 << 30));
        assert_eq!((simulate.rate, simulate.seed_rate), (1_250_000_000, 1_250_000_000));
        assert_eq!((simulate.free_riders, simulate.poisoners), (300, 50));
        assert_eq!((simulate.order, simulate.round_trip), (Order::Random, Duration::from_millis(2)));
    }

    #[test]
    fn a_date_must_be_one() {
        let typed = |epoch: &str| match Typed::try_parse_from(["ringtide", "create", "x"])
            .expect("is fine")
            .command
        {
            TypedCommand::Create(typed) => typed.plan(Some(epoch.into())).map(|create| create.creation_date),
            _ => panic!("is create"),
        };
        assert_eq!(typed("1700000000"), Ok(Some(1_700_000_000)));
        assert!(typed("yesterday").is_err_and(|failure| failure.message.contains("SOURCE_DATE_EPOCH")));
        assert!(typed("-1").is_err());
    }
}
