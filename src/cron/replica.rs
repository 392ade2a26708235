//! What the parts of one replica share.

use std::sync::Arc;

use super::held::Held;
use super::lease::Leases;
use crate::metrics::Metrics;

pub(super) struct Replica {
    pub(super) leases: Leases,
    pub(super) held: Held,
    pub(super) metrics: Arc<Metrics>,
}
