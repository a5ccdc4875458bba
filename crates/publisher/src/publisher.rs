//! Publishes over TCP: connects, sends at the server's pace, listens for its refusal meanwhile.

use std::{io, time::Duration};

use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use crate::{Due, PublishError, Tag, dialogue::Dialogue, url::PublishUrl};

/// How long a server may take to let us publish.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to close after our goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 4_096;

/// A publisher that was let in.
pub struct Publisher {
    address: String,
    socket: TcpStream,
    dialogue: Dialogue,
}

impl Publisher {
    /// Connects to `rtmp://host[:port]/app` and asks to publish with `key`.
    ///
    /// # Errors
    /// Every [`PublishError`]; [`PublishError::Refused`] carries the server's own text.
    pub async fn connect(url: &str, key: &str) -> Result<Self, PublishError> {
        let url = PublishUrl::parse(url)?;
        let address = url.address.clone();
        let connect = async {
            let connected = TcpStream::connect(&address).await;
            let io_error = |why| PublishError::Io { address: address.clone(), why };
            let socket = connected.map_err(io_error)?;
            socket.set_nodelay(true).map_err(io_error)?;
            let dialogue = Dialogue::new(url, key)?;
            let mut publisher = Self { address: address.clone(), socket, dialogue };
            publisher.flush().await?;
            while !publisher.dialogue.is_publishing() {
                publisher.socket.readable().await.map_err(|error| publisher.broken(error))?;
                publisher.read()?;
                publisher.flush().await?;
            }
            Ok(publisher)
        };
        let late =
            PublishError::Late { address: address.clone(), seconds: CONNECT_TIMEOUT.as_secs() };
        timeout(CONNECT_TIMEOUT, connect).await.unwrap_or(Err(late))
    }

    /// Sends one message; waits while the server reads no faster.
    ///
    /// # Errors
    /// The server refused us meanwhile, or the connection broke.
    pub async fn send(&mut self, tag: &Tag) -> Result<(), PublishError> {
        self.dialogue.send(tag)?;
        self.flush().await
    }

    /// Sends a clip in real time, as a live encoder would: a [`crate::Playout`], or one with other timestamps.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn play(
        &mut self,
        playout: impl IntoIterator<Item = Due>,
    ) -> Result<(), PublishError> {
        let begun = Instant::now();
        for due in playout {
            self.listen_until(begun + due.after).await?;
            self.send(&due.tag).await?;
        }
        Ok(())
    }

    /// Says goodbye, and waits a moment for the server to close.
    ///
    /// # Errors
    /// The goodbye could not be sent.
    pub async fn finish(mut self) -> Result<(), PublishError> {
        self.dialogue.unpublish()?;
        self.flush().await?;
        self.listen_until(Instant::now() + GOODBYE).await.or_else(|error| match error {
            PublishError::Closed { .. } => Ok(()),
            error => Err(error),
        })
    }

    /// Takes in what the server says until `at`.
    async fn listen_until(&mut self, at: Instant) -> Result<(), PublishError> {
        loop {
            tokio::select! {
                ready = self.socket.readable() => {
                    ready.map_err(|error| self.broken(error))?;
                    self.read()?;
                    self.flush().await?;
                }
                () = sleep_until(at) => return Ok(()),
            }
        }
    }

    /// Writes what is queued, reading meanwhile, so that neither side waits for the other.
    async fn flush(&mut self) -> Result<(), PublishError> {
        let queued = self.dialogue.take_sending();
        let mut rest = &queued[..];
        while !rest.is_empty() {
            let ready = self.socket.ready(Interest::READABLE | Interest::WRITABLE).await;
            let ready = ready.map_err(|error| self.broken(error))?;
            if ready.is_readable() {
                self.read()?;
            }
            if ready.is_writable() {
                match self.socket.try_write(rest) {
                    Ok(bytes) => rest = &rest[bytes..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        // The server may have said why before it closed.
                        self.read()?;
                        return Err(self.broken(error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes in what has come.
    fn read(&mut self) -> Result<(), PublishError> {
        let mut buffer = [0; READ_BYTES];
        loop {
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Err(PublishError::Closed { address: self.address.clone() }),
                Ok(bytes) => self.dialogue.receive(&buffer[..bytes])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    fn broken(&self, why: io::Error) -> PublishError {
        PublishError::Io { address: self.address.clone(), why }
    }
}
