//! A HTTP/1.0 client of twenty lines for control ports and trackers on the tests' own networks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A response: status, headers as one text, and body.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// The header lines.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// GETs `target` (path and query).
///
/// # Errors
/// When the server cannot be reached or does not speak HTTP.
pub fn fetch(server: SocketAddr, target: &str) -> io::Result<Response> {
    exchange(server, &format!("GET {target} HTTP/1.0\r\nHost: {server}\r\n\r\n"))
}

/// POSTs a body to `target`; `headers` are lines ending in CRLF.
///
/// # Errors
/// As [`fetch`].
pub fn post(server: SocketAddr, target: &str, headers: &str, body: &str) -> io::Result<Response> {
    let length = body.len();
    exchange(
        server,
        &format!(
            "POST {target} HTTP/1.0\r\nHost: {server}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn exchange(server: SocketAddr, request: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a HTTP response"))
}

fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, headers: headers.to_owned(), body: bytes[end + 4..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_headers_and_body() {
        let response = parse(b"HTTP/1.1 409 Conflict\r\nX-Id: 7 \r\nA: b\r\n\r\nbody\r\n\r\nmore").unwrap();
        assert_eq!((response.status, response.header("x-id")), (409, Some("7")));
        assert_eq!(response.body, b"body\r\n\r\nmore");
        assert!(parse(b"SSH-2.0").is_none());
    }
}
