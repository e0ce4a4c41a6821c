//! Which address of this host others see: that of the way to them. For racks (`--lan`), which are told by subnet.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ringtide_proto::limits::MAX_PEER_CANDIDATES;

/// Which addresses of ours are known: trackers name the same peers again and again, and each look costs a socket.
#[derive(Debug, Default)]
pub(super) struct OwnAddrs {
    /// Those whose way was looked up; forgotten when there are more than a torrent knows of.
    asked: BTreeSet<IpAddr>,
    known: BTreeSet<IpAddr>,
}

impl OwnAddrs {
    /// The address from which that one is reached, if it is news.
    pub(super) fn news_towards(&mut self, addr: IpAddr) -> Option<IpAddr> {
        self.news(addr, towards)
    }

    fn news(&mut self, addr: IpAddr, towards: impl FnOnce(IpAddr) -> Option<IpAddr>) -> Option<IpAddr> {
        if self.asked.len() >= MAX_PEER_CANDIDATES {
            self.asked.clear();
        }
        if !self.asked.insert(addr.to_canonical()) {
            return None;
        }
        towards(addr).filter(|&own| self.known.insert(own))
    }
}

/// The address from which that one is reached, as the routing table has it; none where there is no way. Nothing is sent.
fn towards(addr: IpAddr) -> Option<IpAddr> {
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
    fn each_way_is_looked_up_once_and_each_address_told_once() {
        let (mut own, mut looked) = (OwnAddrs::default(), 0);
        let mut news = |last: u8| {
            own.news(IpAddr::from([10, 0, 0, last]), |_| {
                looked += 1;
                Some(IpAddr::from([10, 0, 0, 100 + last / 10]))
            })
        };
        let told: Vec<Option<IpAddr>> = [1, 1, 2, 11, 1, 11].map(&mut news).into();
        let first = |last| Some(IpAddr::from([10, 0, 0, last]));
        assert_eq!(told, [first(100), None, None, first(101), None, None]);
        assert_eq!(looked, 3);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut own = OwnAddrs::default();
        for number in 0..10 * MAX_PEER_CANDIDATES as u32 {
            own.news(IpAddr::from(number.to_be_bytes()), |_| None);
        }
        assert!(own.asked.len() <= MAX_PEER_CANDIDATES);
    }

    #[test]
    fn the_way_to_ourselves_is_from_ourselves() {
        for addr in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert_eq!(towards(addr.parse().unwrap()), Some(IpAddr::from([127, 0, 0, 1])));
        }
    }
}
