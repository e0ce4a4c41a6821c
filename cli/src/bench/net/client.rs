//! `ringtide bench net --client`: asks a server for a test, takes part in it, and reports it.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::ends::{Ends, Running};
use super::finding::Finding;
use super::protocol::{Answer, Found, Hello, Line, Test, Word, check_protocol, parse};
use super::stall::Stall;
use crate::bench::link::Link;
use crate::bench::meter::{Before, Interval, Meter, Role};
use crate::bench::most_content;
use crate::bench::present::Present;
use crate::bench::side::{Host, Side};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::note;
use crate::stop::Stop;
use crate::text::escape;

/// Faster than any link there is: content for a test by time is made for it, in bytes per second.
const FASTEST: u64 = 25_000_000_000;

/// How long connecting may take, and each answer of the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the other end hears of us.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked whether the first bytes have come.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// So many bytes.
    Size(u64),
    /// For so long.
    Time(Duration),
}

/// Asks for a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// `host:port`.
    pub(crate) server: String,
    pub(crate) extent: Extent,
    /// What of the beginning does not count.
    pub(crate) omit: Duration,
    pub(crate) piece_length: u32,
    pub(crate) connections: u8,
    pub(crate) reverse: bool,
    /// What the link carries, where whoever measures knows better than the kernel.
    pub(crate) link_mbit_per_s: Option<u64>,
    pub(crate) running: Running,
    pub(crate) present: Present,
}

impl Client {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        // What is wrong with the old report or the page shows before anything is measured.
        let ready = self.present.ready("net")?;
        let test = self.test();
        test.check().map_err(Failure::usage)?;
        let report = Session::open(&self, test, stop)?.measure()?.into_report(&self);
        self.present.show(&report, ready)?;
        stop.requested().map_or(Ok(Exit::Done), Ok)
    }

    fn test(&self) -> Test {
        let size = match self.extent {
            Extent::Size(size) => size,
            Extent::Time(time) => {
                let seconds = (time + self.omit).as_secs_f64();
                let most = most_content(self.piece_length);
                ((seconds * FASTEST as f64) as u64).clamp(1, most)
            }
        };
        Test {
            size,
            piece_length: self.piece_length,
            seed: u64::from(std::process::id()),
            connections: self.connections,
            reverse: self.reverse,
        }
    }
}

/// A test under way.
struct Session<'a> {
    client: &'a Client,
    stop: &'a Stop,
    test: Test,
    line: Line,
    /// The server, as it was found.
    server: SocketAddr,
    /// Where its engines accept.
    dial: Vec<SocketAddr>,
    ends: Ends,
}

impl<'a> Session<'a> {
    /// Connects, and has both ends ready.
    fn open(client: &'a Client, test: Test, stop: &'a Stop) -> Result<Self, Failure> {
        let (mut line, server) = connect(&client.server)?;
        let role = if test.reverse { Role::Sender } else { Role::Receiver };
        let ends = Ends::start(&test, role, &[], client.running)?;
        let told = line.say(&Hello::of(test)).map_err(|error| lost(&client.server, &error));
        // A server that turns us away may close before it has read this.
        let ports = match answer(&mut line, client, stop)? {
            Answer::Ready { ringtide_bench_net, version, ports } => {
                check_protocol(ringtide_bench_net, &version).map_err(Failure::bad_input)?;
                ports
            }
            Answer::Refused { reason } => {
                return Err(Failure::new(
                    Exit::NoPeers,
                    format_args!("{}: {}", client.server, escape(&reason)),
                ));
            }
            _ => return Err(Failure::bad_input(format_args!("{} answers out of turn", client.server))),
        };
        told?;
        test.check_ports(&ports).map_err(Failure::bad_input)?;
        let dial = ports.iter().map(|&port| SocketAddr::new(server.ip(), port)).collect();
        Ok(Self { client, stop, test, line, server, dial, ends })
    }

    /// Data begins to flow once the engines dial, so whatever takes a moment comes before.
    fn measure(&mut self) -> Result<Finding, Failure> {
        let role = if self.test.reverse { Role::Sender } else { Role::Receiver };
        let (host, before) = (Host::here(&self.ends.io()), Before::now());
        self.ends.add(&self.test, &self.dial)?;
        let mut meter = Meter::since(before, self.ends.engines(), role, host);
        self.wait_for_bytes(&mut meter)?;
        let mut intervals = Vec::new();
        let mut omitting = !self.client.omit.is_zero();
        let (mut heard_of, mut stall) = (Instant::now(), Stall::new());
        let came_all = loop {
            let complete = self.ends.take_events()? | listen(&mut self.line, &self.client.server)?;
            if let Some(interval) = meter.tick(|| self.ends.have()) {
                intervals.push(self.show(interval)?);
            }
            if omitting && meter.elapsed() >= self.client.omit {
                omitting = false;
                say(&mut self.line, &self.client.server, Word::Restart)?;
                meter.restart();
            }
            if heard_of.elapsed() >= ALIVE_EVERY {
                heard_of = Instant::now();
                say(&mut self.line, &self.client.server, Word::Alive)?;
            }
            if complete || self.is_over(&meter) || self.stop.requested().is_some() {
                break complete;
            }
            stall.check(meter.bytes())?;
        };
        let last = meter.last_interval(self.ends.have());
        let ours = meter.finish();
        if let Some(interval) = last {
            intervals.push(self.show(interval)?);
        }
        if omitting {
            note("it was over before --omit was: nothing is left out");
            intervals.iter_mut().for_each(|interval| interval.omitted = false);
        }
        // Content for a test by time is made for the fastest link, but has no more pieces than a torrent may have.
        if came_all && matches!(self.client.extent, Extent::Time(_)) {
            note("all of the content came before --time was over; choose a larger --piece-length for more");
        }
        let theirs = self.ask_for_theirs()?;
        let (receiver, sender) = if self.test.reverse { (theirs, ours) } else { (ours, theirs) };
        let shares_machine = receiver.host.boot_id == sender.host.boot_id;
        let stated = self.client.link_mbit_per_s;
        let link = Link::to(self.line.stream(), stated).filter(|_| stated.is_some() || !shares_machine);
        Ok(Finding { test: self.test, receiver, sender, shares_machine, link, intervals })
    }

    /// Shows an interval, which is left out of the figures if most of it is before `--omit` is over.
    fn show(&self, mut interval: Interval) -> Result<Interval, Failure> {
        interval.omitted = interval.from_s.midpoint(interval.to_s) < self.client.omit.as_secs_f64();
        self.client.present.interval(&interval)?;
        Ok(interval)
    }

    /// Waits until data flows, so that setting up does not count.
    fn wait_for_bytes(&self, meter: &mut Meter<'_>) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        while !meter.has_begun() {
            self.ends.take_events()?;
            if let Some(exit) = self.stop.requested() {
                return Err(Failure::new(exit, "stopped before anything was measured"));
            }
            if Instant::now() > until {
                return Err(Failure::new(
                    Exit::NoPeers,
                    format_args!(
                        "the server answers at {}, but no data comes through within {} s: are the ports behind it open too?",
                        self.server,
                        PATIENCE.as_secs()
                    ),
                ));
            }
            std::thread::sleep(FIRST_LOOK);
        }
        Ok(())
    }

    fn is_over(&self, meter: &Meter<'_>) -> bool {
        match self.client.extent {
            Extent::Size(_) => false,
            Extent::Time(time) => meter.elapsed() >= time + self.client.omit,
        }
    }

    fn ask_for_theirs(&mut self) -> Result<Side, Failure> {
        let (line, server) = (&mut self.line, &self.client.server);
        say(line, server, Word::Stop)?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Found::Text(text) = line.look().map_err(|error| lost(server, &error))?
                && let Answer::Measured(side) = parse(&text).map_err(Failure::bad_input)?
            {
                return Ok(*side);
            }
        }
        Err(Failure::new(Exit::NoPeers, format_args!("{server} does not say what it measured")))
    }
}

/// Hears what the server says, if anything: whether all of the content is there.
fn listen(line: &mut Line, server: &str) -> Result<bool, Failure> {
    match line.look().map_err(|error| lost(server, &error))? {
        Found::Nothing => Ok(false),
        Found::Text(text) => match parse(&text).map_err(Failure::bad_input)? {
            Answer::Refused { reason } => Err(Failure::new(Exit::Other, escape(&reason))),
            answer => Ok(answer == Answer::Complete),
        },
    }
}

fn connect(server: &str) -> Result<(Line, SocketAddr), Failure> {
    let cannot = |error: &io::Error| {
        Failure::new(
            Exit::NoPeers,
            format_args!(
                "cannot reach {}: {error}; is ringtide bench net --server running there?",
                escape(server)
            ),
        )
    };
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for addr in server.to_socket_addrs().map_err(|error| cannot(&error))? {
        match TcpStream::connect_timeout(&addr, PATIENCE).and_then(Line::new) {
            Ok(line) => return Ok((line, addr)),
            Err(error) => last = error,
        }
    }
    Err(cannot(&last))
}

fn answer(line: &mut Line, client: &Client, stop: &Stop) -> Result<Answer, Failure> {
    let found = line.wait(PATIENCE, || stop.requested().is_none());
    match found.map_err(|error| lost(&client.server, &error))? {
        Some(text) => parse(&text).map_err(|_| {
            Failure::bad_input(format_args!("{} is no ringtide bench net --server", escape(&client.server)))
        }),
        None => Err(stop.requested().map_or_else(
            || {
                let server = escape(&client.server);
                Failure::new(
                    Exit::NoPeers,
                    format_args!("{server} does not answer; is it ringtide bench net --server?"),
                )
            },
            |exit| Failure::new(exit, "stopped"),
        )),
    }
}

fn say(line: &mut Line, server: &str, word: Word) -> Result<(), Failure> {
    line.say(&word).map_err(|error| lost(server, &error))
}

fn lost(server: &str, error: &io::Error) -> Failure {
    let why = if error.kind() == io::ErrorKind::UnexpectedEof {
        "it closed the connection".to_owned()
    } else {
        error.to_string()
    };
    Failure::new(Exit::NoPeers, format_args!("lost the server {}: {why}", escape(server)))
}
