//! `Link`: the network interface that leads to a host, and what it can carry, as far as the kernel knows.
//!
//! A virtual interface (veth, bridge, tun) has no speed of its own, whatever it claims; its speed counts as unknown, unless
//! it stands on one that has a device, as a VLAN or a bond does.

use std::cmp::Reverse;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) interface: String,
    /// As its driver says, or whoever measures.
    pub(crate) mbit_per_s: u64,
    pub(crate) mtu: u64,
    pub(crate) is_ipv6: bool,
}

/// Bytes of a frame that are no IP packet: preamble 8, header 14, checksum 4, gap 12.
const FRAME: u64 = 38;
/// Bytes of the headers of a TCP segment with timestamps.
const TCP: u64 = 32;

impl Link {
    /// The one that a connection goes over, as fast as `stated` or else as its driver says. None where nothing is known of
    /// its speed.
    pub(crate) fn to(stream: &TcpStream, stated: Option<u64>) -> Option<Self> {
        let (local, peer) = (stream.local_addr().ok()?.ip(), stream.peer_addr().ok()?.ip());
        let is_ipv6 = peer.to_canonical().is_ipv6();
        let is_here = local == peer || peer.is_loopback();
        let interface = if is_here { None } else { interface(local, peer) };
        let sysfs = interface.as_ref().map(|interface| Path::new("/sys/class/net").join(interface));
        let number =
            |name: &str| fs::read_to_string(sysfs.as_ref()?.join(name)).ok()?.trim().parse::<u64>().ok();
        let is_known = sysfs.as_deref().is_some_and(is_on_a_device);
        // A driver that does not know says -1.
        let said = number("speed").filter(|&speed| is_known && speed > 0);
        Some(Self {
            mbit_per_s: stated.or(said)?,
            mtu: number("mtu").unwrap_or(1500),
            interface: interface.unwrap_or_else(|| "as stated".to_owned()),
            is_ipv6,
        })
    }

    /// Payload of TCP that full frames carry, in decimal gigabytes per second.
    pub(crate) fn payload_gb_per_s(&self) -> f64 {
        let headers = TCP + if self.is_ipv6 { 40 } else { 20 };
        let payload = self.mtu.saturating_sub(headers) as f64 / (self.mtu + FRAME) as f64;
        self.mbit_per_s as f64 / 8000.0 * payload
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, mbit_per_s, mtu, .. } = self;
        write!(
            f,
            "{interface}: {} Gbit/s, MTU {mtu}, which carries {:.3} GB/s of TCP payload",
            *mbit_per_s as f64 / 1000.0,
            self.payload_gb_per_s()
        )
    }
}

/// The interface that leads to `peer`.
fn interface(local: IpAddr, peer: IpAddr) -> Option<String> {
    match peer.to_canonical() {
        IpAddr::V4(addr) => route_v4(&fs::read_to_string("/proc/net/route").ok()?, addr),
        IpAddr::V6(_) => interface_v6(&fs::read_to_string("/proc/net/if_inet6").ok()?, local),
    }
}

/// Whether the interface is hardware, or stands on some.
fn is_on_a_device(sysfs: &Path) -> bool {
    let is_lower =
        |path: PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lower_"));
    let mut entries = fs::read_dir(sysfs).into_iter().flatten().flatten().map(|entry| entry.path());
    sysfs.join("device").exists() || entries.any(|path| is_lower(path.clone()) && is_on_a_device(&path))
}

/// The interface of the narrowest route to the address, of several the one of the lowest metric, in `/proc/net/route`, whose numbers are hexadecimal and in the
/// byte order of the machine.
fn route_v4(table: &str, addr: Ipv4Addr) -> Option<String> {
    let addr = u32::from_ne_bytes(addr.octets());
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |field: usize| u32::from_str_radix(fields.get(field)?, 16).ok();
        let (destination, mask) = (hex(1)?, hex(7)?);
        let metric = fields.get(6)?.parse::<u32>().ok()?;
        (addr & mask == destination).then(|| (mask.count_ones(), Reverse(metric), fields[0].to_owned()))
    });
    routes.max_by_key(|(bits, metric, _)| (*bits, *metric)).map(|(_, _, interface)| interface)
}

/// The interface that has the address, of `/proc/net/if_inet6`.
fn interface_v6(table: &str, local: IpAddr) -> Option<String> {
    let IpAddr::V6(local) = local else { return None };
    let wanted: String = local.octets().iter().map(|byte| format!("{byte:02x}")).collect();
    let line = table.lines().find(|line| line.starts_with(&wanted))?;
    line.split_whitespace().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        fast1\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_narrowest_route_counts() {
        assert_eq!(route_v4(ROUTES, Ipv4Addr::new(10, 0, 2, 9)).as_deref(), Some("fast1"));
        assert_eq!(route_v4(ROUTES, Ipv4Addr::new(192, 0, 2, 7)).as_deref(), Some("eth0"));
        assert_eq!(route_v4("Iface\n", Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    fn of_two_default_routes_the_lower_metric_counts() {
        let route = |interface: &str, metric: u32| {
            format!("{interface}\t00000000\t010200C0\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0\n")
        };
        let there = Ipv4Addr::new(192, 0, 2, 7);
        let (wire, air) = (route("eth0", 100), route("wlan0", 600));
        for table in [format!("Iface\n{wire}{air}"), format!("Iface\n{air}{wire}")] {
            assert_eq!(route_v4(&table, there).as_deref(), Some("eth0"));
        }
    }

    #[test]
    fn addresses_of_version_6_are_found() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
            20010db8000000000000000000000005 03 40 00 80     eth7\n";
        assert_eq!(interface_v6(table, "2001:db8::5".parse().expect("valid")).as_deref(), Some("eth7"));
        assert_eq!(interface_v6(table, "2001:db8::6".parse().expect("valid")), None);
    }

    #[test]
    fn headers_and_gaps_are_no_payload() {
        let link = |mtu| Link { interface: "x".to_owned(), mbit_per_s: 10_000, mtu, is_ipv6: false };
        assert!((link(1500).payload_gb_per_s() - 1.1769).abs() < 0.0001);
        assert!((link(9000).payload_gb_per_s() - 1.2376).abs() < 0.0001);
        assert!(link(1500).to_string().contains("10 Gbit/s, MTU 1500, which carries 1.177 GB/s"));
    }

    #[test]
    fn loopback_is_no_link() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        assert_eq!(Link::to(&stream, None), None);
        let stated = Link::to(&stream, Some(10_000)).expect("is stated");
        assert_eq!((stated.mbit_per_s, stated.interface.as_str()), (10_000, "as stated"));
    }
}
