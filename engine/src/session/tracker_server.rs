//! A tracker on a port: HTTP around the protocol's [`TrackerServer`] (`seed --track ADDR`). Owns the listener and its
//! connections, with bounds on how many there are, how long they last and how much they say. What is
//! answered is not decided here.

mod connections;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use ringtide_proto::time::Instant;
use ringtide_proto::tracker::{Asker, TrackerServer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use self::connections::Connections;

/// Connections at a time. One is served in a millisecond, so this is far above any honest load.
const MAX_CONNECTIONS: usize = 512;

/// Connections at a time from one address. A test lab or a NAT may start a hundred clients at once; nobody shall take
/// all there are.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 128;

/// Time for a request's line and headers: who sends them byte by byte is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a connection from end to end, for those who do not read the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a request's line and headers. A scrape of 74 torrents has 5 kB.
const MAX_HEADER_LEN: usize = 16 * 1024;

/// Most headers. Browsers send about 20.
const MAX_HEADERS: usize = 64;

/// Connections that the kernel may hold for us.
const BACKLOG: i32 = 512;

/// Wait after a failed accept: out of descriptors, and trying again at once would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener for [`serve`]. One on `[::]` takes IPv4 too.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves `/announce` and `/scrape` until dropped, which closes all connections too. Must run within a tokio
/// runtime; `now` is the clock of the tracker.
///
/// # Errors
/// Only for a listener that cannot be used at all.
pub(crate) async fn serve<N>(
    listener: std::net::TcpListener,
    tracker: Arc<Mutex<TrackerServer>>,
    now: N,
) -> io::Result<Infallible>
where
    N: Fn() -> Instant + Clone + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut connections = Connections::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS);
    loop {
        let expiry = tracker.lock().poll_timeout().map(|at| at.since(now()));
        tokio::select! {
            accepted = listener.accept(), if connections.has_room() => match accepted {
                Ok((stream, peer)) => {
                    let task = serve_connection(stream, peer, tracker.clone(), now.clone());
                    connections.spawn(peer.ip(), task);
                }
                Err(error) => {
                    tracing::warn!(%error, "the tracker cannot take a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            () = connections.ended() => {}
            () = sleep(expiry.unwrap_or_default()), if expiry.is_some() => {
                tracker.lock().handle_timeout(now());
            }
        }
    }
}

/// One request, one answer.
async fn serve_connection<N>(stream: TcpStream, peer: SocketAddr, tracker: Arc<Mutex<TrackerServer>>, now: N)
where
    N: Fn() -> Instant + Send,
{
    let Ok(local) = stream.local_addr() else { return };
    let asker = Asker { source: peer.ip(), local: local.ip() };
    let answer = move |request: Request<Incoming>| {
        let answer = respond(&request, asker, &tracker, now());
        async move { Ok::<_, Infallible>(answer) }
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_LEN)
        .max_headers(MAX_HEADERS)
        .keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(stream), service_fn(answer));
    // What strangers do to their connections is no news.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

fn respond(
    request: &Request<Incoming>,
    asker: Asker,
    tracker: &Mutex<TrackerServer>,
    now: Instant,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    }
    let query = request.uri().query().unwrap_or_default();
    match request.uri().path() {
        "/announce" => plain(StatusCode::OK, tracker.lock().handle_announce(now, asker, query)),
        "/scrape" => plain(StatusCode::OK, tracker.lock().handle_scrape(now, query)),
        _ => plain(StatusCode::NOT_FOUND, "this is a BitTorrent tracker: /announce and /scrape\n"),
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The URL to announce to, for a tracker bound to `addr`: `host` where that names no particular address.
pub(crate) fn announce_url(addr: SocketAddr, host: IpAddr) -> String {
    let ip = if addr.ip().is_unspecified() { host } else { addr.ip() };
    format!("http://{}/announce", SocketAddr::new(ip, addr.port()))
}
