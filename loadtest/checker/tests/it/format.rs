use checker::{Amount, Answer, Record, Request, State, read, write_head, write_record};

#[test]
fn a_history_is_read_as_it_was_written() {
    let change = |key: Option<&str>| Request::Change {
        changes: vec![Amount { user_id: 1, amount: -2 }],
        key: key.map(str::to_owned),
    };
    let states = vec![State { user_id: 1, balance: 48, number: 2 }];
    let pairs = [
        (Request::Read { user_id: 1 }, Answer::Balance { balance: 50, number: None }),
        (Request::At { user_id: 1, number: 1 }, Answer::Balance { balance: 50, number: Some(1) }),
        (change(Some("a")), Answer::Changed { states, replayed: true }),
        (change(None), Answer::Refused { user_id: 1, balance: 1, replayed: false }),
        (change(None), Answer::NotApplied),
        (change(None), Answer::Unknown),
    ];
    let records = pairs.map(|(request, answer)| {
        let (client, begun, ended) = (7, 1, u64::MAX);
        Record { client, begun, ended, request, answer }
    });
    let mut bytes = Vec::new();
    write_head(&mut bytes).unwrap();
    records.iter().for_each(|record| write_record(&mut bytes, record).unwrap());
    let read_line = concat!(
        r#"{"client":7,"begun":1,"ended":18446744073709551615,"#,
        r#""request":{"read":{"userId":1}},"answer":{"balance":{"balance":50}}}"#
    );
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(text.lines().take(2).collect::<Vec<_>>(), [r#"{"history":1}"#, read_line]);
    assert_eq!(read(bytes.as_slice()).unwrap(), records);
}

#[test]
fn what_is_no_history_is_told_with_its_line() {
    for (text, line) in [
        ("", "line 1: not {\"history\":1}"),
        ("{\"history\":2}\n", "line 1: not {\"history\":1}"),
        ("{\"history\":1}\n{\"client\":1}\n", "line 2: missing field"),
        ("{\"history\":1}\n\n", "line 2: EOF"),
    ] {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(error.starts_with(line), "{text}: {error}");
    }
}
