//! Histories of an exact ledger are always accepted; each planted fault is found, and named.

mod exact;
mod faults;
mod format;
mod gaps;
mod ledger;
mod orders;
mod sets;
mod time;
