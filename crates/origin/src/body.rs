//! The body of an answer to a player: shared bytes, handed on without copying.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Chunks that are sent one after the other. Its length is known.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// Most bodies are one chunk, which sets no memory aside.
    first: Bytes,
    rest: VecDeque<Bytes>,
    remaining: u64,
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        self.remaining
    }

    /// What is to be sent.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// Fills `slices` with what is to be sent next; how many it filled.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(self.chunks());
        filled.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    /// So many bytes were sent.
    pub(crate) fn advance(&mut self, mut sent: usize) {
        self.remaining -= sent as u64;
        while sent >= self.first.len() {
            sent -= self.first.len();
            let Some(next) = self.rest.pop_front() else { return self.first.clear() };
            self.first = next;
        }
        self.first.advance(sent);
    }

    fn take_chunk(&mut self) -> Option<Bytes> {
        if self.remaining == 0 {
            return None;
        }
        let chunk = std::mem::replace(&mut self.first, self.rest.pop_front().unwrap_or_default());
        self.remaining -= chunk.len() as u64;
        Some(chunk)
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(chunks: Vec<Bytes>) -> Self {
        let remaining = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let mut rest = VecDeque::from(chunks);
        Self { first: rest.pop_front().unwrap_or_default(), rest, remaining }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let remaining = bytes.len() as u64;
        Self { first: bytes, rest: VecDeque::new(), remaining }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.take_chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_goes_on_where_it_stopped() {
        let mut body = Body::from(vec![Bytes::from("ab"), Bytes::from("cde"), Bytes::from("f")]);
        let left = |body: &Body| {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = body.fill(&mut slices);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|it| it.iter().copied()).collect();
            (bytes, body.len())
        };
        for (sent, expected) in [(0, "abcdef"), (1, "bcdef"), (2, "def"), (2, "f"), (1, "")] {
            body.advance(sent);
            assert_eq!(left(&body), (expected.as_bytes().to_vec(), expected.len() as u64));
        }
    }

    #[test]
    fn chunks_are_handed_on_as_they_are() {
        let mut body = Body::from(vec![Bytes::from("ab"), Bytes::from("c")]);
        let chunks: Vec<_> = std::iter::from_fn(|| body.take_chunk()).collect();
        assert_eq!((chunks, body.len()), (vec![Bytes::from("ab"), Bytes::from("c")], 0));
        assert!(Body::default().take_chunk().is_none());
    }
}
