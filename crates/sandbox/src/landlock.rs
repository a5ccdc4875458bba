//! Landlock: no file can be reached (but those given, to read), and since Linux 6.12 no abstract socket and no process
//! outside can be. Seccomp forbids all of it as well; this holds where a system call slipped through.

use std::path::PathBuf;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::State;

/// What we know to ask for; an older kernel gives what it has.
const WANTED: ABI = ABI::V6;

/// Applies it and says what became of files and of scope.
pub(crate) fn apply(readable: &[PathBuf]) -> (State, State) {
    let status = match restrict(readable) {
        Ok(status) => status,
        Err(error) => {
            let why = State::Unavailable(error.to_string());
            return (why.clone(), why);
        }
    };
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled => return not_here("not enabled at boot (lsm=)"),
        LandlockStatus::NotImplemented => return not_here("not in this kernel"),
    };
    if status.ruleset == RulesetStatus::NotEnforced {
        return not_here("not enforced");
    }
    let scope = if abi >= ABI::V6 {
        State::Applied
    } else {
        State::Unavailable(format!("landlock {abi:?} of this kernel, needs V6 (Linux 6.12)"))
    };
    (State::Applied, scope)
}

fn restrict(readable: &[PathBuf]) -> Result<::landlock::RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(WANTED)))?
        .restrict_self()
}

fn not_here(why: &str) -> (State, State) {
    let state = State::Unavailable(format!("landlock is {why}"));
    (state.clone(), state)
}
