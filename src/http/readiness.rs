//! Whether this replica should get requests, and what it says when somebody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::db::Health;
use crate::shutdown::Signal;

/// Whether this replica should get requests. It is known in memory, so a check never waits.
pub struct Readiness {
    health: Arc<Health>,
    migrated: AtomicBool,
    shutdown: Signal,
}

impl Readiness {
    /// Starts as not ready, until [`Readiness::migrated`] is called.
    pub fn new(health: Arc<Health>, shutdown: Signal) -> Readiness {
        Readiness { health, migrated: AtomicBool::new(false), shutdown }
    }

    /// Notes that the migrations are applied. Until then, requests that need the database get 503.
    pub fn migrated(&self) {
        self.migrated.store(true, Ordering::Release);
    }

    pub(super) fn is_migrated(&self) -> bool {
        self.migrated.load(Ordering::Acquire)
    }

    /// The answer when requests are served. It also says whether jobs are run.
    pub(super) fn of_both(&self) -> HealthBody {
        let (jobs, detail) = match self.health.claimable() {
            None => ("off", None),
            Some(Ok(())) => ("ready", None),
            Some(Err(reason)) => ("not_ready", Some(reason)),
        };
        HealthBody { jobs: Some(jobs), detail, ..HealthBody::of("ready") }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.shutdown.has_begun() {
            return Err("this replica is shutting down".to_owned());
        }
        self.health.check()?;
        match self.is_migrated() {
            true => Ok(()),
            false => Err("the migrations are not applied yet".to_owned()),
        }
    }
}

#[derive(Serialize)]
pub(super) struct HealthBody {
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jobs: Option<&'static str>,
    /// Why no job is claimed, if jobs are not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

impl HealthBody {
    pub(super) fn of(status: &'static str) -> HealthBody {
        HealthBody { status, jobs: None, detail: None }
    }
}
