use super::*;

fn call(body: &str) -> Call {
    Call { body: body.as_bytes().to_vec(), ..Call::default() }
}

fn amount(body: &str) -> Result<i64, (&'static str, Option<String>)> {
    let read = || {
        let mut fields = Fields::parse(&call(body))?;
        let amount = fields.take_integer("amount")?;
        fields.end()?;
        Ok(amount)
    };
    read().map_err(|problem: Problem| (problem.code(), problem.field()))
}

#[test]
fn whole_numbers_of_64_bits_are_exact() {
    for number in [1, -2, i64::MAX, i64::MIN, 9_007_199_254_740_993] {
        assert_eq!(amount(&format!(" {{ \"amount\" : {number} }} ")), Ok(number));
    }
}

#[test]
fn anything_else_is_refused_with_the_name_of_the_field() {
    let refused = Err(("invalid_request", Some("amount".to_owned())));
    for value in ["2.5", "2.0", "1e3", "\"2\"", "true", "null", "[]", "{}", "9223372036854775808"] {
        assert_eq!(amount(&format!("{{\"amount\":{value}}}")), refused, "{value}");
    }
    assert_eq!(amount("{}"), refused);
    assert_eq!(amount(r#"{"amount":1,"amount":1}"#), refused);
    let unknown = Err(("invalid_request", Some("note".to_owned())));
    assert_eq!(amount(r#"{"amount":1,"note":1}"#), unknown);
    let no_object = Err(("invalid_request", Some("body".to_owned())));
    for body in ["[]", "1", "null", "\"amount\""] {
        assert_eq!(amount(body), no_object, "{body}");
    }
}

#[test]
fn a_byte_order_mark_before_the_object_is_passed_by() {
    assert_eq!(amount("\u{feff}{\"amount\":2}"), Ok(2));
    for body in ["\u{feff}", "\u{feff}\u{feff}{\"amount\":2}", "{\u{feff}\"amount\":2}"] {
        assert_eq!(amount(body), Err(("invalid_json", None)), "{body:?}");
    }
}

#[test]
fn only_a_body_without_a_coding_is_read() {
    let code = |coding: &str| {
        let content_encoding = Some(coding.to_owned());
        let call = Call { content_encoding, ..call("{}") };
        Fields::parse(&call).err().map(|problem| problem.code())
    };
    for plain in ["", " ", ",", "identity", "Identity", "identity, IDENTITY ,"] {
        assert_eq!(code(plain), None, "{plain:?}");
    }
    for coded in ["gzip", "GZIP", "identity, br", "identit", "identity;q=1", "identity gzip"] {
        assert_eq!(code(coded), Some("unsupported_encoding"), "{coded:?}");
    }
}

#[test]
fn what_is_not_json_is_told_so() {
    for body in ["", "{", "amount=1", "{\"amount\":1}x", "{'amount':1}", "{\"amount\":01}"] {
        assert_eq!(amount(body), Err(("invalid_json", None)), "{body}");
    }
    for no_object in ["\"amount\"{", "[1", "1 2"] {
        assert_eq!(amount(no_object), Err(("invalid_json", None)), "{no_object}");
    }
    let nested = "[".repeat(512);
    assert_eq!(amount(&format!("{{\"amount\":{nested}")), Err(("invalid_json", None)));
}

#[test]
fn a_query_is_as_strict() {
    let limit = |text| {
        let mut query = Query::parse(text);
        let limit = query.take_integer("limit", 1..=9)?;
        query.end().map(|()| limit)
    };
    assert_eq!(limit("").unwrap(), None);
    assert_eq!(limit("limit=").unwrap(), None);
    assert_eq!(limit("limit=9").unwrap(), Some(9));
    for wrong in ["limit=0", "limit=10", "limit=x", "limit=1&limit=2", "limt=1", "limit=1&a"] {
        assert_eq!(limit(wrong).unwrap_err().code(), "invalid_request", "{wrong}");
    }
}

#[test]
fn members_given_twice_are_kept_in_objects_of_a_list_too() {
    let read = |body: &str| -> Result<Vec<i64>, Problem> {
        let mut fields = Fields::parse(&call(body))?;
        let mut changes = fields.take_objects("changes")?;
        fields.end()?;
        changes.iter_mut().map(|change| change.take_integer("amount")).collect()
    };
    let read = |body: &str| read(body).map_err(|problem| problem.field());
    assert_eq!(read(r#"{"changes":[]}"#), Ok(vec![]));
    assert_eq!(read(r#"{"changes":[{"amount":1},{"amount":-2}]}"#), Ok(vec![1, -2]));
    for (body, field) in [
        (r#"{"changes":[{"amount":1,"amount":1}]}"#, "amount"),
        (r#"{"changes":[{"amount":[{}]}]}"#, "amount"),
        (r#"{"changes":[{"amount":1},2]}"#, "changes[1]"),
        (r#"{"changes":[],"changes":[]}"#, "changes"),
        (r#"{"changes":{}}"#, "changes"),
        ("{}", "changes"),
    ] {
        assert_eq!(read(body), Err(Some(field.to_owned())), "{body}");
    }
    assert_eq!(read(r#"{"changes":[{"amount":1}"#), Err(None));
}
