//! What can go wrong with an HTTP request, told so that a person knows whose turn it is.

use std::error::Error;
use std::fmt;
use std::io;

use reqwest::Url;
use ringtide_proto::text::printable;

/// A request that came to nothing, and with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpError {
    /// Scheme, host and port. Never the rest of the URL: paths and queries hold passkeys.
    server: String,
    /// What happened.
    pub(crate) kind: HttpErrorKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HttpErrorKind {
    /// No URL that can be fetched over HTTP.
    BadUrl,
    /// The name has no address.
    UnknownHost(String),
    /// Nobody listens there.
    ConnectionRefused,
    /// There is no way there, or the connection broke.
    Connection(String),
    /// It took too long.
    TimedOut,
    /// The two sides do not agree on TLS, or the certificate is not to be trusted.
    Tls(String),
    /// The server answered with this status.
    Status(u16),
    /// A redirect that is not followed, and why.
    Redirect(String),
    /// More than this many bytes.
    TooLong {
        /// The bound.
        max: usize,
    },
    /// The answer is no HTTP.
    NotHttp(String),
    /// The client could not be made at all.
    Setup(String),
}

impl HttpError {
    pub(super) fn new(url: &Url, kind: HttpErrorKind) -> Self {
        Self { server: url.origin().ascii_serialization(), kind }
    }

    pub(super) fn bad_url(url: &str) -> Self {
        // What is no URL has no part that is known to be harmless; a hint of it must do.
        let hint = url.split(['?', '@']).next().unwrap_or_default();
        Self { server: printable(hint.as_bytes(), 60), kind: HttpErrorKind::BadUrl }
    }

    /// An announce URL that no request can be made of.
    pub(crate) fn unusable(url: &str) -> Self {
        Self::bad_url(url)
    }

    pub(super) fn setup(error: impl Error) -> Self {
        Self { server: "HTTPS".into(), kind: HttpErrorKind::Setup(error.to_string()) }
    }

    pub(super) fn request(url: &Url, error: reqwest::Error) -> Self {
        Self::new(url, classify(&error.without_url()))
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.server)?;
        match &self.kind {
            HttpErrorKind::BadUrl => f.write_str("not an http or https URL"),
            HttpErrorKind::UnknownHost(why) => write!(f, "the host has no address ({why})"),
            HttpErrorKind::ConnectionRefused => f.write_str("connection refused, nothing listens there"),
            HttpErrorKind::Connection(why) => write!(f, "no connection ({why})"),
            HttpErrorKind::TimedOut => f.write_str("no answer in time"),
            HttpErrorKind::Tls(why) => write!(f, "no secure connection ({why})"),
            HttpErrorKind::Status(status) => write!(f, "the server answered with status {status}"),
            HttpErrorKind::Redirect(why) => f.write_str(why),
            HttpErrorKind::TooLong { max } => write!(f, "the answer is longer than {max} bytes"),
            HttpErrorKind::NotHttp(why) => write!(f, "the answer is no proper HTTP ({why})"),
            HttpErrorKind::Setup(why) => write!(f, "cannot be used here: {why}"),
        }
    }
}

impl Error for HttpError {}

/// The cause that says most, out of the many layers of a client's error.
fn classify(error: &reqwest::Error) -> HttpErrorKind {
    let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    if let Some(tls) = causes(error).find_map(tls_error) {
        return HttpErrorKind::Tls(text(tls));
    }
    if error.is_redirect() {
        return HttpErrorKind::Redirect(deepest(error));
    }
    if error.is_timeout() || io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
        return HttpErrorKind::TimedOut;
    }
    if causes(error).any(|cause| cause.to_string() == "dns error") {
        return HttpErrorKind::UnknownHost(deepest(error));
    }
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => HttpErrorKind::ConnectionRefused,
        Some(_) => HttpErrorKind::Connection(deepest(error)),
        None if error.is_connect() => HttpErrorKind::Connection(deepest(error)),
        None => HttpErrorKind::NotHttp(deepest(error)),
    }
}

/// The TLS layer wraps its errors in those of I/O, sometimes twice; `source` passes by what is wrapped.
fn tls_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let unwrap = |error: &&'a (dyn Error + 'static)| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)?;
        Some(inner as &'a (dyn Error + 'static))
    };
    std::iter::successors(Some(cause), unwrap).find_map(|error| error.downcast_ref())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source())
}

fn deepest(error: &reqwest::Error) -> String {
    causes(error).last().map(text).unwrap_or_default()
}

/// Errors may quote what the other side sent.
fn text(error: &(impl Error + ?Sized)) -> String {
    printable(error.to_string().as_bytes(), 200)
}
