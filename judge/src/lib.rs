//! What measurements say of a release, as chances and evidence: green beside blue ([`compare`]), and a metric beside its own
//! past ([`placebo`]). Arithmetic alone: the same numbers give the same answer, bit for bit, and nothing here knows a clock,
//! a network, a policy or AWS. `shiftgate::judge` tells findings from it.
//!
//! A crate of its own, since it is built for speed and what is around it for size. The formulas and their sources are in
//! docs/judging.md.

mod arithmetic;
pub mod compare;
pub mod level;
pub mod noise;
pub mod placebo;
pub mod power;
pub mod series;
