//! HTTP/1.1 on plain TCP, as much of it as players need: requests without a body, answers whose length is known.
//!
//! Not hyper, for two numbers of docs/SPECIFICATION.md: a parked request may cost 8 KB, and hyper alone sets aside 16 KB
//! of buffers for each connection; a part may cost no more CPU than nginx with sendfile. While a request waits, nothing of
//! it is kept but what it asked for.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice, Write as _},
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Answer,
    player::Player,
    request_head::{Head, Malformed, parse},
};

/// A player may take so long to send a request's head, and so long between requests.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A player may take so long to accept anything more of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest request head, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Room for the head that a browser sends.
const USUAL_HEAD_BYTES: usize = 1024;
/// Chunks handed to the kernel at once.
const CHUNKS_PER_WRITE: usize = 16;

/// Answers requests one after the other until the player leaves, breaks the rules, or the origin stops.
pub(crate) async fn serve(mut tcp: TcpStream, player: &Arc<Player>, stop: &CancellationToken) {
    let mut stopped = pin!(stop.cancelled());
    let mut received = Vec::new();
    loop {
        let head = tokio::select! {
            biased;
            head = timeout(HEAD_TIMEOUT, read_head(&mut tcp, &mut received)) => head,
            () = stopped.as_mut() => return,
        };
        match head {
            Ok(Ok(Some(Ok(Head { asked, length, keep_alive })))) => {
                // What waits should hold little: without more requests the buffer goes.
                received =
                    if received.len() > length { received.split_off(length) } else { Vec::new() };
                let keep_alive = keep_alive && !stop.is_cancelled();
                let waiting: Pin<Box<dyn Future<Output = Answer> + Send>> =
                    Box::pin(player.answer(asked));
                let answer = waiting.await;
                if write(&mut tcp, answer, keep_alive).await.is_err() || !keep_alive {
                    return;
                }
            }
            Ok(Ok(Some(Err(malformed)))) => {
                let _ = timeout(WRITE_TIMEOUT, tcp.write_all(malformed.answer())).await;
                return;
            }
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        }
    }
}

/// The next request; `None` when the player has closed the connection.
async fn read_head(
    tcp: &mut TcpStream,
    received: &mut Vec<u8>,
) -> io::Result<Option<Result<Head, Malformed>>> {
    loop {
        if !received.is_empty() {
            match parse(received) {
                Ok(Some(head)) => return Ok(Some(Ok(head))),
                Ok(None) if received.len() >= MAX_HEAD_BYTES => {
                    return Ok(Some(Err(Malformed::TooLong)));
                }
                Ok(None) => {}
                Err(malformed) => return Ok(Some(Err(malformed))),
            }
        }
        if received.capacity() == 0 {
            // Idle connections hold no buffer.
            tcp.readable().await?;
        }
        received.reserve(USUAL_HEAD_BYTES);
        if tcp.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

/// Writes head and body with as few system calls as the kernel allows, without copying the body.
async fn write(tcp: &mut TcpStream, answer: Answer, keep_alive: bool) -> io::Result<()> {
    let mut chunks = VecDeque::with_capacity(2);
    chunks.push_back(head(&answer, keep_alive));
    chunks.extend(answer.body.into_chunks());
    while !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
        let count = chunks.len().min(CHUNKS_PER_WRITE);
        for (slice, chunk) in slices.iter_mut().zip(&chunks) {
            *slice = IoSlice::new(chunk);
        }
        let writing = tcp.write_vectored(&slices[..count]);
        let written = timeout(WRITE_TIMEOUT, writing).await.map_err(io::Error::from)??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        advance(&mut chunks, written);
    }
    Ok(())
}

fn advance(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(chunk) = chunks.front_mut() {
        if chunk.len() > written {
            chunk.advance(written);
            return;
        }
        written -= chunk.len();
        chunks.pop_front();
    }
}

fn head(answer: &Answer, keep_alive: bool) -> Bytes {
    let mut head = Vec::with_capacity(512);
    let reason = answer.status.canonical_reason().unwrap_or_default();
    // Writing to a `Vec` cannot fail.
    let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", answer.status.as_str());
    answer.headers(|name, value| {
        for text in [name, ": ", value, "\r\n"] {
            head.extend_from_slice(text.as_bytes());
        }
    });
    let _ = write!(head, "date: {}\r\n", httpdate::HttpDate::from(SystemTime::now()));
    head.extend_from_slice(if keep_alive { b"\r\n" } else { b"connection: close\r\n\r\n" });
    head.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_goes_on_where_it_stopped() {
        let mut chunks = VecDeque::from([Bytes::from("ab"), Bytes::from("cde"), Bytes::from("f")]);
        advance(&mut chunks, 3);
        assert_eq!(chunks, [Bytes::from("de"), Bytes::from("f")]);
        advance(&mut chunks, 3);
        assert!(chunks.is_empty());
    }
}
