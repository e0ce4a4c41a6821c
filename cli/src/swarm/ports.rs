//! `Ports`: where to listen, found out before the engine does.
//!
//! The engine's listeners share ports (SO_REUSEPORT), so two processes of one user could take the same port
//! without noticing and share the connections too. A probe finds other programs; a name in the abstract namespace of
//! Unix sockets, which belongs to the network namespace as ports do, keeps ringtides apart for as long as they run.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use crate::exit::{Exit, Failure};

/// The ports that are tried by default: those BitTorrent clients have always used (BEP 3).
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;
/// How often another port of the kernel's choice is tried, should IPv6 not have the one that IPv4 got.
const EPHEMERAL_TRIES: usize = 8;

/// Addresses that nobody else listens at, held until dropped.
pub(super) struct Ports {
    addrs: Vec<SocketAddr>,
    claims: Vec<UnixListener>,
}

impl Ports {
    pub(super) fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// All addresses of this host, IPv4 and IPv6, at the first default port that is free, or at any.
    pub(super) fn find() -> Self {
        let ephemeral = (0..EPHEMERAL_TRIES).filter_map(|_| unused_port());
        DEFAULT_PORTS
            .chain(ephemeral)
            .find_map(|port| Ports::everywhere(port).ok())
            // Nowhere: peers can still be dialled.
            .unwrap_or(Ports { addrs: Vec::new(), claims: Vec::new() })
    }

    /// These addresses, or an error that says which cannot be had.
    pub(super) fn claim(addrs: &[SocketAddr]) -> Result<Self, Failure> {
        let mut ports = Ports { addrs: Vec::new(), claims: Vec::new() };
        for addr in addrs {
            ports.add(*addr).map_err(|error| cannot_listen("--listen", *addr, &error))?;
        }
        Ok(ports)
    }

    fn everywhere(port: u16) -> io::Result<Self> {
        let mut ports = Ports { addrs: Vec::new(), claims: Vec::new() };
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        for ip in any {
            match ports.add(SocketAddr::new(ip, port)) {
                // A host without this version of IP.
                Err(error)
                    if matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => {}
                // EAFNOSUPPORT has no kind of its own.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                }
                result => result?,
            }
        }
        if ports.addrs.is_empty() { Err(ErrorKind::AddrNotAvailable.into()) } else { Ok(ports) }
    }

    fn add(&mut self, addr: SocketAddr) -> io::Result<()> {
        if addr.port() != 0 {
            // The standard library sets no SO_REUSEPORT, so this fails where anybody listens.
            drop(TcpListener::bind(addr)?);
            let name = UnixAddr::from_abstract_name(format!("ringtide/listen/{addr}"))?;
            self.claims.push(UnixListener::bind_addr(&name)?);
        }
        self.addrs.push(addr);
        Ok(())
    }
}

fn unused_port() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))
        .or_else(|_| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)));
    Some(listener.ok()?.local_addr().ok()?.port())
}

/// An address of that option cannot be had.
pub(crate) fn cannot_listen(option: &str, addr: SocketAddr, error: &io::Error) -> Failure {
    let (exit, advice) = match error.kind() {
        ErrorKind::AddrInUse => (Exit::NoPeers, "choose another port, or 0 for any that is free"),
        ErrorKind::AddrNotAvailable => (Exit::NoPeers, "no interface has that address; see `ip address`"),
        ErrorKind::PermissionDenied => (Exit::Refused, "ports below 1024 are for root; choose a higher one"),
        _ => (Exit::NoPeers, "choose another address"),
    };
    Failure::new(exit, format_args!("cannot listen on {addr} ({option}): {error}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    #[test]
    fn a_port_is_promised_once() {
        let port = unused_port().expect("some port is free");
        let first = Ports::claim(&[local(port)]).expect("is free");
        let again =
            Ports::claim(&[local(port)]).map(|_| ()).expect_err("is taken, though nobody listens yet");
        assert_eq!(again.exit, Exit::NoPeers);
        assert!(again.message.contains("choose another port"), "{}", again.message);
        drop(first);
        Ports::claim(&[local(port)]).expect("is free again");
    }

    #[test]
    fn a_port_of_another_program_is_left_alone() {
        let other = TcpListener::bind(local(0)).expect("some port is free");
        let addr = other.local_addr().expect("is bound");
        assert!(Ports::claim(&[addr]).is_err());
        assert!(Ports::everywhere(addr.port()).is_err(), "also when only one address of the port is taken");
    }

    #[test]
    fn by_default_there_is_always_a_port() {
        let ports: Vec<_> = (0..12).map(|_| Ports::find()).collect();
        let mut numbers: Vec<_> = ports.iter().map(|ports| ports.addrs()[0].port()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 12, "nobody shares");
    }

    #[test]
    fn any_port_is_the_kernels_choice() {
        let ports = Ports::claim(&[local(0), local(0)]).expect("is possible");
        assert_eq!(ports.addrs(), [local(0), local(0)]);
    }
}
