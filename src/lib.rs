//! `balanced`: exact balances and single jobs in a cluster of replicas over one PostgreSQL.
//!
//! # How to read this program
//!
//! One small synchronous program; the database is the only place where replicas meet. A request
//! flows through it from the outside in and back:
//!
//! ```text
//! bytes ▶ http::route (pure) ▶ typed command ▶ ONE SQL statement ▶ outcome (a value) ▶ http::Reply
//! ```
//!
//! Only [`http`] knows HTTP; only [`balance`], [`users`] and [`migrate`] know tables; [`db`] knows
//! connections and no table. Who may use whom: `main` ▶ all; `http` ▶ `balance`, `users`, `db`,
//! `config`; `balance`, `users` ▶ `db`; `migrate` ▶ `db`, `stop`; `db` ▶ `stop`. A test holds the
//! code to this (`tests/it/tidy.rs`).
//!
//! # Laws
//!
//! - A change is one statement and one round trip, and is answered when it is durable.
//! - "Insufficient funds" is a value; an error is what nobody expected, and says whether the
//!   change can have happened ([`db::Outcome`]).
//! - Everything has a limit. Each request has a deadline that a thread outside of the database
//!   keeps ([`db::Attempt`]), because the driver has none.
//! - Health is answered from memory ([`db::Pulse`]).

pub mod config;
pub mod stop;

pub mod db;
pub mod migrate;

pub mod balance;
pub mod users;

pub mod http;
