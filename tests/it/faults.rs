//! What breaks from outside, and what is left of the promises then: the table of
//! docs/failure-modes.md names these tests. Real replicas, a real PostgreSQL, the door where it
//! matters.
//!
//! The times and the bounds are those that the whole suite has time for, on a machine that runs
//! other tests meanwhile; variables, named on each page, make them what
//! docs/performance.md reports.

mod bank;
mod chaos;
mod deploy;
mod failover;
mod floods;
mod frozen;
mod hang;
mod house;
mod network;
mod patroni;
mod pooler;
mod slow;
mod startup;
