//! Networks of a test's own: hosts with addresses 10.77.0.N and fd77::N on one bridge, each a network namespace that
//! lives as long as a sleeping process in it. They reach each other and nothing else.
//!
//! Needs root, or root in a user namespace (`unshare -Urn`), and iproute2 and util-linux.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::wait;

/// A switch with hosts. Drop it after its hosts' programs.
#[derive(Debug)]
pub struct Network {
    holder: Process,
    scratch: TempDir,
    next: AtomicU8,
}

/// A host on a [`Network`]: start programs on it with [`Host::spawn`], run code on it with [`Host::enter`].
#[derive(Debug)]
pub struct Host {
    holder: Process,
    scratch: PathBuf,
    number: u8,
}

impl Network {
    /// Lays a network.
    ///
    /// # Panics
    /// When this process may not create network namespaces; the message says what to do.
    pub fn new() -> Self {
        let scratch =
            tempfile::Builder::new().prefix("ringtide-net-").tempdir().expect("a temporary directory");
        let holder = hold_namespace("switch", scratch.path());
        inside(&holder, "ip link add br0 type bridge && ip link set br0 up");
        Self { holder, scratch, next: AtomicU8::new(1) }
    }

    /// Connects one more host (at most 254).
    ///
    /// # Panics
    /// When the kernel refuses the namespace or the link.
    pub fn host(&self) -> Host {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!((1..255).contains(&number), "a network has room for 254 hosts");
        let scratch = self.scratch.path().join(format!("host{number}"));
        fs::create_dir(&scratch).expect("a directory for the host's logs");
        let holder = hold_namespace("host", &scratch);
        let pid = holder.pid();
        let link = format!("ip link add v{number} type veth peer name eth0 netns {pid}");
        inside(&self.holder, &format!("{link} && ip link set v{number} master br0 up"));
        let addresses = format!(
            "ip addr add 10.77.0.{number}/24 dev eth0 && ip addr add fd77::{number}/64 dev eth0 nodad"
        );
        inside(&holder, &format!("{addresses} && ip link set lo up && ip link set eth0 up"));
        Host { holder, scratch, number }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// Its IPv4 address.
    pub fn addr(&self) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, self.number).into()
    }

    /// Its IPv6 address.
    pub fn addr6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into()).into()
    }

    /// Its IPv4 address with a port.
    pub fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addr(), port)
    }

    /// A directory for the logs, settings and sessions of the programs on this host.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let target = self.holder.pid().to_string();
        process::mortal(&["nsenter", "--target", &target, "--net", "--"], program)
    }

    /// Starts a command made by [`Host::command`]; `name` is for its logs.
    pub fn spawn(&self, command: Command, name: &str) -> Process {
        Process::spawn(command, name, &self.scratch)
    }

    /// Waits until something accepts connections at its IPv4 address.
    ///
    /// # Panics
    /// When nothing does within [`wait::HANG`].
    pub fn wait_listening(&self, port: u16) {
        let what = format!("something to listen at {}", self.socket(port));
        wait::until(&what, || self.enter(|| TcpStream::connect(self.socket(port))).is_ok());
    }

    /// Runs `work` on a thread that lives on this host: the sockets it opens are this host's.
    ///
    /// # Panics
    /// When the thread may not enter, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace =
            File::open(namespace_of(self.holder.pid())).expect("the namespace of a living process");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("entering a namespace of our own");
                work()
            });
            inside.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        })
    }
}

/// A process that sleeps in a network namespace of its own.
fn hold_namespace(name: &str, logs: &Path) -> Process {
    let ours = fs::read_link("/proc/self/ns/net").expect("procfs");
    let mut command = process::mortal(&["unshare", "--net", "--"], "sleep");
    command.arg("infinity");
    let mut holder = Process::spawn(command, name, logs);
    wait::until("a network namespace", || {
        assert!(
            holder.is_running(),
            "cannot create a network namespace ({}): run as root or through tests/run",
            holder.stderr().trim()
        );
        let command = fs::read(format!("/proc/{}/comm", holder.pid())).unwrap_or_default();
        command == b"sleep\n" && fs::read_link(namespace_of(holder.pid())).is_ok_and(|theirs| theirs != ours)
    });
    holder
}

fn namespace_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

fn inside(holder: &Process, script: &str) {
    let mut command = Command::new("nsenter");
    command.args(["--target", &holder.pid().to_string(), "--net", "--", "sh", "-c", script]);
    process::run(command);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn talk(from: &Host, to: &Host, at: IpAddr) {
        let listener = to.enter(|| TcpListener::bind((at, 7000)).unwrap());
        let mut dialled = from.enter(|| TcpStream::connect((at, 7000)).unwrap());
        let (mut accepted, peer) = listener.accept().unwrap();
        assert!(peer.ip() == from.addr() || peer.ip() == from.addr6());
        dialled.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[test]
    fn hosts_reach_each_other_and_nothing_else() {
        let network = Network::new();
        let (one, two) = (network.host(), network.host());
        talk(&one, &two, two.addr());
        talk(&two, &one, one.addr6());
        let outside = one.enter(|| TcpStream::connect(("192.0.2.1", 80)));
        assert!(outside.is_err());
    }
}
