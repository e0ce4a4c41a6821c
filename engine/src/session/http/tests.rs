//! Real requests over loopback, to servers that behave and servers that do not.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;
use crate::session::testing::{canned, on_both_runtimes};

const LONG: Duration = Duration::from_secs(30);

/// Without the proxies that the environment of a test run may name.
fn client() -> HttpClient {
    let client = HttpClient::with_roots(None, RootCertStore::empty()).unwrap();
    HttpClient { files: client.announces.clone(), ..client }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

async fn announce_to(answer: impl Into<Vec<u8>>) -> Result<Vec<u8>, HttpErrorKind> {
    let (addr, _heads) = canned(answer).await;
    client().announce(&format!("http://{addr}/announce?passkey=secret"), LONG).await.map_err(|error| {
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(error.to_string().starts_with(&format!("http://{addr}: ")), "{error}");
        error.kind
    })
}

#[test]
fn an_announce_brings_the_body_and_says_who_we_are() {
    on_both_runtimes(|| async {
        let (addr, mut heads) = canned(ok("d8:intervali900ee")).await;
        let body = client().announce(&format!("http://{addr}/a?info_hash=%00%FF%20"), LONG).await;
        assert_eq!(body.as_deref(), Ok(b"d8:intervali900ee".as_slice()));
        let head = heads.recv().await.unwrap();
        assert!(head.starts_with("GET /a?info_hash=%00%FF%20 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("user-agent: ringtide/"), "{head}");
    });
}

#[test]
fn bodies_without_a_length_end_with_the_connection() {
    on_both_runtimes(|| async {
        assert_eq!(announce_to("HTTP/1.0 200 OK\r\n\r\nde").await, Ok(b"de".to_vec()));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n";
        assert_eq!(announce_to(chunked).await, Ok(b"de".to_vec()));
    });
}

#[test]
fn what_happened_is_told_apart() {
    on_both_runtimes(|| async {
        assert_eq!(
            announce_to("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").await,
            Err(HttpErrorKind::Status(404))
        );
        assert!(matches!(announce_to("SSH-2.0-OpenSSH_9.9\r\n\r\n").await, Err(HttpErrorKind::NotHttp(_))));
        assert!(matches!(
            announce_to("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nd").await,
            Err(HttpErrorKind::NotHttp(_) | HttpErrorKind::Connection(_))
        ));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = client().announce(&format!("http://{closed}/announce"), LONG).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), format!("http://{closed}: connection refused, nothing listens there"));
    });
}

#[test]
fn a_failure_reason_counts_whatever_the_status() {
    on_both_runtimes(|| async {
        let refusal = "d14:failure reason6:bannede";
        let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{refusal}", refusal.len());
        assert_eq!(announce_to(answer).await.as_deref(), Ok(refusal.as_bytes()));
        let no_refusal = "HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nde";
        assert_eq!(announce_to(no_refusal).await, Err(HttpErrorKind::Status(500)));
    });
}

#[test]
fn answers_are_bounded_while_they_arrive() {
    on_both_runtimes(|| async {
        let announced = "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n";
        assert_eq!(announce_to(announced).await, Err(HttpErrorKind::TooLong { max: 1 << 20 }));
        let endless = [b"HTTP/1.0 200 OK\r\n\r\n".as_slice(), &vec![b'x'; 3 << 20]].concat();
        assert_eq!(announce_to(endless).await, Err(HttpErrorKind::TooLong { max: 1 << 20 }));
        let header_flood =
            [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"X-Flood: xxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(100_000)]
                .concat();
        assert!(announce_to(header_flood).await.is_err());
    });
}

#[test]
fn torrent_files_may_be_longer() {
    on_both_runtimes(|| async {
        let body = "x".repeat(2 << 20);
        let (addr, _heads) = canned(ok(&body)).await;
        assert_eq!(
            client().fetch_torrent(&format!("http://{addr}/x.torrent")).await.map(|t| t.len()),
            Ok(2 << 20)
        );
        let (addr, _heads) = canned("HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n").await;
        let error = client().fetch_torrent(&format!("http://{addr}/x.torrent")).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::TooLong { max: 64 << 20 });
        let (addr, _heads) = canned("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").await;
        let error = client().fetch_torrent(&format!("http://{addr}/x.torrent")).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::Status(401));
    });
}

#[test]
fn silence_ends_with_the_timeout() {
    on_both_runtimes(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/announce", listener.local_addr().unwrap());
        let error = client().announce(&url, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind, HttpErrorKind::TimedOut);
    });
}

#[test]
fn redirects_are_followed_a_few_times() {
    on_both_runtimes(|| async {
        let (target, _heads) = canned(ok("de")).await;
        let moved = |to: String| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(announce_to(moved(format!("http://{target}/"))).await, Ok(b"de".to_vec()));
        // A path alone leads back to the same server, which says the same again.
        let Err(HttpErrorKind::Redirect(why)) = announce_to(moved("/again".into())).await else {
            panic!("followed")
        };
        assert_eq!(why, "it redirects too often");
    });
}

#[test]
fn no_redirect_from_elsewhere_to_this_host() {
    let host = |url: &str| is_this_host(&Url::parse(url).unwrap());
    for url in [
        "http://localhost:1/",
        "http://127.9.9.9/",
        "http://[::1]:80/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://x.localhost/",
        "http://2130706433/",
    ] {
        assert!(host(url), "{url}");
    }
    for url in
        ["http://example.com/", "http://10.0.0.1/", "http://[2001:db8::1]/", "http://localhost.example.com/"]
    {
        assert!(!host(url), "{url}");
    }
}

#[test]
fn what_is_no_url_is_told_without_its_secrets() {
    on_both_runtimes(|| async {
        for url in
            ["", "announce", "udp://t:1/", "file:///etc/passwd", "http://", "http://a b/?passkey=secret"]
        {
            let error = client().announce(url, LONG).await.unwrap_err();
            assert_eq!(error.kind, HttpErrorKind::BadUrl, "{url}");
            assert!(!error.to_string().contains("secret"));
        }
    });
}

#[test]
fn the_local_address_is_used() {
    on_both_runtimes(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/announce", listener.local_addr().unwrap());
        let client = HttpClient::with_roots(Some([127, 0, 0, 9].into()), RootCertStore::empty()).unwrap();
        let (_, peer) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            _ = client.announce(&url, LONG) => panic!("nobody answers"),
        };
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 9]));
    });
}

/// An HTTPS server with a certificate of its own making for `localhost`: its port and the certificate.
async fn https(answer: String) -> (u16, rustls::pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (port, certificate)
}

#[test]
fn https_with_a_trusted_certificate_only() {
    on_both_runtimes(|| async {
        let (port, certificate) = https(ok("de")).await;
        let url = format!("https://localhost:{port}/announce");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let trusting = HttpClient::with_roots(None, roots).unwrap();
        assert_eq!(trusting.announce(&url, LONG).await, Ok(b"de".to_vec()));
        let wrong_name = trusting.announce(&url.replace("localhost", "127.0.0.1"), LONG).await.unwrap_err();
        assert!(matches!(wrong_name.kind, HttpErrorKind::Tls(_)), "{wrong_name}");
        let distrusting = HttpClient::new(None).unwrap();
        let error = distrusting.announce(&url, LONG).await.unwrap_err();
        assert!(matches!(error.kind, HttpErrorKind::Tls(_)), "{error}");
        let (plain, _heads) = canned("nothing of TLS\r\n\r\n").await;
        assert!(distrusting.announce(&format!("https://{plain}/"), Duration::from_secs(2)).await.is_err());
    });
}
