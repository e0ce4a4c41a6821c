//! The command around [`BareSeed`]: arguments, the listener, a thread for each peer.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use ringtide_perf::bare_seed::BareSeed;
use ringtide_proto::metainfo::Metainfo;

/// Seed one image out of memory, as fast as the machine sends.
///
/// A yardstick: it unchokes everybody, limits nothing and verifies nothing. Runs until it is stopped. Says where it
/// listens on stdout once it does.
#[derive(Debug, Parser)]
#[command(name = "bare_seed", max_term_width = 110)]
struct Options {
    /// The image; it is read into memory.
    #[arg(long)]
    image: PathBuf,
    /// Its torrent, of this one file.
    #[arg(long)]
    torrent: PathBuf,
    /// Where to accept peers; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    match seed(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bare_seed: {message}");
            ExitCode::FAILURE
        }
    }
}

fn seed(options: &Options) -> Result<(), String> {
    let torrent = Metainfo::parse(&read(&options.torrent)?)
        .map_err(|error| format!("{}: {error}", options.torrent.display()))?;
    let image = read(&options.image)?;
    let seed = BareSeed::new(&torrent, image).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind(options.listen)
        .map_err(|error| format!("cannot listen at {}: {error}", options.listen))?;
    announce(&listener).map_err(|error| format!("cannot say where it listens: {error}"))?;
    accept(&listener, &Arc::new(seed))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn announce(listener: &TcpListener) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()
}

fn accept(listener: &TcpListener, seed: &Arc<BareSeed>) -> Result<(), String> {
    loop {
        let (stream, peer) = listener.accept().map_err(|error| format!("cannot accept peers: {error}"))?;
        let seed = Arc::clone(seed);
        thread::spawn(move || {
            if let Err(error) = seed.serve(stream) {
                eprintln!("bare_seed: {peer}: {error}");
            }
        });
    }
}
