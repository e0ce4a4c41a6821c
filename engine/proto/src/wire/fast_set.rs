//! The canonical allowed-fast set (BEP 6): which pieces a peer may ask for while choked. When it is sent is not
//! decided here.

use std::net::Ipv4Addr;

use crate::id::InfoHash;

/// The first `k` pieces of the set for the peer at `ip`, in BEP 6's order; all pieces where there are no more.
pub fn allowed_fast_set(ip: Ipv4Addr, info_hash: InfoHash, piece_count: u32, k: usize) -> Vec<u32> {
    if piece_count as usize <= k {
        return (0..piece_count).collect();
    }
    let [a, b, c, _] = ip.octets();
    let mut set = Vec::with_capacity(k);
    // BEP 6 (1), (2): the address without its last octet, then the info hash.
    let mut x = [[a, b, c, 0].as_slice(), &info_hash.0].concat();
    while set.len() < k {
        x = ringtide_hasher::sha1(&x).to_vec();
        for word in x.chunks_exact(4) {
            let piece = u32::from_be_bytes([word[0], word[1], word[2], word[3]]) % piece_count;
            if set.len() < k && !set.contains(&piece) {
                set.push(piece);
            }
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(80, 4, 4, 200);
    const HASH: InfoHash = InfoHash([0xaa; 20]);

    #[test]
    fn the_examples_of_bep_6() {
        assert_eq!(allowed_fast_set(IP, HASH, 1313, 7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(allowed_fast_set(IP, HASH, 1313, 9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
    }

    #[test]
    fn one_network_has_one_set() {
        let neighbour = Ipv4Addr::new(80, 4, 4, 1);
        assert_eq!(allowed_fast_set(neighbour, HASH, 1313, 9), allowed_fast_set(IP, HASH, 1313, 9));
    }

    #[test]
    fn small_torrents_end() {
        for count in 0..12 {
            let mut set = allowed_fast_set(IP, HASH, count, 10);
            set.sort_unstable();
            set.dedup();
            assert_eq!(set.len(), (count as usize).min(10));
            assert!(set.iter().all(|&piece| piece < count));
        }
    }
}
