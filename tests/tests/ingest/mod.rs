//! What publishers send, and what becomes of it: each kind is published by a real client into a real farm, and what
//! players get is decoded and held against it frame by frame; or it is refused, and everybody hears why.

mod clocks;
mod encoders;
mod formats;
mod obs;
mod refusals;
mod skew;
mod stage;
