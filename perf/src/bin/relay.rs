//! The command around [`Relay`].

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringtide_perf::relay::Relay;

/// Pass TCP connections on, each direction a fixed time late.
///
/// Stands for a long way where the kernel offers none (netem). Runs until it is stopped. Says where it listens on stdout once
/// it does.
#[derive(Debug, Parser)]
#[command(name = "relay", max_term_width = 110)]
struct Options {
    /// Where to pass connections on to.
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
    /// Where to accept connections; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How late each byte arrives, in each direction, in milliseconds: half of what it adds to a round trip.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    delay: Duration,
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(|ms: f64| ms / 1000.0).map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    match relay(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn relay(options: &Options) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    Relay { to: options.to, delay: options.delay }.run(&listener)
}
