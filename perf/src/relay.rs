//! `Relay`: passes TCP connections on, each direction a fixed time late: a long way where the kernel has none to offer.
//!
//! Owns the threads of a connection, two for each direction, and what is under way between them. It ends the
//! connections of TCP itself, so only the programs at both ends notice the distance, not their windows: what it shows is
//! whether enough is asked for ahead.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

/// Most bytes read at a time, which are then late together: 400 microseconds at 10 Gbit/s.
const CHUNK_LEN: usize = 512 << 10;

/// Readers and writers sleep no shorter than this, or a tenth of the delay: a wake for each packet would cost more than the
/// copying. A byte is at most twice this later than it should be, and never earlier.
const NAP: Duration = Duration::from_micros(250);

/// Bytes under way in one direction, past which the sender is held back: four times what 25 Gbit/s carry in 10 ms.
const UNDER_WAY: usize = 128 << 20;

/// A way to another address.
#[derive(Debug, Clone, Copy)]
pub struct Relay {
    /// Where connections are passed on to.
    pub to: SocketAddr,
    /// How late each byte arrives, in each direction.
    pub delay: Duration,
}

/// What was read, and when it is due.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    /// Zero at the end of the stream.
    len: usize,
}

impl Relay {
    /// Serves all that connect, until accepting fails.
    ///
    /// # Errors
    /// Of the listener. What befalls one connection ends that one, at both ends.
    pub fn run(self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let (near, _) = listener.accept()?;
            thread::spawn(move || {
                if let Err(error) = self.pass_on(&near) {
                    eprintln!("relay: {error}");
                    let _ = near.shutdown(Shutdown::Both);
                }
            });
        }
    }

    /// Serves one connection until both directions have ended.
    fn pass_on(self, near: &TcpStream) -> io::Result<()> {
        let far = TcpStream::connect(self.to)?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        thread::scope(|scope| {
            let back = scope.spawn(|| self.carry(&far, near));
            let forth = self.carry(near, &far);
            forth.and(back.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
        })
    }

    /// Carries one direction to its end, and the end, too.
    fn carry(self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        let (chunks, due) = bounded(UNDER_WAY / CHUNK_LEN);
        let (spent, again) = unbounded();
        thread::scope(|scope| {
            let written = scope.spawn(|| write_when_due(to, nap(self.delay), due, spent));
            let read = read_ahead(from, self.delay, &chunks, &again);
            // A reader that failed has not passed the end on: hanging up does.
            drop(chunks);
            let written = written.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            if written.is_err() {
                let _ = from.shutdown(Shutdown::Read);
            }
            written.and(read)
        })
    }
}

fn nap(delay: Duration) -> Duration {
    NAP.min(delay / 10)
}

fn read_ahead(
    mut from: &TcpStream,
    delay: Duration,
    chunks: &Sender<Chunk>,
    again: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut bytes = again.try_recv().unwrap_or_else(|_| vec![0; CHUNK_LEN]);
        let len = match from.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        // Where nobody writes any more, the writer tells why.
        if chunks.send(Chunk { due: Instant::now() + delay, bytes, len }).is_err() || len == 0 {
            return Ok(());
        }
        if len < CHUNK_LEN {
            thread::sleep(nap(delay));
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a writer that ends hangs up on its reader")]
fn write_when_due(
    mut to: &TcpStream,
    nap: Duration,
    due: Receiver<Chunk>,
    spent: Sender<Vec<u8>>,
) -> io::Result<()> {
    for chunk in &due {
        let early = chunk.due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early.max(nap));
        }
        if chunk.len == 0 {
            break;
        }
        to.write_all(&chunk.bytes[..chunk.len])?;
        // A reader that has ended needs none.
        let _ = spent.send(chunk.bytes);
    }
    // One that was closed altogether meanwhile needs no end.
    let _ = to.shutdown(Shutdown::Write);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay_to(to: SocketAddr, delay: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("is bound");
        thread::spawn(move || Relay { to, delay }.run(&listener));
        addr
    }

    /// Returns what it was sent, once the sender has ended.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("is bound");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("connects");
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).expect("ends well");
            stream.write_all(&heard).expect("is read");
        });
        addr
    }

    #[test]
    fn all_bytes_and_the_ends_arrive_late_and_in_order() {
        let delay = Duration::from_millis(30);
        let mut stream = TcpStream::connect(relay_to(echo(), delay)).expect("connects");
        let begun = Instant::now();
        let said: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        stream.write_all(&said).expect("is taken");
        stream.shutdown(Shutdown::Write).expect("is open");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("ends well");
        assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
        assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_way_to_nowhere_ends() {
        let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a free port");
        let mut stream = TcpStream::connect(relay_to(gone, Duration::ZERO)).expect("connects");
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}
