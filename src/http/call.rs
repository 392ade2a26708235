//! A request as the handlers see it: read to its end, without a connection.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path and the query, as sent.
    pub target: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
    /// The value of `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// The client's name for this request, or ours.
    pub request_id: String,
    /// At most [`BODY_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// The longest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 1_024;
const REQUEST_ID_LENGTH_MAX: usize = 128;

impl Call {
    /// The target up to the question mark.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The target behind the question mark.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// The client's request id where it is sane, else a new one: unique in the process by a counter,
/// and among processes by a random start.
pub fn request_id(given: Option<&str>) -> String {
    static NONCE: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let sane = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte);
        !id.is_empty() && id.len() <= REQUEST_ID_LENGTH_MAX && id.bytes().all(plain)
    };
    match given.filter(sane) {
        Some(id) => id.to_owned(),
        None => format!("{:016x}-{:x}", *NONCE, COUNTER.fetch_add(1, Ordering::Relaxed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(Some("7f-a.B_1")), "7f-a.B_1");
        for strange in ["", "a b", "a\"b", "é", &"x".repeat(129)] {
            assert_ne!(request_id(Some(strange)), strange);
        }
        assert_ne!(request_id(None), request_id(None));
    }
}
