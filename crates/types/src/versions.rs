//! Versions of what the farm's programs say to each other: one number for Link, worker socket, intake and records together.
//!
//! Each program says which versions it speaks, and two of them go by the newest that both do. What each version brought
//! stands in `docs/protocol/versions.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The versions that a program speaks: all from the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Versions {
    /// The first of them.
    pub oldest: u32,
    /// The last of them.
    pub newest: u32,
}

impl Versions {
    /// What this build speaks: its own and that of the build before.
    pub const OURS: Self = Self { oldest: 1, newest: 2 };
    /// What those speak who do not say: builds from before version 2.
    pub const UNSAID: Self = Self { oldest: 1, newest: 1 };

    /// The newest version that both speak.
    ///
    /// # Errors
    /// [`NoCommonVersion`] when there is none.
    pub fn common(self, theirs: Self) -> Result<u32, NoCommonVersion> {
        let newest = self.newest.min(theirs.newest);
        match newest >= self.oldest.max(theirs.oldest) {
            true => Ok(newest),
            false => Err(NoCommonVersion { ours: self, theirs }),
        }
    }

    /// Whether these are what is taken to be spoken where nothing is said.
    pub fn is_unsaid(&self) -> bool {
        *self == Self::UNSAID
    }
}

impl Default for Versions {
    /// Of those who do not say.
    fn default() -> Self {
        Self::UNSAID
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "version {}", self.newest),
            false => write!(f, "versions {} to {}", self.oldest, self.newest),
        }
    }
}

/// Two programs have no version in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCommonVersion {
    /// What this one speaks.
    pub ours: Versions,
    /// What the other one speaks.
    pub theirs: Versions,
}

impl std::error::Error for NoCommonVersion {}

impl fmt::Display for NoCommonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs } = self;
        let older = if ours.newest < theirs.oldest { "this program" } else { "the other one" };
        write!(
            f,
            "it speaks {theirs} of the farm's protocol, this program {ours}: upgrade {older}, one release at a time"
        )
    }
}

/// The newest version that a program is to speak, as a setting: one of [`Versions::OURS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct NewestVersion(u32);

/// A version that this build does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this build speaks {ours} of the farm's protocol, not {0}", ours = Versions::OURS)]
pub struct UnknownVersion(u32);

impl NewestVersion {
    /// What is spoken under this setting.
    pub const fn versions(self) -> Versions {
        Versions { oldest: Versions::OURS.oldest, newest: self.0 }
    }
}

impl Default for NewestVersion {
    fn default() -> Self {
        Self(Versions::OURS.newest)
    }
}

impl TryFrom<u32> for NewestVersion {
    type Error = UnknownVersion;
    fn try_from(version: u32) -> Result<Self, UnknownVersion> {
        let Versions { oldest, newest } = Versions::OURS;
        if (oldest..=newest).contains(&version) {
            Ok(Self(version))
        } else {
            Err(UnknownVersion(version))
        }
    }
}

impl From<NewestVersion> for u32 {
    fn from(newest: NewestVersion) -> Self {
        newest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(oldest: u32, newest: u32) -> Versions {
        Versions { oldest, newest }
    }

    #[test]
    fn the_newest_version_that_both_speak_is_chosen_and_without_one_it_is_said_who_is_too_old() {
        assert_eq!(versions(1, 2).common(versions(1, 2)), Ok(2));
        assert_eq!(versions(1, 2).common(versions(2, 3)), Ok(2));
        assert_eq!(versions(2, 3).common(versions(1, 2)), Ok(2));
        assert_eq!(versions(1, 2).common(Versions::UNSAID), Ok(1));
        let said = |ours: Versions, theirs| ours.common(theirs).unwrap_err().to_string();
        let new = said(versions(1, 2), versions(3, 4));
        assert_eq!(
            new,
            "it speaks versions 3 to 4 of the farm's protocol, this program versions 1 to 2: \
             upgrade this program, one release at a time"
        );
        assert!(said(versions(2, 3), Versions::UNSAID).contains("upgrade the other one"));
    }

    #[test]
    fn a_neighbouring_build_always_has_a_version_in_common() {
        let Versions { oldest, newest } = Versions::OURS;
        assert!(newest - oldest <= 1, "two releases are kept, no more");
        for neighbour in
            [versions(oldest.max(2) - 1, newest.max(2) - 1), versions(newest, newest + 1)]
        {
            assert!(Versions::OURS.common(neighbour).is_ok(), "{neighbour}");
        }
    }

    #[test]
    fn a_program_can_be_held_at_a_version_that_it_speaks_and_at_no_other() {
        let Versions { oldest, newest } = Versions::OURS;
        let held = NewestVersion::try_from(oldest).map(NewestVersion::versions);
        assert_eq!(held, Ok(versions(oldest, oldest)));
        let error = NewestVersion::try_from(newest + 1).unwrap_err().to_string();
        assert!(error.starts_with("this build speaks versions 1 to 2"), "{error}");
        assert!(NewestVersion::try_from(0).is_err());
    }
}
