//! Why a decoder, scaler or encoder cannot go on: a closed set, each the exit code of a worker.

use millrace_types::WorkerExit;

/// The backend cannot go on. A single broken picture is none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// No encoder could be opened.
    #[error("no encoder: {0}")]
    NoEncoder(String),
    /// A session cap, or the memory of the device.
    #[error("device full: {0}")]
    DeviceFull(String),
    /// The device was lost.
    #[error("device lost: {0}")]
    DeviceLost(String),
    /// The driver is too old.
    #[error("driver too old: {0}")]
    DriverTooOld(String),
    /// The stream cannot be decoded.
    #[error("undecodable: {0}")]
    BadInput(String),
}

impl TranscodeError {
    /// What a worker exits with.
    pub const fn exit(&self) -> WorkerExit {
        match self {
            Self::NoEncoder(_) => WorkerExit::NoEncoder,
            Self::DeviceFull(_) => WorkerExit::DeviceFull,
            Self::DeviceLost(_) => WorkerExit::DeviceLost,
            Self::DriverTooOld(_) => WorkerExit::DriverTooOld,
            Self::BadInput(_) => WorkerExit::BadInput,
        }
    }
}
