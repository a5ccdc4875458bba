//! What a node says to an origin's intake, as values and paths. Sending and serving it is the programs' business.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `PUT open_path` | [`StreamOpen`](crate::StreamOpen) | 200 [`Marks`] |
//! | `POST fence_path` | [`Fence`] | 200 [`Marks`] |
//! | `PUT init_path` | media bytes, [`RECORD_HEADER`] = [`InitRecord`](crate::InitRecord) | 200 |
//! | `PUT part_path` | media bytes, [`RECORD_HEADER`] = [`PartRecord`](crate::PartRecord) | 200 |
//! | `PUT health_path` | any JSON value | 200 |
//! | `POST end_path` | [`End`] | 200 |
//!
//! A refusal is 409 with [`Refused`], a body that does not match its record 422, an unknown stream 404.
//! Unknown fields are ignored, so that neighbours of another version are understood.

use millrace_types::{Epoch, Mark, StreamId, Versions};
use serde::{Deserialize, Serialize};

use crate::Refusal;

/// Carries the record of an init section or a part, as JSON.
pub const RECORD_HEADER: &str = "millrace-record";
/// Carries the epoch of who pushes an init section or a part, as text. Without it a part counts as pushed by who made it.
pub const EPOCH_HEADER: &str = "millrace-epoch";

/// Asks to refuse all writers older than `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The oldest that may still write.
    pub epoch: Epoch,
    /// A router claims the session: the generation must be above the one in force, so that only one of two gets it.
    #[serde(default)]
    pub claims: bool,
    /// How long the writer before may take to hand over what it still holds, milliseconds.
    #[serde(default)]
    pub flush_ms: u32,
}

impl Fence {
    /// A fence that claims nothing and waits for nobody.
    pub const fn at(epoch: Epoch) -> Self {
        Self { epoch, claims: false, flush_ms: 0 }
    }
}

/// How far the stream has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The fence in force.
    pub epoch: Epoch,
    /// One for each rung that has a part; none of a stream that has ended, which begins anew.
    pub marks: Vec<Mark>,
    /// Discontinuity number of the newest segment.
    #[serde(default)]
    pub discontinuity: u64,
    /// The stream's `PART-TARGET`, milliseconds; 0 when not known.
    #[serde(default)]
    pub part_target_ms: u32,
    /// What is spoken with this origin: the newest version that both ends do.
    #[serde(default = "unsaid", skip_serializing_if = "is_unsaid")]
    pub version: u32,
}

const fn unsaid() -> u32 {
    Versions::UNSAID.newest
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
const fn is_unsaid(version: &u32) -> bool {
    *version == unsaid()
}

/// The writer stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Who writes.
    pub epoch: Epoch,
    /// Another writer goes on: the playlists stay open.
    pub continues: bool,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// [`Refusal::reason`].
    pub reason: String,
    /// For people.
    pub detail: String,
    /// The fence in force, when that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Epoch>,
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        let fence = match refusal {
            Refusal::Fenced { fence, .. } => Some(*fence),
            _ => None,
        };
        Self { reason: refusal.reason().to_owned(), detail: refusal.to_string(), fence }
    }
}

/// Path of a stream's announcement.
pub fn open_path(stream: &StreamId) -> String {
    format!("/intake/v1/{stream}")
}

/// Path of a stream's fence.
pub fn fence_path(stream: &StreamId) -> String {
    format!("/intake/v1/{stream}/fence")
}

/// Path of a stream's init sections.
pub fn init_path(stream: &StreamId) -> String {
    format!("/intake/v1/{stream}/init")
}

/// Path of a stream's parts.
pub fn part_path(stream: &StreamId) -> String {
    format!("/intake/v1/{stream}/part")
}

/// Path of what the farm says about a stream's health.
pub fn health_path(stream: &StreamId) -> String {
    format!("/intake/v1/{stream}/health")
}

/// Path of a stream's end.
pub fn end_path(stream: &StreamId) -> String {
    format!("/intake/v1/{stream}/end")
}
