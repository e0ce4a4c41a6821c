//! What the two ends of `bench net` say to each other: lines of JSON over a connection of their own.
//!
//! The client says [`Hello`] with the [`Test`] it wants; the server answers with the ports that it takes part with, or with why
//! not. Then peers connect and data flows elsewhere. Meanwhile the client says when measuring begins anew and when it is
//! over, and the server answers the end with what it measured. Neither believes the other: lengths and waits are bounded,
//! and a test must be one that can be run.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringtide_engine::storage::Synthetic;
use ringtide_proto::limits::{MAX_PIECE_LEN, MAX_PIECES};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::bench::most_content;
use crate::bench::side::Side;

/// What both ends must speak. To be raised with every change of what is said here, or of what the content is made of.
const PROTOCOL: u32 = 1;

/// Longest line: what a side measured takes a few kilobytes.
const MAX_LINE: usize = 1 << 20;

/// How long a read blocks before it is asked whether to go on: what ends a test is noticed as soon.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How long a line may take to be sent.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// Most connections of a test.
pub(crate) const MAX_CONNECTIONS: u8 = 32;

/// The client's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The protocol: how the server knows what it is talking to.
    pub(super) ringtide_bench_net: u32,
    /// The client's version, for messages.
    pub(super) version: String,
    pub(super) test: Test,
}

/// What is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Test {
    /// Bytes of the content.
    pub(super) size: u64,
    pub(super) piece_length: u32,
    /// What the content is made of.
    pub(super) seed: u64,
    /// Connections that carry it.
    pub(super) connections: u8,
    /// The server fetches.
    pub(super) reverse: bool,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Connect to these ports, each from an engine of its own where the client gives.
    Ready { ringtide_bench_net: u32, version: String, ports: Vec<u16> },
    /// No.
    Refused { reason: String },
    /// All of the content is here.
    Complete,
    /// This is what I measured.
    Measured(Box<Side>),
}

/// What the client says once data flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// I am still here.
    Alive,
    /// What was measured so far does not count.
    Restart,
    /// It is over.
    Stop,
}

impl Hello {
    pub(super) fn of(test: Test) -> Self {
        Self { ringtide_bench_net: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), test }
    }

    /// What the client wants, or why it cannot have it.
    pub(super) fn parse(line: &str) -> Result<Test, String> {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let Some(protocol) = value["ringtide_bench_net"].as_u64() else {
            return Err("this is ringtide bench net --server; it speaks to ringtide bench net --client only"
                .to_owned());
        };
        if protocol != u64::from(PROTOCOL) {
            return Err(versions_differ(protocol, value["version"].as_str().unwrap_or("?")));
        }
        let hello: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        hello.test.check()?;
        Ok(hello.test)
    }
}

impl Answer {
    pub(super) fn ready(ports: Vec<u16>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self::Ready { ringtide_bench_net: PROTOCOL, version, ports }
    }
}

/// For the client, who reads what the server said.
pub(super) fn check_protocol(protocol: u32, version: &str) -> Result<(), String> {
    if protocol == PROTOCOL { Ok(()) } else { Err(versions_differ(u64::from(protocol), version)) }
}

fn versions_differ(protocol: u64, version: &str) -> String {
    format!(
        "the other end is ringtide {version} with bench protocol {protocol}, this one is ringtide {} with {PROTOCOL}: \
         use the same version on both",
        env!("CARGO_PKG_VERSION")
    )
}

impl Test {
    /// Whether it is one that can be run.
    pub(super) fn check(&self) -> Result<(), String> {
        let good_piece =
            self.piece_length.is_power_of_two() && (16 << 10..=MAX_PIECE_LEN).contains(&self.piece_length);
        if !good_piece {
            return Err(format!(
                "pieces of {} bytes are no power of two from 16KiB to 64MiB",
                self.piece_length
            ));
        }
        let most = most_content(self.piece_length);
        if self.size == 0 || self.size > most {
            return Err(format!("{} bytes are not 1 to {most}, which is {MAX_PIECES} pieces", self.size));
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            return Err(format!("{} connections are not 1 to {MAX_CONNECTIONS}", self.connections));
        }
        Ok(())
    }

    /// At how many ports the server accepts: one for each giver, or that of the one who fetches.
    pub(super) fn server_ports(&self) -> u16 {
        if self.reverse { 1 } else { self.connections.into() }
    }

    /// Whether these are ports that the server can have meant: nobody dials whatever a stranger lists.
    pub(super) fn check_ports(&self, ports: &[u16]) -> Result<(), String> {
        let wanted = self.server_ports();
        if ports.len() == usize::from(wanted) && !ports.contains(&0) {
            return Ok(());
        }
        Err(format!(
            "the server offers {} ports for the data and not {wanted} that can be dialled",
            ports.len()
        ))
    }

    /// What flows. To be made after [`check`](Self::check).
    pub(super) fn content(&self) -> Synthetic {
        Synthetic::new(self.size, self.piece_length, self.seed)
    }
}

/// A connection that carries lines.
pub(super) struct Line {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What a look at a [`Line`] found.
pub(super) enum Found {
    /// A line.
    Text(String),
    /// Nothing yet.
    Nothing,
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        stream.set_write_timeout(Some(SEND_WITHIN))?;
        Ok(Self { stream, received: Vec::new() })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn say(&mut self, words: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(words)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Looks for a line, for a moment. An error once the other end is gone.
    pub(super) fn look(&mut self) -> io::Result<Found> {
        if let Some(text) = self.take_line()? {
            return Ok(Found::Text(text));
        }
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.received.extend_from_slice(&part[..len]);
                Ok(self.take_line()?.map_or(Found::Nothing, Found::Text))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(Found::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// The next line, unless it takes too long or `go_on` says not to wait for it: then none.
    pub(super) fn wait(
        &mut self,
        within: Duration,
        mut go_on: impl FnMut() -> bool,
    ) -> io::Result<Option<String>> {
        let until = Instant::now() + within;
        while Instant::now() < until && go_on() {
            if let Found::Text(text) = self.look()? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn take_line(&mut self) -> io::Result<Option<String>> {
        let Some(end) = self.received.iter().position(|&byte| byte == b'\n') else {
            let too_long = self.received.len() > MAX_LINE;
            return if too_long { Err(ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let line: Vec<u8> = self.received.drain(..=end).collect();
        String::from_utf8(line).map(Some).map_err(|_| ErrorKind::InvalidData.into())
    }
}

/// A line as what it should be.
pub(super) fn parse<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| format!("the other end said what makes no sense: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TEST: Test = Test { size: 1 << 30, piece_length: 1 << 20, seed: 7, connections: 2, reverse: false };

    fn hello(change: impl FnOnce(&mut serde_json::Value)) -> Result<Test, String> {
        let mut value = serde_json::to_value(Hello::of(TEST)).expect("is JSON");
        change(&mut value);
        Hello::parse(&value.to_string())
    }

    #[test]
    fn a_test_arrives_as_it_was_asked_for() {
        assert_eq!(hello(|_| {}), Ok(TEST));
    }

    #[test]
    fn strangers_other_versions_and_impossible_tests_are_told_why() {
        let refused = |change: fn(&mut serde_json::Value)| hello(change).expect_err("is refused");
        assert!(Hello::parse("GET / HTTP/1.1\r").is_err_and(|why| why.contains("bench net --client only")));
        let other = refused(|value| value["ringtide_bench_net"] = 99.into());
        assert!(other.contains("bench protocol 99") && other.contains("same version on both"), "{other}");
        assert!(refused(|value| value["test"]["piece_length"] = 1000.into()).contains("power of two"));
        assert!(refused(|value| value["test"]["size"] = 0.into()).contains("not 1 to"));
        assert!(refused(|value| value["test"]["size"] = u64::MAX.into()).contains("not 1 to"));
        assert!(refused(|value| value["test"]["connections"] = 33.into()).contains("not 1 to 32"));
        assert!(refused(|value| value["test"]["seed"] = "x".into()).contains("expected u64"));
        assert!(check_protocol(PROTOCOL, "1").is_ok() && check_protocol(0, "0.0.9").is_err());
    }

    #[test]
    fn only_ports_that_a_server_can_mean_are_dialled() {
        let test = Test { connections: 2, reverse: false, ..TEST };
        assert_eq!(test.check_ports(&[6901, 6902]), Ok(()));
        let refused = |test: Test, ports: &[u16]| test.check_ports(ports).expect_err("is refused");
        assert!(refused(test, &[22]).contains("offers 1 ports for the data and not 2"));
        assert!(refused(test, &[0, 6902]).contains("can be dialled"));
        let reverse = Test { reverse: true, ..test };
        assert_eq!(reverse.check_ports(&[6901]), Ok(()));
        assert!(refused(reverse, &[]).contains("not 1") && refused(reverse, &[1, 2]).contains("not 1"));
    }

    #[test]
    fn lines_come_whole_and_the_end_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut far = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let mut line = Line::new(listener.accept().expect("accepts").0).expect("is set up");
        assert!(matches!(line.look(), Ok(Found::Nothing)));
        far.write_all(b"\"ali").expect("sends");
        assert!(matches!(line.look(), Ok(Found::Nothing)));
        far.write_all(b"ve\"\n\"stop\"\n").expect("sends");
        let words: Vec<Word> = (0..2)
            .map(|_| line.wait(SEND_WITHIN, || true).expect("reads").expect("a line"))
            .map(|line| parse(&line).expect("a word"))
            .collect();
        assert_eq!(words, [Word::Alive, Word::Stop]);
        drop(far);
        assert!(line.wait(SEND_WITHIN, || true).is_err());
    }
}
