//! The tests that need a real PostgreSQL, real sockets or real processes: one binary, so that
//! they share one private server and run side by side.

mod support;

mod balance;
mod claim;
mod clocks;
mod compose;
mod cron;
mod deadline;
mod disturbed;
mod door;
mod faults;
mod fence;
mod few_connections;
mod fields;
mod framing;
mod front;
mod guard;
mod http;
mod idempotency;
mod interleavings;
mod jobs;
mod lanes;
mod logs;
mod metrics;
mod migrations;
mod openapi;
mod outage;
mod pages;
mod panics;
mod pinned;
mod preconditions;
mod refused;
mod replicas;
mod rights;
mod scripts;
mod shedding;
mod soak;
mod spread;
mod steer;
mod takeover;
mod tidy;
mod tls;
mod zones;
