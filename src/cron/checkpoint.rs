//! Checkpoints: what a function keeps, so that another run of the same slot can go on from there.

use std::fmt::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::function::{Context, Failure};

const BYTES_MAX: usize = 4_096;

impl Context {
    /// Keeps where a run of the same slot can go on: the last checkpoint is what counts. The next
    /// renewal of the lease writes it, or the end of a run whose slot is run again; so after the
    /// death of this process, up to a third of the lease's length is done once more. `null` keeps
    /// nothing: the next run of the slot begins anew.
    ///
    /// # Errors
    /// [`Failure::Failed`] when it is no JSON, or more than 4,096 bytes of it, with what is not
    /// ASCII written as `\u....`.
    pub fn checkpoint(&self, value: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string(value)
            .map_err(|error| Failure::Failed(format!("a checkpoint is not JSON: {error}")))?;
        let json = escaped(&json);
        if json.len() > BYTES_MAX {
            return Err(Failure::Failed(format!(
                "a checkpoint of {} bytes of JSON is too long: keep at most {BYTES_MAX}",
                json.len()
            )));
        }
        self.running.set_checkpoint(json);
        Ok(())
    }

    /// The last checkpoint of the runs before this one for the same slot, or for the same request.
    /// None if there is none, or if it cannot be read as this type, as that of another build: then
    /// the work begins anew. A job's function may have other arguments by now: a function that
    /// takes some has to keep them in its checkpoint, and to compare them.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.running.claimed.checkpoint.as_deref()?).ok()
    }
}

/// The same JSON in ASCII, which a database of any encoding can hold: a checkpoint that the
/// database refuses would cost the lease that is renewed with it. Only the strings of JSON can have
/// other characters.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() {
            text.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing into memory cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_in_ascii_is_the_same_json() {
        let json = r#"{"größe":"a→b 😀 \" \u0000","n":1}"#;
        let text = escaped(json);
        assert!(text.is_ascii(), "{text}");
        let same = |text| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(same(&text), same(json));
    }
}
