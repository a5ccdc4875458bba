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
//! | `GET past_path` | | 200 [`Past`] as one line of JSON, then the media of its records, one after the other |
//!
//! A refusal is 409 with [`Refused`], a body that does not match its record 422, an unknown stream 404.
//! Unknown fields are ignored, so that neighbours of another version are understood.

use bytes::Bytes;
use millrace_types::{Epoch, Mark, Msn, PartNo, RungId, StreamId, Versions};
use serde::{Deserialize, Serialize};

use crate::{Backlog, Hash, InitRecord, PartRecord, Refusal};

/// Carries the record of an init section or a part, as JSON.
pub const RECORD_HEADER: &str = "millrace-record";
/// Carries the epoch of who pushes an init section or a part, as text. Without it a part counts as pushed by who made it.
pub const EPOCH_HEADER: &str = "millrace-epoch";

/// Why a fence was not set yet: the writer before still hands over.
pub const FLUSHING: &str = "flushing";

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
    /// Whoever asks comes again: a writer that still hands over then is not fenced, and the answer is 503 and `flushing`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks_again: bool,
}

impl Fence {
    /// A fence that claims nothing and waits for nobody.
    pub const fn at(epoch: Epoch) -> Self {
        Self { epoch, claims: false, flush_ms: 0, asks_again: false }
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

/// A record of what was published before, whose media follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PastRecord {
    /// An init section of so many bytes.
    Init(InitRecord, u32),
    /// A part.
    Part(PartRecord),
}

impl PastRecord {
    fn media(&self) -> (u32, Hash) {
        match self {
            Self::Init(record, length) => (*length, record.hash),
            Self::Part(record) => (record.length, record.hash),
        }
    }
}

/// What players are shown of one rung behind some part, or the beginning of that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// In the order in which a window takes them.
    pub records: Vec<PastRecord>,
}

/// The media that came is not what its records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the media is not what its records say")]
pub struct OtherMedia;

impl Past {
    /// Parts what goes into the line from what follows it.
    pub fn of(backlog: Vec<Backlog>) -> (Self, Vec<Bytes>) {
        let (records, media) = backlog
            .into_iter()
            .map(|record| match record {
                Backlog::Init(record, bytes) => {
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    (PastRecord::Init(record, length), bytes)
                }
                Backlog::Part(record, bytes) => (PastRecord::Part(record), bytes),
            })
            .unzip();
        (Self { records }, media)
    }

    /// Each record with its bytes, which do not hold on to `media`.
    ///
    /// # Errors
    /// When a length or a hash does not match.
    pub fn with_media(self, mut media: Bytes) -> Result<Vec<Backlog>, OtherMedia> {
        let mut backlog = Vec::with_capacity(self.records.len());
        for record in self.records {
            let (length, hash) = record.media();
            if media.len() < length as usize {
                return Err(OtherMedia);
            }
            let bytes = Bytes::copy_from_slice(&media.split_to(length as usize));
            if Hash::of(&bytes) != hash {
                return Err(OtherMedia);
            }
            backlog.push(match record {
                PastRecord::Init(record, _) => Backlog::Init(record, bytes),
                PastRecord::Part(record) => Backlog::Part(record, bytes),
            });
        }
        if media.is_empty() { Ok(backlog) } else { Err(OtherMedia) }
    }
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

/// Path of what players are shown of a rung behind the part `after`, the query included.
pub fn past_path(stream: &StreamId, rung: &RungId, after: Option<(Msn, PartNo)>) -> String {
    let after = after.map(|(msn, part)| format!("?after={msn}.{part}")).unwrap_or_default();
    format!("/intake/v1/{stream}/past/{rung}{after}")
}

/// Reads the query of [`past_path`]; `None`: it makes no sense.
pub fn past_after(query: Option<&str>) -> Option<Option<(Msn, PartNo)>> {
    let Some(query) = query else { return Some(None) };
    let (msn, part) = query.strip_prefix("after=")?.split_once('.')?;
    Some(Some((Msn(msn.parse().ok()?), PartNo(part.parse().ok()?))))
}
