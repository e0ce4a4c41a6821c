//! The `ringtide` command: reads the command line, does what it says, and ends with a code that tells how it went.

#![forbid(unsafe_code)]

mod args;
mod bench;
mod create;
mod exit;
mod get;
mod kernels;
mod output;
mod parallel;
mod progress;
mod seed;
mod show;
mod simulate;
mod source;
mod stop;
mod swarm;
mod text;
mod units;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Plan, Typed};
use exit::Outcome;
use stop::Stop;

/// Environment variable with a filter for the log, as `tracing_subscriber::EnvFilter` reads it.
const LOG_VARIABLE: &str = "RINGTIDE_LOG";

fn main() -> ExitCode {
    // Ends the process itself for --help and for what cannot be understood (code 2).
    let typed = Typed::parse();
    start_log(typed.verbose);
    typed.parent.into_iter().for_each(bench::follow);
    match run(typed) {
        Ok(exit) => exit.code().into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                output::note(&format!("ringtide: {}", failure.message));
            }
            failure.exit.code().into()
        }
    }
}

fn run(typed: Typed) -> Outcome {
    let plan = typed.plan()?;
    kernels::check()?;
    let stop = Stop::listen()?;
    match plan {
        Plan::Create(create) => create.run(stop),
        Plan::Show(show) => show.run(),
        Plan::Verify(verify) => verify.run(stop),
        Plan::Get(get) => get.run(stop),
        Plan::Seed(seed) => seed.run(stop),
        Plan::Loopback(loopback) => loopback.run(stop),
        Plan::NetServer(server) => server.run(stop),
        Plan::NetClient(client) => client.run(stop),
        Plan::Disk(disk) => disk.run(stop),
        Plan::Swarm(swarm) => swarm.run(stop),
        Plan::Hash(hash) => hash.run(stop),
        Plan::Simulate(simulate) => simulate.run(stop),
    }
}

fn start_log(verbose: u8) {
    if verbose == 0 && std::env::var_os(LOG_VARIABLE).is_none() {
        return;
    }
    output::expect_log();
    let level = match verbose {
        0 | 1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| output::GuardedStderr)
        .with_ansi(false)
        .init();
}
