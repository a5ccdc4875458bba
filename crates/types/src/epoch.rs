//! Who may write a stream's output: [`Epoch`], raised at every placement and every change of owner.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The right to write one stream's output. The origin takes only the highest it has seen and fences the rest.
///
/// Ordered first by `generation` (raised when a router claims the session), then by `placement`
/// (raised by that router for each worker it places). Text form: `generation.placement`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch {
    /// Which claim on the stream's session.
    pub generation: u64,
    /// Which placement within that claim.
    pub placement: u64,
}

impl Epoch {
    /// The next placement by the same owner.
    #[must_use]
    pub const fn next_placement(self) -> Self {
        Self { placement: self.placement + 1, ..self }
    }

    /// The first epoch of the next owner.
    #[must_use]
    pub const fn next_generation(self) -> Self {
        Self { generation: self.generation + 1, placement: 0 }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.placement)
    }
}

/// The text is not `generation.placement`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoch {0:?} is not of the form generation.placement, like 3.1")]
pub struct EpochError(String);

impl FromStr for Epoch {
    type Err = EpochError;
    fn from_str(text: &str) -> Result<Self, EpochError> {
        text.split_once('.')
            .and_then(|(generation, placement)| {
                Some(Self {
                    generation: generation.parse().ok()?,
                    placement: placement.parse().ok()?,
                })
            })
            .ok_or_else(|| EpochError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_owner_outranks_every_placement_of_the_old_one() {
        let old = Epoch { generation: 1, placement: 99 };
        assert!(old.next_generation() > old.next_placement());
    }

    #[test]
    fn epoch_text_round_trips_and_rubbish_is_named() {
        let epoch = Epoch { generation: 7, placement: 2 };
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert_eq!("7".parse::<Epoch>(), Err(EpochError("7".into())));
    }
}
