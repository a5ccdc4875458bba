//! Spawning and confining a process: what stands between a stream's bytes and the host.
//!
//! Two halves. The node **spawns**: [`Spawn`] starts a worker with nothing but a listening socket as descriptor 3,
//! [`Child`] watches and ends it, [`Hierarchy`] puts it under a cgroup, [`Death`] names its end. The worker **confines**
//! itself: [`Confine::apply`] is the first thing its `main` does, single-threaded, before it reads a byte of a stream.
//!
//! Why in this order (each step takes away what an earlier one still needed):
//! 1. *Resource limits*: need nothing, and hold for all that follows.
//! 2. *Empty network namespace*: as root, while it is root; otherwise after 4, inside a user namespace of its own.
//! 3. *Bounding set*: dropped while CAP_SETPCAP is there.
//! 4. *User*: groups, group, user; from here on root is gone.
//! 5. *Capabilities*: every set cleared, also those a new user namespace granted.
//! 6. *`no_new_privs`*: asked for by the next two, and no way back for anything above.
//! 7. *Landlock*: no file, no abstract socket, no signal outside.
//! 8. *Seccomp*, last, because it forbids every call used above.
//!
//! `no_new_privs`, seccomp and resource limits apply or the worker must not start; each of the others is reported as
//! applied or unavailable with the reason, never silently missing. Nothing here follows the spawning thread
//! (no parent-death signal): workers outlive the node's daemon on purpose.
//!
//! Deliberately not here: deciding when to kill (`millrace-lifecycle`), the event loop (the node wraps the
//! descriptors of [`Child`] in its own), and what is said over the socket (`millrace-wire`).

mod cgroup;
mod child;
mod confine;
mod death;
mod inherited;
mod landlock;
mod limits;
mod network;
mod privileges;
mod report;
mod rlimits;
mod seccomp;
mod spawn;

pub use cgroup::{Cgroup, CgroupError, CgroupLimits, Hierarchy};
pub use child::Child;
pub use confine::{Confine, ConfineError};
pub use death::{Death, says_out_of_memory};
pub use inherited::{InheritedError, LISTENER_FD, inherited_listener};
pub use limits::{Limits, LimitsError, User};
pub use report::{Measure, Report, State};
pub use spawn::{Spawn, SpawnError, listen_to};
