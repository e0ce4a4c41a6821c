//! `TcpInfo`: what the kernel counts of a TCP connection (`TCP_INFO` of tcp(7), `struct tcp_info` of linux/tcp.h).

use std::os::fd::{AsFd, AsRawFd};

/// What the kernel counts of a TCP connection, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Smoothed round-trip time, in microseconds.
    pub rtt_us: u32,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// Bytes that the other end has acknowledged.
    pub bytes_acked: u64,
    /// Bytes that were received.
    pub bytes_received: u64,
    /// Bytes per second that went out most lately.
    pub delivery_rate: u64,
    /// How long there was something to send or to be acknowledged, in microseconds.
    pub busy_us: u64,
    /// How long of that the other end's receive window was in the way, in microseconds.
    pub rwnd_limited_us: u64,
    /// How long of that the send buffer was too small, in microseconds.
    pub sndbuf_limited_us: u64,
}

/// Enough for the fields above; the kernel fills in what fits.
const LEN: usize = 192;

impl TcpInfo {
    /// Asks the kernel. `None` for what is no TCP socket, or a kernel that tells less.
    #[must_use]
    pub fn of(socket: &impl AsFd) -> Option<Self> {
        let mut bytes = [0_u8; LEN];
        let mut len = LEN as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `bytes`, both are live for the whole call, and it keeps neither.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        (result == 0 && len as usize == LEN).then(|| Self::parse(&bytes))
    }

    /// Offsets are those of linux/tcp.h, which never change: fields are only added at the end.
    fn parse(bytes: &[u8; LEN]) -> Self {
        let short = |at: usize| u32::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        let long = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            rtt_us: short(68),
            retransmits: short(100),
            bytes_acked: long(120),
            bytes_received: long(128),
            delivery_rate: long(160),
            busy_us: long(168),
            rwnd_limited_us: long(176),
            sndbuf_limited_us: long(184),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_counts_what_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut sender = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (mut receiver, _) = listener.accept().expect("accepts");
        sender.write_all(&[7; 10_000]).expect("sends");
        receiver.read_exact(&mut [0; 10_000]).expect("receives");
        let received = TcpInfo::of(&receiver).expect("a TCP socket").bytes_received;
        assert_eq!(received, 10_000);
        // Loopback acknowledges at once what was read.
        assert!(TcpInfo::of(&sender).expect("a TCP socket").rtt_us < 10_000_000);
    }

    #[test]
    fn what_is_no_tcp_socket_has_none() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        assert_eq!(TcpInfo::of(&udp), None);
    }
}
