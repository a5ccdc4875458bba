//! A connection between two programs of the farm: TLS, or plain TCP where the farm has none.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_rustls::TlsStream;

use crate::{Secured, Socket};

/// The whole connection.
#[derive(Debug)]
pub enum FarmStream {
    /// Without TLS: on loopback only.
    Plain(TcpStream),
    /// With TLS, between programs of the farm.
    Secured(Box<Secured>),
    /// With TLS, of people and their tools.
    Tls(Box<TlsStream<Socket>>),
}

/// What is read from it.
#[derive(Debug)]
pub enum FarmReader {
    /// Without TLS.
    Plain(OwnedReadHalf),
    /// With TLS, between programs of the farm.
    Secured(ReadHalf<Secured>),
    /// With TLS, of people and their tools.
    Tls(ReadHalf<TlsStream<Socket>>),
}

/// What is written to it. With TLS, what was written is on its way only once it was flushed.
#[derive(Debug)]
pub enum FarmWriter {
    /// Without TLS.
    Plain(OwnedWriteHalf),
    /// With TLS, between programs of the farm.
    Secured(WriteHalf<Secured>),
    /// With TLS, of people and their tools.
    Tls(WriteHalf<TlsStream<Socket>>),
}

impl FarmStream {
    /// It is waited for where this is called from then on.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn move_here(&mut self) -> io::Result<()> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Secured(secured) => &mut secured.tcp,
            Self::Tls(tls) => &mut tls.get_mut().0.tcp,
        };
        let again = std::net::TcpStream::from(tcp.as_fd().try_clone_to_owned()?);
        *tcp = TcpStream::from_std(again)?;
        Ok(())
    }

    /// Two halves that can be used at the same time.
    pub fn into_split(self) -> (FarmReader, FarmWriter) {
        match self {
            Self::Plain(tcp) => {
                let (reader, writer) = tcp.into_split();
                (FarmReader::Plain(reader), FarmWriter::Plain(writer))
            }
            Self::Secured(secured) => {
                let (reader, writer) = tokio::io::split(*secured);
                (FarmReader::Secured(reader), FarmWriter::Secured(writer))
            }
            Self::Tls(tls) => {
                let (reader, writer) = tokio::io::split(*tls);
                (FarmReader::Tls(reader), FarmWriter::Tls(writer))
            }
        }
    }
}

macro_rules! reads {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(plain) => Pin::new(plain).poll_read(context, buffer),
                    Self::Secured(secured) => Pin::new(secured).poll_read(context, buffer),
                    Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
                }
            }
        }
    };
}

macro_rules! writes {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(plain) => Pin::new(plain).poll_write(context, bytes),
                    Self::Secured(secured) => Pin::new(secured).poll_write(context, bytes),
                    Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(plain) => Pin::new(plain).poll_write_vectored(context, slices),
                    Self::Secured(secured) => {
                        Pin::new(secured).poll_write_vectored(context, slices)
                    }
                    Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(plain) => plain.is_write_vectored(),
                    Self::Secured(secured) => secured.is_write_vectored(),
                    Self::Tls(tls) => tls.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(plain) => Pin::new(plain).poll_flush(context),
                    Self::Secured(secured) => Pin::new(secured).poll_flush(context),
                    Self::Tls(tls) => Pin::new(tls).poll_flush(context),
                }
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(plain) => Pin::new(plain).poll_shutdown(context),
                    Self::Secured(secured) => Pin::new(secured).poll_shutdown(context),
                    Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
                }
            }
        }
    };
}

reads!(FarmStream);
reads!(FarmReader);
writes!(FarmStream);
writes!(FarmWriter);

impl Connection for FarmStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
