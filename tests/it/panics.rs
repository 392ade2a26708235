//! A panic in the application costs the request that it happened in, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use balanced::db::Health;
use balanced::http::{Application, Asked, Call, Problem, Reply, Route};

use crate::support::{Answers, Local, get};

/// A panic costs its own request, and neither the worker nor anybody else.
#[test]
fn a_panic_in_a_handler_costs_one_answer_and_no_worker() {
    let application = Answers(|call: &Call| match call.path() {
        "/api/users/1" => panic!("as a bug would"),
        _ => Reply::json(200, &"fine"),
    });
    let second = Duration::from_secs(1);
    let server = Local::serve(2, second, Arc::new(Health::default()), Arc::new(application));
    for _ in 0..10 {
        let answer = get(server.addr, "/api/users/1");
        assert_eq!((answer.status, answer.code()), (500, "internal".to_owned()));
        assert!(!String::from_utf8_lossy(&answer.body).contains("bug"), "no detail leaves");
        assert_eq!(get(server.addr, "/").status, 200);
    }
    let server = Local::serve(2, second, Arc::new(Health::default()), Arc::new(PanicsAtCheck));
    for _ in 0..10 {
        let answer = get(server.addr, "/api/users/1");
        assert_eq!((answer.status, answer.code()), (500, "internal".to_owned()));
        assert_eq!(get(server.addr, "/").status, 200);
    }
}

/// Before the request is understood.
struct PanicsAtCheck;

impl Application for PanicsAtCheck {
    fn check(&self, _: &Route, call: &Call) -> Result<Option<Arc<str>>, Problem> {
        assert_ne!(call.path(), "/api/users/1", "as a bug would");
        Ok(None)
    }

    fn answer(&self, _: &Asked<'_>) -> Reply {
        Reply::json(200, &"fine")
    }
}
