//! Threads and listeners: everything an engine consists of, started together and joined together.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use ringtide_hasher::{Algorithm, Dispatcher, Kernel};
use ringtide_proto::torrent::{Budget, MAX_SHARDS, ShardId};
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

use super::http::HttpClient;
use super::{Command, Inbox, Session};
use crate::clock::Clock;
use crate::config::Config;
use crate::driver::{Driver, DriverConfig, DriverError, IoKind, Waker};
use crate::engine::EngineError;
use crate::event::Event;
use crate::hash_pool::{Batching, HashPool, PanicCall, PoolConfig, ShortCheck};
use crate::mailbox::{MailSender, Mailbox, Sleeper, mailbox, shared};
use crate::shard::{Common, Counters, RateLimits, Seats, Shard, ToControl, ToShard};
use crate::storage::{BufferPool, HotPieces, descriptors_for_files};

/// Connections that wait to be accepted, a listener: a flash crowd arrives within a second.
const BACKLOG: i32 = 1024;

/// Memory for blocks that are read to be sent, of all shards together.
const UPLOAD_BYTES: usize = 32 << 20;

/// The part of the memory for pieces that is for those which were just verified and may be asked for at once.
const HOT_SHARE: u64 = 6;

/// Pool of piece buffers beyond what is leased: a hash worker may hold a piece for a moment after its lease was
/// given back. Only address space until it is used.
const POOL_SLACK: u64 = 2;

/// The least that the pool of piece buffers is made for: four of the longest pieces.
const POOL_LEAST: u64 = 4 * ringtide_proto::limits::MAX_PIECE_LEN as u64;

/// The ways into a running engine.
pub(crate) struct Wiring {
    pub(crate) control: MailSender<Inbox>,
    pub(crate) events: Receiver<Event>,
    pub(crate) common: Arc<Common>,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) shards: u8,
}

/// The threads of a running engine. Dropped, it ends and joins them.
pub(crate) struct Threads {
    control: MailSender<Inbox>,
    shards: Vec<MailSender<ToShard>>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// The ways to the shards.
    pub(crate) fn shards(&self) -> &[MailSender<ToShard>] {
        &self.shards
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.control.send(Inbox::Command(Command::Quit));
        for shard in &self.shards {
            shard.send(ToShard::Quit);
        }
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!("a thread of the engine ended with a panic");
            }
        }
    }
}

/// Tells of the panic of a thread, of which it is a local variable: nobody joins the thread before the engine ends,
/// and without it the engine would only stand still.
struct Watch<F: FnMut(String)>(String, F);

impl<F: FnMut(String)> Drop for Watch<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.1)(format!("{} ended with a panic, which is a bug", self.0));
        }
    }
}

/// How many shards and hash threads suit the machine, where nothing was asked for: one of each for a CPU.
///
/// That hash threads share the CPUs with shards does no harm: one that is not needed sleeps, since a worker alone gathers
/// batches. Others join in while it is busy and jobs need not wait: they are enough, urgent, alone or overdue, or buffers
/// are short, or nothing is to wait ([`Config::latency`]). On two CPUs, one thread and two cost the same (0.37 and 0.38
/// user CPU-seconds per GB from one fast seed) and take as long; the second is there for blocking work on files. More than
/// there may be shards are hardly of use: a core hashes several GB a second and receives one or two.
fn sizes(config: &Config) -> (u8, usize) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = config.shards.map_or(cpus, usize::from).clamp(1, MAX_SHARDS);
    (shards as u8, config.hash_threads.unwrap_or(cpus.min(MAX_SHARDS)).max(1))
}

/// Peers for whom there are descriptors enough. The rest is for files: a stranger who opens connections must not make a
/// write fail.
fn affordable_peers() -> usize {
    peers_within(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn peers_within(descriptors: u64) -> usize {
    usize::try_from(descriptors - descriptors_for_files(descriptors)).unwrap_or(usize::MAX)
}

/// Starts everything.
pub(crate) fn start(config: &Config, io: IoKind) -> Result<(Threads, Wiring), EngineError> {
    let (shards, hash_threads) = sizes(config);
    let (listeners, listen) = bind_all(&config.listen, shards)?;
    let hot_bytes = config.memory / HOT_SHARE;
    let budget = Arc::new(Budget::new(config.memory - hot_bytes));
    let piece_buffers = BufferPool::new((config.memory.max(POOL_LEAST) * POOL_SLACK) as usize);
    let notify = Arc::new(Notify::new());
    let waker = Arc::clone(&notify);
    let sleeper = Sleeper::new(Waker::from_fn(Arc::new(move || waker.notify_one())));
    let (control, mail) = shared::<Inbox>(&sleeper);
    let hash_pool = HashPool::start_with(PoolConfig {
        threads: hash_threads,
        batching: batching(config, widest_kernel()),
        short: Some(short_check(&budget, &piece_buffers)),
        panicked: Some(panic_call(&control)),
    });
    let hash_pool = hash_pool.map_err(EngineError::Thread)?;
    if config.measure {
        hash_pool.measure();
    }
    let (events_in, events) = unbounded();
    let common = Arc::new(Common {
        clock: Clock::start(),
        hash_pool: Arc::new(hash_pool),
        piece_buffers,
        budget,
        hot: HotPieces::new(hot_bytes as usize),
        upload_buffers: BufferPool::new(UPLOAD_BYTES),
        limits: RateLimits::new(config.rates),
        seats: Seats::new(config.max_peers.min(affordable_peers())),
        counters: Counters::of_shards(shards),
        listen_port: listen.first().map(SocketAddr::port),
        control: control.clone(),
        measure: config.measure,
        zero_copy: config.zero_copy,
    });
    let mut threads = Threads { control: control.clone(), shards: Vec::new(), handles: Vec::new() };
    start_shards(io, &common, listeners, &mut threads)?;
    start_control(io, &common, (control.clone(), mail), notify, events_in, &mut threads)?;
    Ok((threads, Wiring { control, events, common, listen, shards }))
}

/// How pieces are hashed together by kernels that hash up to `lanes` in step.
fn batching(config: &Config, lanes: usize) -> Batching {
    if config.latency { Batching::LATENCY } else { Batching::THROUGHPUT.for_lanes(lanes) }
}

/// How many pieces the hasher hashes in step where there are many.
fn widest_kernel() -> usize {
    let kernels = Dispatcher::current().mix(Algorithm::Sha1, Batching::THROUGHPUT.most_jobs);
    kernels.into_iter().map(Kernel::lanes).max().unwrap_or(1)
}

/// Piece buffers are short once those in use are more than half of what may be leased. Leases would not tell: what
/// many peers were asked for is always about half.
fn short_check(budget: &Arc<Budget>, buffers: &BufferPool) -> ShortCheck {
    let (budget, buffers) = (Arc::clone(budget), buffers.clone());
    Arc::new(move || buffers.used_bytes() as u64 > budget.limit() / 2)
}

/// A worker's panic ends it all: whoever waits for what the worker was to do would wait for ever.
fn panic_call(control: &MailSender<Inbox>) -> PanicCall {
    let control = control.clone();
    Arc::new(move || {
        let reason = "a hash worker panicked, which is a bug".to_owned();
        control.send(Inbox::Shard(ToControl::ShardFailed(reason)));
    })
}

/// A shard's driver must be made on its own thread, and its waker is needed by all others: each says where its
/// mail goes, and waits to hear of the rest.
fn start_shards(
    io: IoKind,
    common: &Arc<Common>,
    listeners: Vec<Vec<TcpListener>>,
    threads: &mut Threads,
) -> Result<(), EngineError> {
    let mut links = Vec::new();
    for (number, listeners) in listeners.into_iter().enumerate() {
        let (mail_in, mail_out) = bounded(1);
        let (links_in, links_out) = bounded::<Vec<MailSender<ToShard>>>(1);
        let common = Arc::clone(common);
        let body = move || {
            let control = common.control.clone();
            let _watch = Watch(format!("shard {number}"), {
                let control = control.clone();
                move |reason| {
                    control.send(Inbox::Shard(ToControl::ShardFailed(reason)));
                }
            });
            if let Err(error) = run_shard(io, ShardId(number as u8), common, listeners, &mail_in, &links_out)
            {
                control.send(Inbox::Shard(ToControl::ShardFailed(format!("shard {number} ended: {error}"))));
            }
        };
        let name = format!("ringtide-{number}");
        let handle = std::thread::Builder::new().name(name).spawn(body).map_err(EngineError::Thread)?;
        threads.handles.push(handle);
        let mail = mail_out.recv().unwrap_or(Err(DriverError::Setup {
            what: "a shard",
            error: io::Error::other("its thread ended"),
        }));
        threads.shards.push(mail.map_err(EngineError::Driver)?);
        links.push(links_in);
    }
    for link in links {
        // A shard that ended meanwhile has said so.
        let _ = link.send(threads.shards.clone());
    }
    Ok(())
}

fn run_shard(
    io: IoKind,
    id: ShardId,
    common: Arc<Common>,
    listeners: Vec<TcpListener>,
    mail_in: &Sender<Result<MailSender<ToShard>, DriverError>>,
    links: &Receiver<Vec<MailSender<ToShard>>>,
) -> io::Result<()> {
    let config = DriverConfig { zero_copy: common.zero_copy, ..DriverConfig::default() };
    let driver = match Driver::new(io, &config) {
        Ok(driver) => driver,
        Err(error) => {
            let _ = mail_in.send(Err(error));
            return Ok(());
        }
    };
    let (sender, mail) = mailbox(driver.waker());
    let _ = mail_in.send(Ok(sender));
    // Nobody sends: starting failed elsewhere.
    let Ok(links) = links.recv() else { return Ok(()) };
    let mut shard = Shard::new(id, common, driver, mail, links);
    for listener in listeners {
        shard.listen(listener)?;
    }
    shard.run()
}

fn start_control(
    io: IoKind,
    common: &Arc<Common>,
    mail: (MailSender<Inbox>, Mailbox<Inbox>),
    notify: Arc<Notify>,
    events: Sender<Event>,
    threads: &mut Threads,
) -> Result<(), EngineError> {
    let (common, shards) = (Arc::clone(common), threads.shards.clone());
    let http = HttpClient::new(None).map_err(|error| EngineError::Http(error.to_string()))?;
    let body = move || {
        let failed = events.clone();
        let _watch = Watch("the control plane".to_owned(), {
            let events = events.clone();
            move |reason| drop(events.send(Event::Failed(reason)))
        });
        let session = Session::new(common, shards, mail, notify, events, http);
        if let Err(error) = super::run(io, session) {
            let _ = failed.send(Event::Failed(format!("the control plane cannot run: {error}")));
        }
    };
    let handle = std::thread::Builder::new().name("ringtide-control".to_owned()).spawn(body);
    threads.handles.push(handle.map_err(EngineError::Thread)?);
    Ok(())
}

/// For every shard a listener on every address; where port 0 was asked for, all on the one that the kernel chose.
fn bind_all(
    addrs: &[SocketAddr],
    shards: u8,
) -> Result<(Vec<Vec<TcpListener>>, Vec<SocketAddr>), EngineError> {
    let mut listeners: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for &addr in addrs {
        let mut actual = addr;
        for listeners in &mut listeners {
            let bind_error = |source| EngineError::Bind { addr, source };
            let listener = bind(actual).map_err(bind_error)?;
            actual = listener.local_addr().map_err(bind_error)?;
            listeners.push(listener);
        }
        bound.push(actual);
    }
    Ok((listeners, bound))
}

/// One of several listeners on the same address (SO_REUSEPORT): the kernel spreads connections over them.
fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_wait_for_each_other_as_lanes_can_be_filled() {
        let for_lanes = |latency, lanes| {
            let Batching { enough_jobs, wait, .. } =
                batching(&Config { latency, ..Config::default() }, lanes);
            (enough_jobs, !wait.is_zero())
        };
        let found = [1, 4, 8, 16, 32].map(|lanes| for_lanes(false, lanes));
        assert_eq!(found, [(1, false), (4, true), (8, true), (16, true), (16, true)]);
        assert!(!for_lanes(true, 16).1, "for latency nothing waits");
        assert!((1..=32).contains(&widest_kernel()));
    }

    #[test]
    fn files_keep_descriptors_of_their_own() {
        assert_eq!([0, 1024, 20_000].map(peers_within), [0, 512, 15_904]);
    }

    #[test]
    fn a_panic_is_told() {
        let (sender, told) = unbounded();
        let watched = |panics: bool| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let _watch = Watch("x".to_owned(), move |reason| drop(sender.send(reason)));
                assert!(!panics, "a bug, for the test");
            })
            .join()
        };
        assert!(watched(false).is_ok() && told.is_empty());
        assert!(watched(true).is_err());
        assert_eq!(told.try_recv().as_deref(), Ok("x ended with a panic, which is a bug"));
    }

    #[test]
    fn a_panic_of_a_hash_worker_is_a_failure() {
        let (control, mail) = shared::<Inbox>(&Sleeper::new(Waker::from_fn(Arc::new(|| {}))));
        panic_call(&control)();
        assert!(matches!(mail.try_recv(), Some(Inbox::Shard(ToControl::ShardFailed(_)))));
    }
}
