use super::*;

#[test]
fn a_young_outage_is_waited_for_and_never_called_ready() {
    let health = Health::default();
    assert!(health.check().is_err(), "nothing has answered yet");
    health.answered();
    assert_eq!(health.check(), Ok(()));
    assert!(health.failed(Instant::now(), "connection refused"));
    assert!(!health.failed(Instant::now(), "connection refused"), "reported once");
    assert_eq!(health.trouble(), None);
    assert_eq!(health.check(), Err("connection refused".to_owned()));
    health.answered();
    assert_eq!(health.check(), Ok(()));
}

#[test]
fn an_outage_concerns_what_began_before_the_last_try_and_was_not_sent() {
    let (waiting, sent) = (Deadline::within(SILENCE_MAX), Deadline::within(SILENCE_MAX));
    sent.send().unwrap();
    let away = Trouble::Away { tried: Instant::now(), reason: String::new() };
    std::thread::sleep(Duration::from_millis(1));
    let later = Deadline::within(SILENCE_MAX);
    assert!(away.concerns(&waiting));
    assert!(!away.concerns(&sent));
    assert!(!away.concerns(&later));
    assert!(Trouble::Silent(SILENCE_MAX).concerns(&sent));
}

#[test]
fn silence_counts_while_the_probe_asks_and_from_the_last_return() {
    let short = Duration::from_millis(200);
    let health = Health::default();
    std::thread::sleep(short);
    assert_eq!(health.silence(), Duration::ZERO);
    health.asks();
    std::thread::sleep(short);
    let silence = health.silence();
    assert!(silence >= short, "{silence:?}");
    health.returned();
    assert!(health.silence() < silence);
    health.asks_no_more();
    assert_eq!(health.silence(), Duration::ZERO);
}
