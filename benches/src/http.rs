//! A blocking HTTP/1.1 client on one kept connection, as cheap as a load generator must be: bodies are counted or
//! collected, never interpreted. Trusts the servers that a benchmark starts itself.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

/// No server here is silent for so long.
const PATIENCE: Duration = Duration::from_secs(20);
const BUFFER_BYTES: usize = 256 << 10;

/// A kept connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Status and body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body's length in bytes.
    pub length: usize,
    /// The body, when it was asked for.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Fetches `path` and throws the body away.
    ///
    /// # Errors
    /// The connection broke, or the answer is not HTTP/1.1 with a length.
    pub fn fetch(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.ask(path)?;
        self.answer(false)
    }

    /// Fetches `path` with its body.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.ask(path)?;
        self.answer(true)
    }

    /// In one packet, as players do: `write!` on a socket would send a packet for each piece of the text.
    fn ask(&mut self, path: &str) -> anyhow::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n");
        Ok(self.stream.write_all(request.as_bytes())?)
    }

    /// Sends `body` with headers, each `name: value`, and insists on 200.
    ///
    /// # Errors
    /// As [`Self::fetch`], and the server's own words for another status.
    pub fn put(&mut self, path: &str, headers: &[String], body: &[u8]) -> anyhow::Result<()> {
        let mut head = format!("PUT {path} HTTP/1.1\r\nhost: bench\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.stream.write_all(&[head.as_bytes(), body].concat())?;
        let answer = self.answer(true)?;
        let said = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "PUT {path}: {} {said}", answer.status);
        Ok(())
    }

    fn answer(&mut self, keep_body: bool) -> anyhow::Result<Answer> {
        let mut have = 0;
        let head_end = loop {
            let count = self.stream.read(&mut self.buffer[have..])?;
            ensure!(count > 0, "the server closed the connection");
            have += count;
            if let Some(end) = find(&self.buffer[..have], b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(have < BUFFER_BYTES, "an answer's head is too long");
        };
        let (status, length) = head(std::str::from_utf8(&self.buffer[..head_end])?)?;
        ensure!(have - head_end <= length, "more came than was asked for");
        let mut body = Vec::new();
        if keep_body {
            body.extend_from_slice(&self.buffer[head_end..have]);
        }
        let mut left = length - (have - head_end);
        while left > 0 {
            let most = left.min(BUFFER_BYTES);
            let count = self.stream.read(&mut self.buffer[..most])?;
            ensure!(count > 0, "the server closed the connection inside an answer");
            if keep_body {
                body.extend_from_slice(&self.buffer[..count]);
            }
            left -= count;
        }
        Ok(Answer { status, length, body })
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Status and content length.
fn head(text: &str) -> anyhow::Result<(u16, usize)> {
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?;
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok((status.parse()?, value.trim().parse()?));
        }
    }
    bail!("an answer without a length: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_length_are_read_whatever_the_case() {
        let text = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 17\r\n\r\n";
        assert_eq!(head(text).unwrap(), (200, 17));
        assert!(head("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
