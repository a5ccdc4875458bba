//! Whole-system tests through the front door: real programs, real encoders and players, media judged by the stamp on every frame.
//! They are one program, since each would link the whole testkit again; every test runs in a process of its own all the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api_tls;
mod clock_step;
mod drain;
mod dual;
mod egress;
mod failing_node;
mod farm_faults;
mod farm_tls;
mod farm_up;
mod flushing;
mod frame_stamps;
mod full_farm;
mod hostile_worker;
mod ingest;
mod ladder_back;
mod latency;
mod node_restart;
mod origin_cost;
mod origin_loss;
mod players;
mod playlist_values;
mod poison;
mod publisher_returns;
mod registry;
mod registry_loss;
mod registry_set_back;
mod relay_beats;
mod reload;
mod rtmps;
mod shared_key;
mod soak;
mod spare_workers;
mod strangers;
mod units;
mod unkillable_worker;
mod upgrade;
mod worker_death;
mod worker_death_seen;
