//! What the tests of the control plane share: its two runtimes, and servers that say what they are told.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Runs the test on a plain tokio runtime and on tokio-uring's, the two that the control plane has. Each run has
/// a minute; none comes near it.
pub(crate) fn on_both_runtimes<F: Future<Output = ()>>(test: impl Fn() -> F) {
    let bounded = || async {
        tokio::time::timeout(Duration::from_secs(60), test()).await.expect("the test hangs");
    };
    let plain = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    plain.block_on(bounded());
    tokio_uring::start(bounded());
}

/// A server that answers every connection with `answer`, once a request's head has come, and closes it.
/// Its address, and the heads as they come.
pub(crate) async fn canned(
    answer: impl Into<Vec<u8>>,
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    let answer = answer.into();
    let (heads, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
            // The client may have gone for good reason.
            let _ = stream.write_all(&answer).await;
        }
    });
    (addr, receiver)
}
