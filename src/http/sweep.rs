//! The sweep: once a second it checks the sockets of all open connections.
//!
//! It ends a connection that sends no request, whose body takes too long, or whose client was
//! refused and does not leave. It drops an ended accept loop once its last connection has gone.
//! Some connections the library keeps for ever: a thread and two descriptors for each request line
//! with `HTTP/2.0`, or for a body announced larger than all memory. The sweep counts them; above a
//! limit the replica shuts down, and its supervisor starts another.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::error;

use super::connections::Overdue;
use super::dispatch::Dispatch;
use super::problem::Problem;
use super::reply::Reply;
use super::sockets::Socket;

/// How many connections the library may keep for ever before the replica shuts down.
const LOST_MAX: usize = 64;
/// A busy thread keeps a connection for a moment after its end. Only connections that so many
/// sweeps in a row find are lost.
const LOST_SWEEPS: u32 = 10;

pub(super) struct Sweep {
    dispatch: Arc<Dispatch>,
    /// The open connections, each with the instant at which a look first found it.
    open: HashMap<SocketAddr, Instant>,
    lost_for: u32,
    /// When [`Sweep::end_leaving`] may look again.
    next_look_at_leaving: Instant,
}

impl Sweep {
    pub(super) fn new(dispatch: Arc<Dispatch>) -> Sweep {
        Sweep { dispatch, open: HashMap::new(), lost_for: 0, next_look_at_leaving: Instant::now() }
    }

    pub(super) fn run(&mut self) {
        let begun = Instant::now();
        let Some(look) = self.dispatch.sockets.look() else { return };
        self.dispatch.note_other_descriptors(look.beside);
        self.open.retain(|peer, _| look.open.contains_key(peer));
        for peer in look.open.keys() {
            self.open.entry(*peer).or_insert(begun);
        }
        let open = self.open.iter().map(|(peer, since)| (*peer, look.open[peer], *since));
        for (socket, overdue) in self.dispatch.overdue(open) {
            match overdue {
                Overdue::Body => socket.end_reading(),
                Overdue::EndSending => self.dispatch.tell(&socket),
                Overdue::Silent => {
                    socket.pin().iter().for_each(|it| it.send(&self.late(), false));
                    self.end(&socket);
                }
                Overdue::Everything => self.end(&socket),
            }
        }
        let gone = self.dispatch.keep(begun, |peer| look.open.contains_key(&peer));
        if !gone.is_empty() {
            // To drop an accept loop the library connects to our own port, which may take long.
            let _ = self.dispatch.aside.run_in_turn("accept-loop", gone, drop);
        }
        self.judge_lost(look.kept / 2);
    }

    /// Ends the connections whose last answer said that they end. A look at thousands of
    /// descriptors takes long, so the pause after each is five times its length.
    pub(super) fn end_leaving(&mut self) {
        let begun = Instant::now();
        if begun < self.next_look_at_leaving {
            return;
        }
        let leaving = self.dispatch.leaving();
        if leaving.is_empty() {
            return;
        }
        // If the system does not let us look, a later sweep ends these connections.
        let Some(look) = self.dispatch.sockets.look() else { return };
        for peer in leaving {
            let found =
                look.open.get(&peer).and_then(|pair| self.dispatch.sockets.socket(peer, *pair));
            match found {
                Some(socket) => self.dispatch.tell(&socket),
                None => self.dispatch.lose_connection(peer, None),
            }
        }
        self.next_look_at_leaving = Instant::now() + begun.elapsed() * 5;
    }

    fn end(&self, socket: &Socket) {
        socket.end();
        self.dispatch.cut_connection(socket);
    }

    /// The addresses of all clients whose connections are open now.
    pub(super) fn clients(&self) -> HashSet<SocketAddr> {
        self.dispatch.sockets.look().map(|look| look.open.into_keys().collect()).unwrap_or_default()
    }

    /// The answer to a client that sent no request, or one that the library does not answer.
    fn late(&self) -> Vec<u8> {
        let reply = Reply::from(Problem::no_request());
        self.dispatch.last_answer(&reply, &super::request_id(None), false)
    }

    fn judge_lost(&mut self, kept: usize) {
        // A connection that waits for a thread is not lost.
        let lost = kept > LOST_MAX && self.dispatch.is_idle_aside();
        self.lost_for = if lost { self.lost_for + 1 } else { 0 };
        if self.lost_for == LOST_SWEEPS {
            error!(
                "event=process_ends reason=\"the server library keeps {kept} connections for \
                 ever\" hint=\"somebody sends requests to this port that no proxy would pass\""
            );
            self.dispatch.shutdown.fail();
        }
    }
}
