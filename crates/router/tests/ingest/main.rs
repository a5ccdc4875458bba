//! The ingest from outside: real encoders, and strangers that mean no good. Media is counted here; that it shows
//! the right pictures is the business of the end-to-end tests.

mod encoders;
mod farm;
mod obs;
mod publisher;
mod strangers;
mod transport;
