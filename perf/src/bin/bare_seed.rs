//! The command around [`BareSeed`]: arguments, the listener, a thread for each peer.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use clap::Parser;
use memmap2::MmapMut;
use ringtide_perf::bare_seed::BareSeed;
use ringtide_perf::memory;
use ringtide_perf::usage::Usage;
use ringtide_proto::metainfo::Metainfo;
use serde_json::Value;

/// Seed one image out of memory, as fast as the machine sends.
///
/// A yardstick: it unchokes everybody, limits nothing and verifies nothing. Runs until it is stopped, or until so many
/// peers have left. Says where it listens on stdout once it does.
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
    /// End when so many peers have come and gone, and print a line of JSON: what was sent, the time from the first
    /// connection to the end of the last, and what it took of the machine meanwhile. Without a number: one peer.
    #[arg(long, value_name = "PEERS", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    once: Option<usize>,
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
    let image = read_image(&options.image)?;
    let seed = BareSeed::new(&torrent, image).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind(options.listen)
        .map_err(|error| format!("cannot listen at {}: {error}", options.listen))?;
    announce(&listener).map_err(|error| format!("cannot say where it listens: {error}"))?;
    match options.once {
        Some(peers) => serve_some(&listener, &Arc::new(seed), peers),
        None => serve_all(&listener, &Arc::new(seed)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Into memory of huge pages, which cost less to send from.
fn read_image(path: &Path) -> Result<MmapMut, String> {
    let read = || {
        let mut file = File::open(path)?;
        let mut image = memory::huge(file.metadata()?.len() as usize)?;
        file.read_exact(&mut image)?;
        Ok(image)
    };
    read().map_err(|error: io::Error| format!("cannot read {}: {error}", path.display()))
}

fn announce(listener: &TcpListener) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()
}

fn serve_all(listener: &TcpListener, seed: &Arc<BareSeed>) -> Result<(), String> {
    loop {
        serve_next(listener, seed)?;
    }
}

fn serve_some(listener: &TcpListener, seed: &Arc<BareSeed>, peers: usize) -> Result<(), String> {
    let (mut begun, before) = (None, Usage::so_far());
    let mut threads = Vec::with_capacity(peers);
    for _ in 0..peers {
        threads.push(serve_next(listener, seed)?);
        begun.get_or_insert_with(Instant::now);
    }
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked".to_owned())?;
    }
    let mut told = (Usage::so_far() - before).to_json();
    told.insert("peers".to_owned(), peers.into());
    told.insert("bytes".to_owned(), seed.sent_bytes().into());
    told.insert("wall_s".to_owned(), begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64()).into());
    println!("{}", Value::Object(told));
    Ok(())
}

/// Waits for a peer and gives it a thread.
fn serve_next(listener: &TcpListener, seed: &Arc<BareSeed>) -> Result<JoinHandle<()>, String> {
    let (stream, peer) = listener.accept().map_err(|error| format!("cannot accept peers: {error}"))?;
    let seed = Arc::clone(seed);
    Ok(thread::spawn(move || {
        if let Err(error) = seed.serve(stream) {
            eprintln!("bare_seed: {peer}: {error}");
        }
    }))
}
