//! `ringtide bench net --server`: takes part in the tests that clients ask for, one after the other.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use super::PORT;
use super::ends::{Ends, Running};
use super::protocol::{Answer, Found, Hello, Line, MAX_CONNECTIONS, Test, Word, parse};
use super::stall::Stall;
use crate::bench::meter::{Meter, Role};
use crate::bench::side::{Host, Side};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, note};
use crate::stop::Stop;
use crate::swarm::cannot_listen;
use crate::text::escape;
use crate::units::{Bytes, count};

/// How long a client may take to say what it wants, and to say that it is still there.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often new clients are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Takes part in tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Where clients come; the data flows at the ports behind it, or at any where this is 0. None: everywhere, at [`PORT`].
    pub(crate) listen: Option<SocketAddr>,
    /// Whether to end after one test.
    pub(crate) once: bool,
    pub(crate) running: Running,
    pub(crate) json: bool,
}

/// How a test ended.
enum End {
    /// The client has its result.
    Done(Box<Side>),
    /// The client went away, or made no sense.
    Gone(String),
    /// A signal came.
    Signal(Exit),
}

impl Server {
    pub(crate) fn run(self, stop: &Stop) -> Outcome {
        let (listener, addr) = self.bind()?;
        match self.json {
            true => output::print_json(&json!({ "event": "listening", "listen": addr.to_string() }))?,
            false => output::print(&format!("waiting for clients at {addr}; Ctrl-C ends"))?,
        }
        loop {
            if let Some(exit) = stop.requested() {
                return Ok(exit);
            }
            match listener.accept() {
                Ok((stream, client)) => {
                    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                    if let Some(exit) = self.serve(&listener, stream, client, stop)? {
                        return Ok(exit);
                    }
                }
                // Nobody, or somebody who was gone before, or no descriptor left for now: it may be otherwise soon.
                Err(error) => {
                    complain(&error);
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
    }

    /// Listens where it was asked to; else everywhere, or everywhere but for IPv6 where a host has none.
    fn bind(&self) -> Result<(TcpListener, SocketAddr), Failure> {
        let everywhere: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        let listen = |addr| {
            let listener = TcpListener::bind(addr)?;
            listener.set_nonblocking(true)?;
            let addr = listener.local_addr()?;
            Ok((listener, addr))
        };
        let cannot = |addr: SocketAddr, error: &io::Error| cannot_listen("--listen", addr, error);
        if let Some(addr) = self.listen {
            ports_behind(addr.port(), MAX_CONNECTIONS.into())?;
            return listen(addr).map_err(|error| cannot(addr, &error));
        }
        let [six, four] = everywhere.map(|ip| SocketAddr::new(ip, PORT));
        listen(six).or_else(|error| match error.kind() {
            ErrorKind::AddrInUse => Err(cannot(six, &error)),
            _ => listen(four).map_err(|error| cannot(four, &error)),
        })
    }

    /// One client. Returns how to end, if so.
    fn serve(
        &self,
        listener: &TcpListener,
        stream: TcpStream,
        client: SocketAddr,
        stop: &Stop,
    ) -> Result<Option<Exit>, Failure> {
        let end = match Line::new(stream) {
            Ok(mut line) => self.session(listener, &mut line, client, stop).unwrap_or_else(|failure| {
                let _ = line.say(&Answer::Refused { reason: failure.message.clone() });
                End::Gone(failure.message)
            }),
            Err(error) => End::Gone(error.to_string()),
        };
        match end {
            End::Done(side) => {
                self.tell(client, &side)?;
                Ok(self.once.then_some(Exit::Done))
            }
            End::Gone(why) => {
                note(&format!("{client}: {}", escape(&why)));
                Ok(None)
            }
            End::Signal(exit) => Ok(Some(exit)),
        }
    }

    fn session(
        &self,
        listener: &TcpListener,
        line: &mut Line,
        client: SocketAddr,
        stop: &Stop,
    ) -> Result<End, Failure> {
        let test = match line.wait(PATIENCE, || stop.requested().is_none()) {
            Ok(Some(hello)) => match Hello::parse(&hello) {
                Ok(test) => test,
                Err(reason) => {
                    let _ = line.say(&Answer::Refused { reason: reason.clone() });
                    return Ok(End::Gone(reason));
                }
            },
            Ok(None) => {
                return Ok(stop
                    .requested()
                    .map_or_else(|| End::Gone("said nothing".to_owned()), End::Signal));
            }
            Err(error) => return Ok(End::Gone(error.to_string())),
        };
        let role = if test.reverse { Role::Receiver } else { Role::Sender };
        let what = if test.reverse { "fetching from" } else { "giving to" };
        note(&format!("{what} {client} over {}", count(test.connections.into(), "connection")));
        let mut ends = Ends::start(&test, role, &self.data_addrs(line, &test)?, self.running)?;
        ends.add(&test, &[])?;
        let meter = Meter::start(ends.engines(), role, Host::here(&ends.io()));
        if let Err(error) = line.say(&Answer::ready(ends.ports())) {
            return Ok(End::Gone(error.to_string()));
        }
        Measuring { listener, line, ends: &ends, stop }.run(meter)
    }

    /// Where the engines are to accept: at the address that the client found, at the ports behind the one for clients.
    fn data_addrs(&self, line: &Line, test: &Test) -> Result<Vec<SocketAddr>, Failure> {
        let own = line.stream().local_addr();
        let ip = own
            .map_err(|error| Failure::io("cannot tell where the client came", &error))?
            .ip()
            .to_canonical();
        let count = test.server_ports();
        let ports = ports_behind(self.listen.map_or(PORT, |addr| addr.port()), count)?;
        Ok(ports.into_iter().map(|port| SocketAddr::new(ip, port)).collect())
    }

    fn tell(&self, client: SocketAddr, side: &Side) -> Result<(), Failure> {
        if self.json {
            let side = serde_json::to_value(side).map_err(|error| Failure::new(Exit::Other, error))?;
            return output::print_json(
                &json!({ "event": "measured", "client": client.to_string(), "side": side }),
            );
        }
        output::print(&format!(
            "{client}: {} {} in {:.2} s, {:.2} GB/s, {:.3} CPU-s/GB",
            if side.role == Role::Receiver.name() { "received" } else { "sent" },
            Bytes(side.bytes),
            side.wall_s,
            side.gb_per_s(),
            side.per_gb(side.cpu_s),
        ))
    }
}

/// So many ports behind this one; any, where any will do.
fn ports_behind(port: u16, count: u16) -> Result<Vec<u16>, Failure> {
    if port == 0 {
        return Ok(vec![0; count.into()]);
    }
    let ports = (1..=count).map(|number| port.checked_add(number));
    ports.collect::<Option<_>>().ok_or_else(|| {
        Failure::usage(format_args!(
            "there are no {count} ports behind {port} for the data; choose a lower one with --listen"
        ))
    })
}

/// A test under way.
struct Measuring<'a> {
    listener: &'a TcpListener,
    line: &'a mut Line,
    ends: &'a Ends,
    stop: &'a Stop,
}

impl Measuring<'_> {
    fn run(self, mut meter: Meter<'_>) -> Result<End, Failure> {
        let Self { listener, line, ends, stop } = self;
        let (mut heard, mut told, mut stall) = (Instant::now(), false, Stall::new());
        loop {
            if let Some(exit) = stop.requested() {
                return Ok(End::Signal(exit));
            }
            turn_away(listener);
            meter.tick(|| None);
            stall.check(meter.bytes())?;
            if ends.take_events()? && !std::mem::replace(&mut told, true) {
                let _ = line.say(&Answer::Complete);
            }
            match line.look() {
                Ok(Found::Nothing) if heard.elapsed() > PATIENCE => {
                    return Ok(End::Gone(format!("silent for {} s", PATIENCE.as_secs())));
                }
                Ok(Found::Nothing) => {}
                Ok(Found::Text(text)) => {
                    heard = Instant::now();
                    match parse::<Word>(&text) {
                        Ok(Word::Alive) => {}
                        Ok(Word::Restart) => meter.restart(),
                        Ok(Word::Stop) => {
                            let side = Box::new(meter.finish());
                            let told = line.say(&Answer::Measured(side.clone()));
                            return Ok(
                                told.map_or_else(|error| End::Gone(error.to_string()), |()| End::Done(side))
                            );
                        }
                        Err(why) => return Ok(End::Gone(why)),
                    }
                }
                Err(error) => return Ok(End::Gone(format!("left before the end ({error})"))),
            }
        }
    }
}

/// Says to whoever comes during a test that it is one.
fn turn_away(listener: &TcpListener) {
    let reason = "the server is busy with the test of another client; try again later".to_owned();
    while let Ok((stream, _)) = listener.accept() {
        let _ = Line::new(stream).and_then(|mut line| line.say(&Answer::Refused { reason: reason.clone() }));
    }
}

/// Says why clients cannot be accepted, unless there is none, or one that was gone before it was accepted.
fn complain(error: &io::Error) {
    let is_usual =
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted);
    if !is_usual {
        note(&format!("cannot accept clients: {error}; trying again"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_needs_ports_of_its_own() {
        assert_eq!(ports_behind(6900, 2), Ok(vec![6901, 6902]));
        assert_eq!(ports_behind(0, 2), Ok(vec![0, 0]), "any will do");
        assert_eq!(ports_behind(65_534, 1), Ok(vec![65_535]));
        let refused = ports_behind(65_534, 2).expect_err("one too many");
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.message.contains("no 2 ports behind 65534"), "{}", refused.message);
    }
}
