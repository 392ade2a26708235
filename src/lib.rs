//! `balanced`: exact balances and single jobs in a cluster of replicas over one PostgreSQL.
//!
//! # How to read this program
//!
//! One small synchronous program; the database is the only place where replicas meet. Two things
//! flow through it. A request, from the outside in and back:
//!
//! ```text
//! bytes ▶ Call ▶ Command (pure) ▶ lane ▶ ONE SQL statement ▶ outcome (a value) ▶ http::Reply
//! ```
//!
//! What is wrong is answered before it waits for anything. The changes of one user's balance share
//! a lane: a few are worked on, the others hold neither a thread nor a connection. Sets of changes
//! of several users have a lane of their own. [`http`] says who takes a request, and how many there
//! can be.
//!
//! And a run of a job, each stage one write that a fencing token guards, each step of its function
//! one transaction that holds the lease (`docs/spec/lease.tla` says what breaks without):
//!
//! ```text
//! due ▶ offered ▶ claimed ▶ running (the lease is renewed) ▶ ended, in the history ▶ next slot
//! ```
//!
//! Only [`http`] knows HTTP; only [`balance`], [`users`], [`cron`], [`jobs`] and [`migrate`] know
//! tables; [`db`] knows connections and no table; [`metrics`] counts and knows nothing. [`balance`]
//! and [`cron`] never meet, and nothing can name, count or address another replica. Who may use
//! whom: `main` ▶ all; `http` ▶ `balance`, `users`, `cron`, `db`, `config`, `metrics`, `logger`;
//! `jobs` ▶ `cron`; `migrate`, `cron`, `balance`, `users` ▶ `db`; `db` ▶ `config`; `users` ▶
//! `balance`; `cron` ▶ `metrics`; `balance`, `cron`, `http` ▶ `timestamp`; `db`, `cron`, `http` ▶
//! `random`; `migrate`, `db`, `cron`, `http` ▶ `shutdown`. A test holds the code to this
//! (`tests/it/tidy.rs`). The program adds its commands: `jobs_command` asks a running service over
//! HTTP, and `token` makes a token.
//!
//! # Laws
//!
//! - A change is one statement and one round trip, and is answered when it is durable.
//! - "Insufficient funds" and "lease lost" are values; an error is what nobody expected, and says
//!   whether the change can have happened ([`db::Effect`]).
//! - The database's clock decides; what is sent there are intervals. A holder trusts its lease by
//!   its own clock, from before it asked, and lets go before the lease ends ([`cron`]).
//! - Everything has a limit. Each request has a deadline that a thread outside of the database
//!   keeps ([`db::Deadline`]), because the driver has none.
//! - Health and metrics are answered from memory ([`db::Health`]); the status of jobs never is: it
//!   is a query, so every replica gives the same answer.

pub mod config;
pub mod logger;
pub mod metrics;
pub mod random;
pub mod shutdown;
pub mod timestamp;

pub mod db;
pub mod migrate;

pub mod balance;
pub mod users;

pub mod cron;
pub mod jobs;

pub mod http;
