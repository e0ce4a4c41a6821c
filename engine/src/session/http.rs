//! Fetching over HTTP and HTTPS: announces and torrent files. Every answer is bounded while it arrives, every
//! wait has an end. What an answer means is not known here, nor when to announce.

mod error;
#[cfg(test)]
mod tests;
mod tls;

use std::net::IpAddr;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, Url};
use ringtide_proto::tracker::{AnnounceResponse, TrackerError};
use rustls::RootCertStore;

pub(crate) use self::error::{HttpError, HttpErrorKind};

/// What we call ourselves.
const USER_AGENT: &str = concat!("ringtide/", env!("CARGO_PKG_VERSION"));

/// Time for a connection, TLS included; the whole of an announce has its own bound.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Silence in the middle of a torrent file after which it is given up. There is no bound on the whole:
/// 64 MiB over a slow line take their time.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer of a tracker: 1,000 peers as dictionaries are 80 kB.
const MAX_ANNOUNCE_LEN: usize = 1 << 20;

/// Longest torrent file: what the parser accepts.
const MAX_TORRENT_LEN: usize = 64 << 20;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// The HTTP client of the process. Cheap to clone; must be used within a tokio runtime.
///
/// HTTPS trusts the certificates of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), or Mozilla's
/// as compiled in where the system has none. Proxies from the environment are used for torrent files only: a
/// tracker takes our address from the connection, and a proxy's would be of no use to peers.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    announces: Client,
    files: Client,
}

impl HttpClient {
    /// A client that connects from `local`, or from wherever the system chooses.
    ///
    /// # Errors
    /// [`HttpErrorKind::Setup`].
    pub(crate) fn new(local: Option<IpAddr>) -> Result<Self, HttpError> {
        Self::with_roots(local, tls::roots())
    }

    fn with_roots(local: Option<IpAddr>, roots: RootCertStore) -> Result<Self, HttpError> {
        let tls = tls::config(roots).map_err(HttpError::setup)?;
        let builder = || {
            let builder = Client::builder().user_agent(USER_AGENT).local_address(local);
            builder
                .tls_backend_preconfigured(tls.clone())
                .connect_timeout(CONNECT_TIMEOUT)
                .redirect(Policy::custom(redirect))
                // A connection kept for the half hour between two announces serves nobody.
                .pool_max_idle_per_host(0)
                .referer(false)
        };
        let build = |builder: reqwest::ClientBuilder| builder.build().map_err(HttpError::setup);
        Ok(Self {
            announces: build(builder().no_proxy())?,
            files: build(builder().read_timeout(READ_TIMEOUT))?,
        })
    }

    /// Sends an announce, `url` being the tracker's with all parameters, and returns the bencoded answer.
    ///
    /// # Errors
    /// What happened with which tracker. A failure reason that comes with an HTTP error is an answer.
    pub(crate) async fn announce(&self, url: &str, timeout: Duration) -> Result<Vec<u8>, HttpError> {
        let url = parse(url)?;
        let response = self.announces.get(url.clone()).timeout(timeout).send().await;
        let response = response.map_err(|error| HttpError::request(&url, error))?;
        let status = response.status();
        let body = read(&url, response, MAX_ANNOUNCE_LEN).await?;
        if status.is_success() || is_refusal(&body) {
            return Ok(body);
        }
        Err(HttpError::new(&url, HttpErrorKind::Status(status.as_u16())))
    }

    /// Fetches a torrent file.
    ///
    /// # Errors
    /// What happened with which server.
    pub(crate) async fn fetch_torrent(&self, url: &str) -> Result<Vec<u8>, HttpError> {
        let url = parse(url)?;
        let response = self.files.get(url.clone()).send().await;
        let response = response.map_err(|error| HttpError::request(&url, error))?;
        if !response.status().is_success() {
            return Err(HttpError::new(&url, HttpErrorKind::Status(response.status().as_u16())));
        }
        read(&url, response, MAX_TORRENT_LEN).await
    }
}

fn parse(url: &str) -> Result<Url, HttpError> {
    let parsed = Url::parse(url).map_err(|_| HttpError::bad_url(url))?;
    let is_http = matches!(parsed.scheme(), "http" | "https") && parsed.has_host();
    if is_http { Ok(parsed) } else { Err(HttpError::bad_url(url)) }
}

/// The body, refused as soon as it is known to be longer than `max`.
async fn read(url: &Url, mut response: Response, max: usize) -> Result<Vec<u8>, HttpError> {
    let too_long = || HttpError::new(url, HttpErrorKind::TooLong { max });
    if response.content_length().is_some_and(|announced| announced > max as u64) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| HttpError::request(url, error))? {
        if body.len() + part.len() > max {
            return Err(too_long());
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

/// Some trackers send their failure reason along with status 400 or 403.
fn is_refusal(body: &[u8]) -> bool {
    matches!(AnnounceResponse::parse(body), Err(TrackerError::Refused { .. }))
}

/// Follows a few redirects, but none from HTTPS to HTTP, which would show a passkey to the network, and none
/// from elsewhere to this host, whose services take what comes from it for its own.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let next = attempt.url();
    let Some(from) = attempt.previous().last() else { return attempt.follow() };
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("it redirects too often");
    }
    if from.scheme() == "https" && next.scheme() != "https" {
        return attempt.error("it redirects from https to an address without encryption");
    }
    if is_this_host(next) && !is_this_host(from) {
        return attempt.error("it redirects to this host");
    }
    attempt.follow()
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| ip.to_canonical());
    address.map_or(host == "localhost" || host.ends_with(".localhost"), |ip| {
        ip.is_loopback() || ip.is_unspecified()
    })
}
