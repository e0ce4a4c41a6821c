//! Real requests over loopback: our own client, and bytes that no client would send.

use std::collections::BTreeSet;

use ringtide_proto::id::{InfoHash, PeerId};
use ringtide_proto::rng::Rng;
use ringtide_proto::tracker::{AnnounceEvent, AnnounceRequest, AnnounceResponse, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::session::http::HttpClient;
use crate::session::testing::on_both_runtimes;

/// A tracker that is served while this lives, and its address.
struct Served {
    addr: SocketAddr,
    tracker: Arc<Mutex<TrackerServer>>,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn on(addr: &str) -> Self {
        let listener = bind(addr.parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let tracker = Arc::new(Mutex::new(TrackerServer::new(ServerConfig::default(), Rng::new(1))));
        let serving = serve(listener, tracker.clone(), || Instant::from_nanos(1));
        let task = tokio::spawn(async move {
            let Err(error) = serving.await;
            panic!("{error}");
        });
        Self { addr, tracker, task }
    }

    /// What the server says to these bytes, until it closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        // It may close before it has read everything: that is an answer too.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn request(port: u16, event: AnnounceEvent) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(std::array::from_fn(|i| (i * 13) as u8)),
        peer_id: PeerId(*b"-RT0100-abcdefghijkl"),
        port,
        uploaded: 0,
        downloaded: 0,
        left: 1,
        event,
        numwant: 50,
        key: 1,
        compact: true,
        tracker_id: None,
        ip: None,
    }
}

async fn announce(tracker: &str, port: u16, event: AnnounceEvent) -> BTreeSet<String> {
    let url = request(port, event).to_url(tracker).unwrap();
    let body = HttpClient::new(None).unwrap().announce(&url, Duration::from_secs(30)).await.unwrap();
    AnnounceResponse::parse(&body).unwrap().peers.iter().map(ToString::to_string).collect()
}

#[test]
fn peers_find_each_other_through_http() {
    on_both_runtimes(|| async {
        let served = Served::on("127.0.0.1:0");
        let url = announce_url(served.addr, served.addr.ip());
        assert!(announce(&url, 1, AnnounceEvent::Started).await.is_empty());
        assert_eq!(announce(&url, 2, AnnounceEvent::Started).await, ["127.0.0.1:1".to_owned()].into());
        assert_eq!(announce(&url, 1, AnnounceEvent::None).await, ["127.0.0.1:2".to_owned()].into());
        assert!(announce(&url, 1, AnnounceEvent::Stopped).await.is_empty());
        assert!(announce(&url, 2, AnnounceEvent::None).await.is_empty());
    });
}

#[test]
fn one_listener_takes_both_families() {
    on_both_runtimes(|| async {
        let served = Served::on("[::]:0");
        let v4 = announce_url(served.addr, [127, 0, 0, 1].into());
        let v6 = announce_url(served.addr, std::net::Ipv6Addr::LOCALHOST.into());
        assert!(announce(&v4, 1, AnnounceEvent::Started).await.is_empty());
        assert_eq!(announce(&v6, 2, AnnounceEvent::Started).await, ["127.0.0.1:1".to_owned()].into());
        assert_eq!(
            announce(&v4, 3, AnnounceEvent::Started).await,
            ["127.0.0.1:1".to_owned(), "[::1]:2".to_owned()].into()
        );
    });
}

#[test]
fn scrape_and_wrong_requests() {
    on_both_runtimes(|| async {
        let served = Served::on("127.0.0.1:0");
        announce(&announce_url(served.addr, served.addr.ip()), 1, AnnounceEvent::Started).await;
        let hash = request(1, AnnounceEvent::None).to_url("http://t/?").unwrap();
        let hash = hash.split(['?', '&']).find(|pair| pair.starts_with("info_hash")).unwrap().to_owned();
        let scraped = served.raw(format!("GET /scrape?{hash} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).await;
        assert!(scraped.contains("10:incompletei1e"), "{scraped}");
        let refused = served.raw(b"GET /announce?left=0 HTTP/1.1\r\nHost: t\r\n\r\n").await;
        assert!(
            refused.starts_with("HTTP/1.1 200 OK\r\n") && refused.contains("14:failure reason"),
            "{refused}"
        );
        assert!(served.raw(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.starts_with("HTTP/1.1 404 "));
        assert!(
            served
                .raw(b"POST /announce HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx")
                .await
                .starts_with("HTTP/1.1 405 ")
        );
        assert!(served.raw(b"GET /announce?%00 HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200 OK\r\n"));
    });
}

#[test]
fn hostile_bytes_do_no_harm() {
    on_both_runtimes(|| async {
        let served = Served::on("127.0.0.1:0");
        let long_line = [b"GET /announce?".as_slice(), &vec![b'x'; 100_000]].concat();
        let many_headers =
            [b"GET /announce HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(1_000), b"\r\n"].concat();
        let hostile: [&[u8]; 6] = [
            b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET /announce?info_hash=\xff\xfe HTTP/1.1\r\n\r\n",
            b"\0\0\0\0\0\0\0\0\r\n\r\n",
            &long_line,
            &many_headers,
        ];
        for bytes in hostile {
            let answer = served.raw(bytes).await;
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 200"),
                "{answer}"
            );
            assert!(!answer.starts_with("HTTP/1.1 200") || answer.contains("failure reason"), "{answer}");
        }
        assert!(served.raw(&long_line).await.starts_with("HTTP/1.1 4"));
        assert_eq!(served.tracker.lock().peer_count(), 0);
        let url = announce_url(served.addr, served.addr.ip());
        assert!(announce(&url, 1, AnnounceEvent::Started).await.is_empty(), "still served");
    });
}

#[test]
fn silent_connections_are_cut_off() {
    on_both_runtimes(|| async {
        let served = Served::on("127.0.0.1:0");
        // The server closes of itself; on_both_runtimes fails the test if it does not.
        assert_eq!(served.raw(b"GET /announce HTTP/1.1\r\nHost:").await, "");
    });
}

#[test]
fn one_address_does_not_take_all_connections() {
    on_both_runtimes(|| async {
        let served = Served::on("127.0.0.1:0");
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS_PER_ADDRESS {
            idle.push(TcpStream::connect(served.addr).await.unwrap());
        }
        assert_eq!(served.raw(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await, "", "dropped");
        drop(idle);
        let url = announce_url(served.addr, served.addr.ip());
        // The server notices in its own time that they have gone.
        while served.raw(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(announce(&url, 1, AnnounceEvent::Started).await.is_empty());
    });
}

#[test]
fn announce_urls() {
    let url = |addr: &str| announce_url(addr.parse().unwrap(), [10, 0, 0, 1].into());
    assert_eq!(url("0.0.0.0:6969"), "http://10.0.0.1:6969/announce");
    assert_eq!(url("127.0.0.1:6969"), "http://127.0.0.1:6969/announce");
    assert_eq!(url("[2001:db8::1]:80"), "http://[2001:db8::1]:80/announce");
}
