//! The tests that need a real PostgreSQL, real sockets or real processes: one binary, so that
//! they share one private server and run side by side.

mod support;

mod balance;
mod deadline;
mod front;
mod http;
mod idempotency;
mod migrations;
mod replicas;
mod tidy;
