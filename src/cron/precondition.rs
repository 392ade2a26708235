//! What a client may demand of a job before it is touched.

/// What a job must be like for a request about it to be carried out (RFC 9110, 13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Anything.
    None,
    /// There is none yet.
    Absent,
    /// There is one.
    Present,
    /// Its settings have one of these tags.
    Tagged(Vec<String>),
}

impl Precondition {
    pub(super) fn met_without_a_job(&self) -> bool {
        matches!(self, Precondition::None | Precondition::Absent)
    }

    pub(super) fn met_by(&self, tag: &str) -> bool {
        self.tags().is_none_or(|tags| tags.iter().any(|one| one == tag))
    }

    /// The tags that a job may have; none where it may have any.
    pub(super) fn tags(&self) -> Option<&[String]> {
        match self {
            Precondition::None | Precondition::Present => None,
            Precondition::Absent => Some(&[]),
            Precondition::Tagged(tags) => Some(tags),
        }
    }
}
