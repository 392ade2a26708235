//! A bounded number of threads for work that may block on a client.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;

use log::error;
use parking_lot::Mutex;

/// Enough for a thread that only reads or writes a socket.
const STACK_BYTES: usize = 128 * 1024;
/// How much work may wait for a thread: for nearly as many connections as there can be.
const WAITING_MAX: usize = 10_000;

/// Runs work in at most `most` threads at the same moment.
pub(super) struct Aside {
    most: usize,
    state: Mutex<Load>,
}

#[derive(Default)]
struct Load {
    busy: usize,
    waiting: VecDeque<Work>,
}

type Work = Box<dyn FnOnce() + Send>;

impl Aside {
    pub(super) fn at_most(most: usize) -> Arc<Aside> {
        Arc::new(Aside { most, state: Mutex::default() })
    }

    /// Runs `work` on `item` in a new thread. If there is none, `item` comes back: it may be a
    /// request, and to drop one may mean to wait for its unread body.
    pub(super) fn run<T: Send + 'static>(
        self: &Arc<Aside>,
        name: &str,
        item: T,
        work: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), T> {
        {
            let mut state = self.state.lock();
            if state.busy >= self.most {
                return Err(item);
            }
            state.busy += 1;
        }
        let left = Arc::new(Mutex::new(Some(item)));
        let (taken, aside) = (Arc::clone(&left), Arc::clone(self));
        let run = move || {
            let item = taken.lock().take();
            let own = item.map(|item| -> Work { Box::new(move || work(item)) });
            let mut next = own.or_else(|| aside.next());
            while let Some(work) = next {
                // The library panics for some clients that have disconnected; the log has it.
                let _ = panic::catch_unwind(AssertUnwindSafe(work));
                next = aside.next();
            }
        };
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        let Err(reason) = builder.spawn(run) else { return Ok(()) };
        self.state.lock().busy -= 1;
        let reason = reason.to_string();
        error!("event=no_thread_left thread={name} reason={reason:?}");
        left.lock().take().map_or(Ok(()), Err)
    }

    /// Like [`Aside::run`], but the work may wait for a busy thread; at most [`WAITING_MAX`] wait.
    pub(super) fn run_in_turn<T: Send + 'static>(
        self: &Arc<Aside>,
        name: &str,
        item: T,
        work: impl FnOnce(T) + Clone + Send + 'static,
    ) -> Result<(), T> {
        let item = match self.run(name, item, work.clone()) {
            Ok(()) => return Ok(()),
            Err(item) => item,
        };
        let mut state = self.state.lock();
        // If no thread is busy, none will take work from the queue.
        if state.busy == 0 || state.waiting.len() >= WAITING_MAX {
            return Err(item);
        }
        state.waiting.push_back(Box::new(move || work(item)));
        Ok(())
    }

    /// Whether no thread is running.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().busy == 0
    }

    /// The work that has waited longest. If there is none, the calling thread counts as ended.
    fn next(&self) -> Option<Work> {
        let mut state = self.state.lock();
        let work = state.waiting.pop_front();
        state.busy -= usize::from(work.is_none());
        work
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn beyond_the_bound_the_item_comes_back_and_a_place_is_free_again_when_a_thread_has_ended() {
        let aside = Aside::at_most(1);
        let (end, ended) = mpsc::channel::<()>();
        aside.run("first", ended, |ended| assert!(ended.recv().is_err())).unwrap();
        assert_eq!(aside.run("second", 7, |_| ()), Err(7));
        let (told, tells) = mpsc::channel();
        aside.run_in_turn("third", told, |told| told.send(()).unwrap()).unwrap();
        assert!(tells.try_recv().is_err(), "it waits");
        drop(end);
        tells.recv().unwrap();
        while aside.run("fourth", (), |()| ()).is_err() {
            thread::yield_now();
        }
    }
}
