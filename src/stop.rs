//! The one signal to end: a flag and a condition variable, so that every wait in the program is
//! both bounded and interruptible.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A flag that is set once and never cleared. Clones share it.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Default)]
struct Shared {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// A flag that is not set.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Sets the flag and wakes everybody who waits for it.
    pub fn set(&self) {
        *self.0.set.lock() = true;
        self.0.changed.notify_all();
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        *self.0.set.lock()
    }

    /// Waits until the flag is set.
    pub fn wait(&self) {
        let mut set = self.0.set.lock();
        while !*set {
            self.0.changed.wait(&mut set);
        }
    }

    /// Waits until the flag is set, but no longer than `limit`; true when it is set.
    pub fn wait_for(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut set = self.0.set.lock();
        while !*set {
            if self.0.changed.wait_until(&mut set, until).timed_out() {
                break;
            }
        }
        *set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_flag_is_set_and_not_before() {
        let stop = Stop::new();
        assert!(!stop.wait_for(Duration::from_millis(1)));
        let waiter = std::thread::spawn({
            let stop = stop.clone();
            move || stop.wait_for(Duration::from_secs(60))
        });
        stop.set();
        assert!(waiter.join().unwrap());
        assert!(stop.wait_for(Duration::ZERO));
    }
}
