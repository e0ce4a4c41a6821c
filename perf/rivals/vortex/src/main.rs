//! Fetches or gives one torrent with the crate vortex-bittorrent, whose own command takes no peers.
//!
//! Content lies at DIR/NAME/NAME for a torrent of one file: so vortex keeps it. Prints `seeding` once everything was
//! found there and peers are accepted, or `complete` once everything was fetched, and then ends or, with content to
//! give, stays until it is killed.

use std::net::{SocketAddrV4, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use heapless::spsc::{Consumer, Queue};
use vortex_bittorrent::{Command, Config, PeerId, State, Torrent, TorrentEvent, TorrentMetadata};

const USAGE: &str = "usage: vortex_driver TORRENT --dir DIR --listen ADDR:PORT [--peer ADDR:PORT]...";

/// How often events are looked for: they come through a queue that cannot be waited on.
const POLL: Duration = Duration::from_millis(2);

struct Options {
    torrent: PathBuf,
    dir: PathBuf,
    listen: SocketAddrV4,
    peers: Vec<SocketAddrV4>,
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("vortex_driver: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut torrent, mut dir, mut listen, mut peers) = (None, None, None, Vec::new());
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value; {USAGE}"));
        match word.as_str() {
            "--dir" => dir = Some(PathBuf::from(value()?)),
            "--listen" => listen = Some(address(&value()?)?),
            "--peer" => peers.push(address(&value()?)?),
            _ if torrent.is_none() && !word.starts_with('-') => torrent = Some(PathBuf::from(word)),
            _ => return Err(format!("what is {word:?}? {USAGE}")),
        }
    }
    let missing = || USAGE.to_owned();
    Ok(Options {
        torrent: torrent.ok_or_else(missing)?,
        dir: dir.ok_or_else(missing)?,
        listen: listen.ok_or_else(missing)?,
        peers,
    })
}

fn address(text: &str) -> Result<SocketAddrV4, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IPv4 address with a port"))
}

fn run(options: Options) -> Result<(), String> {
    let metadata = TorrentMetadata::read_from_file(&options.torrent)
        .map_err(|error| format!("{}: {error}", options.torrent.display()))?;
    // With one busy peer, the usual 32 events to wait for are slower.
    let config = Config { completion_event_want: 1, ..Config::default() };
    let state = State::from_metadata_and_root(PeerId::generate(), metadata, options.dir, config)
        .map_err(|error| format!("cannot use the directory: {error}"))?;
    let listener = TcpListener::bind(options.listen)
        .map_err(|error| format!("cannot listen at {}: {error}", options.listen))?;
    let mut torrent = Torrent::new(state);
    let gives = torrent.is_complete();
    let (commands, received) = sync_channel(64);
    if !options.peers.is_empty() {
        tell(&commands, Command::ConnectToPeers(options.peers))?;
    }
    let mut queue: Queue<TorrentEvent, 512> = Queue::new();
    let (sender, events) = queue.split();
    thread::scope(|scope| {
        let engine = scope.spawn(move || torrent.start(sender, received, listener));
        let watched = watch(events, &commands, gives, || engine.is_finished());
        engine.join().map_err(|_| "vortex panicked")?.map_err(|error| format!("vortex failed: {error}"))?;
        watched
    })
}

/// Says what happens until the download is complete, or forever where there is nothing to fetch.
fn watch(
    mut events: Consumer<TorrentEvent>,
    commands: &SyncSender<Command>,
    gives: bool,
    has_ended: impl Fn() -> bool,
) -> Result<(), String> {
    while !has_ended() {
        while let Some(event) = events.dequeue() {
            match event {
                TorrentEvent::Running { .. } if gives => println!("seeding"),
                TorrentEvent::TorrentComplete => {
                    println!("complete");
                    return tell(commands, Command::Stop);
                }
                _ => {}
            }
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn tell(commands: &SyncSender<Command>, command: Command) -> Result<(), String> {
    commands.send(command).map_err(|_| "vortex stopped listening".to_owned())
}
