//! HTTP/1.1 on plain TCP, as much of it as players need: requests without a body, answers whose length is known.
//!
//! Not hyper, for two numbers of docs/SPECIFICATION.md: a parked request may cost 8 KB, and hyper alone sets aside 16 KB
//! of buffers for each connection; a part may cost no more CPU than nginx with sendfile. While a request waits, nothing of
//! it is kept but what it asked for.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::AsFd as _,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, SystemTime},
};

use hyper::StatusCode;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, Interest, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Answer,
    pipe::{Passed, Pipes},
    player::Player,
    request_head::{Head, Malformed, parse},
};

/// A player may take so long to send a request's head, so long between requests, and so long to accept anything more of
/// an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Longest request head, in bytes.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// Bytes that are read at once: room for the head that a browser sends.
const USUAL_HEAD_BYTES: usize = 1024;
/// Room for the head of any answer.
const ANSWER_HEAD_BYTES: usize = 512;
/// Head and chunks handed to the kernel at once.
const SLICES_PER_WRITE: usize = 16;

/// Answers requests one after the other until the player leaves, breaks the rules, or the origin stops.
pub(crate) async fn serve(mut tcp: TcpStream, player: &Arc<Player>, stop: &CancellationToken) {
    let (mut stopped, mut timer) = (pin!(stop.cancelled()), pin!(sleep(PATIENCE)));
    let mut received = Vec::new();
    loop {
        let head = tokio::select! {
            biased;
            head = within(PATIENCE, timer.as_mut(), read_head(&mut tcp, &mut received)) => head,
            () = stopped.as_mut() => return,
        };
        match head {
            Ok(Some(Ok(Head { asked, length, keep_alive }))) => {
                // What waits should hold little: without more requests the buffer goes.
                received =
                    if received.len() > length { received.split_off(length) } else { Vec::new() };
                let keep_alive = keep_alive && !stop.is_cancelled();
                let answer = match player.answer_at_once(&asked) {
                    Some(answer) => answer,
                    None => {
                        let waiting: Pin<Box<dyn Future<Output = Answer> + Send>> =
                            Box::pin(player.answer(asked));
                        waiting.await
                    }
                };
                let written = write(&mut tcp, timer.as_mut(), player, answer, keep_alive).await;
                if written.is_err() || !keep_alive {
                    return;
                }
            }
            Ok(Some(Err(malformed))) => {
                let _ = within(PATIENCE, timer, tcp.write_all(malformed.answer())).await;
                return;
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// What comes of `future` within `limit`, which is the same for all uses of a timer. The timer is the connection's: what is ready needs none, and moving one on
/// that goes off too early costs less than setting one up for each request.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`], or the future's own.
async fn within<T>(
    limit: Duration,
    mut timer: Pin<&mut Sleep>,
    future: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let (mut future, mut deadline) = (pin!(future), None);
    poll_fn(|context| {
        if let Poll::Ready(result) = future.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    })
    .await
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
        if read(tcp, received).await? == 0 {
            return Ok(None);
        }
    }
}

/// Reads what has come, how many bytes. While nothing comes there is no buffer: idle connections hold none.
async fn read(tcp: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| {
        let mut room = [const { MaybeUninit::uninit() }; USUAL_HEAD_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *tcp).poll_read(context, &mut buffer))?;
        received.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// Writes head and body with as few system calls as the kernel allows, and media without copying it.
async fn write(
    tcp: &mut TcpStream,
    mut timer: Pin<&mut Sleep>,
    player: &Player,
    answer: Answer,
    keep_alive: bool,
) -> io::Result<()> {
    let head = head(&answer, keep_alive);
    let (mut head_sent, mut body) = (0, answer.body);
    let mut by_pipe = player.pipes.take(&player.slabs, body.chunks());
    while head_sent < head.len() || body.len() > 0 {
        let mut slices = [IoSlice::new(&head[head_sent..]); SLICES_PER_WRITE];
        let count = 1 + body.fill(&mut slices[1..]);
        let passed = match by_pipe {
            true => {
                let passing = pass(tcp, &player.pipes, &head[head_sent..], &slices[1..count]);
                within(PATIENCE, timer.as_mut(), passing).await?
            }
            false => None,
        };
        let written = match passed {
            Some(passed) => passed,
            None => {
                by_pipe = false;
                let writing = tcp.write_vectored(&slices[..count]);
                within(PATIENCE, timer.as_mut(), writing).await?
            }
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_head = written.min(head.len() - head_sent);
        head_sent += of_head;
        body.advance(written - of_head);
    }
    Ok(())
}

/// Hands the kernel what it takes of `head` and of `media` without a copy; `None` where that cannot be.
async fn pass(
    tcp: &TcpStream,
    pipes: &Pipes,
    head: &[u8],
    media: &[IoSlice<'_>],
) -> io::Result<Option<usize>> {
    poll_fn(|context| {
        loop {
            ready!(tcp.poll_write_ready(context))?;
            let mut taken = 0;
            let passed = tcp.try_io(Interest::WRITABLE, || {
                let passed = pipes.send(tcp.as_fd(), head, media)?;
                taken = passed.as_ref().map_or(0, |it| it.sent);
                match passed {
                    // Said so that whoever writes next waits until there is room.
                    Some(Passed { is_full: true, .. }) => Err(io::ErrorKind::WouldBlock.into()),
                    passed => Ok(passed.map(|it| it.sent)),
                }
            });
            let is_full =
                passed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            match is_full {
                false => return Poll::Ready(passed),
                true if taken > 0 => return Poll::Ready(Ok(Some(taken))),
                true => {}
            }
        }
    })
    .await
}

fn head(answer: &Answer, keep_alive: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(ANSWER_HEAD_BYTES);
    let mut say =
        |texts: &[&str]| texts.iter().for_each(|it| head.extend_from_slice(it.as_bytes()));
    match answer.status {
        StatusCode::OK => say(&["HTTP/1.1 200 OK\r\n"]),
        other => {
            let reason = other.canonical_reason().unwrap_or_default();
            say(&["HTTP/1.1 ", other.as_str(), " ", reason, "\r\n"]);
        }
    }
    answer.headers(|name, value| say(&[name, ": ", value, "\r\n"]));
    with_date(|date| say(&["date: ", date, "\r\n"]));
    say(&[if keep_alive { "\r\n" } else { "connection: close\r\n\r\n" }]);
    head
}

/// Hands out the time as answers say it, which is put into words once a second.
fn with_date(say: impl FnOnce(&str)) {
    thread_local! {
        static SAID: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    SAID.with_borrow_mut(|(said, text)| {
        if *said != second {
            *said = second;
            *text = httpdate::HttpDate::from(now).to_string();
        }
        say(text);
    });
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use millrace_registry::Registry;
    use millrace_telemetry::Metrics;
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;
    use crate::{Config, run};

    #[tokio::test]
    async fn a_timer_that_goes_off_too_early_cuts_nothing_short_and_none_is_waited_for_in_vain() {
        let limit = Duration::from_millis(60);
        let mut timer = pin!(sleep(limit / 3));
        for _ in 0..2 {
            let ready = within(limit, timer.as_mut(), async { Ok(7) }).await;
            assert_eq!(ready.unwrap(), 7);
            let begun = Instant::now();
            let late = within(limit, timer.as_mut(), pending::<io::Result<()>>()).await;
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn requests_that_come_at_once_or_in_pieces_are_each_answered() {
        let (registry, metrics, stop) =
            (Registry::in_memory(), Metrics::new(), CancellationToken::new());
        let player = Arc::new(run::player(&Config::default(), None, registry, &metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (served, _) = listener.accept().await.unwrap();
        let serving = tokio::spawn(async move { serve(served, &player, &stop).await });
        let one = "GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n";
        let (begin, rest) = one.split_at(9);
        client.write_all([one, one, begin].concat().as_bytes()).await.unwrap();
        let mut said = String::new();
        while said.matches("HTTP/1.1 404 Not Found\r\n").count() < 2 {
            let mut some = [0; 4096];
            let count = client.read(&mut some).await.unwrap();
            said.push_str(std::str::from_utf8(&some[..count]).unwrap());
        }
        let last = "GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
        client.write_all([rest, last].concat().as_bytes()).await.unwrap();
        client.read_to_string(&mut said).await.unwrap();
        let statuses: Vec<_> = said.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["404", "404", "404", "200"], "{said}");
        assert_eq!(said.matches("\r\ndate: ").count(), 4, "{said}");
        serving.await.unwrap();
    }
}
