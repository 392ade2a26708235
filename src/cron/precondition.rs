//! Conditions that a client sets for a request about a job.

/// What must hold of a job for a request to be carried out (RFC 9110, section 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing: the request has no condition.
    None,
    /// There is no job of this name (`If-None-Match: *`).
    Absent,
    /// There is a job of this name (`If-Match: *`).
    Present,
    /// The job's settings have one of these tags (`If-Match` with tags).
    Tagged(Vec<String>),
}

impl Precondition {
    pub(super) fn met_without_a_job(&self) -> bool {
        matches!(self, Precondition::None | Precondition::Absent)
    }

    /// The tags that a job may have; none when any tag is allowed.
    pub(super) fn tags(&self) -> Option<&[String]> {
        match self {
            Precondition::None | Precondition::Present => None,
            Precondition::Absent => Some(&[]),
            Precondition::Tagged(tags) => Some(tags),
        }
    }
}
