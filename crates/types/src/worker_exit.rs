//! The exit codes of a worker, one documented table; each maps to one [`EndReason`].

use crate::EndReason;

/// What a worker says by its exit code. A death by signal is the node's to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum WorkerExit {
    /// The stream ended and everything was flushed.
    Ended = 0,
    /// No encoder could be opened.
    NoEncoder = 10,
    /// The driver's session cap, or the device's memory.
    DeviceFull = 11,
    /// The device was lost.
    DeviceLost = 12,
    /// The driver is too old.
    DriverTooOld = 14,
    /// The stream cannot be decoded.
    BadInput = 20,
    /// A bug: EX_SOFTWARE of sysexits.h.
    Bug = 70,
}

impl WorkerExit {
    /// The process exit status.
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// What an exit status says; every unknown one is a bug.
    pub const fn from_code(code: i32) -> Self {
        match code {
            0 => Self::Ended,
            10 => Self::NoEncoder,
            11 => Self::DeviceFull,
            12 => Self::DeviceLost,
            14 => Self::DriverTooOld,
            20 => Self::BadInput,
            _ => Self::Bug,
        }
    }

    /// Why a worker with this exit ended.
    pub const fn reason(self) -> EndReason {
        match self {
            Self::Ended => EndReason::Stopped,
            Self::NoEncoder => EndReason::NoEncoder,
            Self::DeviceFull => EndReason::DeviceFull,
            Self::DeviceLost => EndReason::DeviceLost,
            Self::DriverTooOld => EndReason::DriverTooOld,
            Self::BadInput => EndReason::BadInput,
            Self::Bug => EndReason::Bug,
        }
    }
}
