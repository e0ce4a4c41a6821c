//! Which address of this host others see: that of the way to them. For racks (`--lan`), which are told by subnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The address from which that one is reached, as the routing table has it; none where there is no way. Nothing is sent.
pub(super) fn towards(addr: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match addr.to_canonical() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Connecting a datagram socket looks the way up. The port is of no importance.
    socket.connect((addr.to_canonical(), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_is_from_ourselves() {
        for addr in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert_eq!(towards(addr.parse().unwrap()), Some(IpAddr::from([127, 0, 0, 1])));
        }
    }
}
