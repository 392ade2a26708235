//! JSON Schema, as far as the document uses it.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// What a reference leads to; the value itself where it is none.
pub(super) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(place) => resolve(document, document.pointer(&place[1..]).expect("a place")),
        None => value,
    }
}

/// Why the value does not fit. Stricter than JSON Schema: a member that is not documented is a
/// fault, and so is a keyword that nothing here knows.
pub(super) fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut check = Check { document, faults: Vec::new() };
    check.members(schema, value, "");
    check.value(schema, value, "");
    check.faults
}

struct Check<'a> {
    document: &'a Value,
    faults: Vec<String>,
}

impl Check<'_> {
    fn value(&mut self, schema: &Value, value: &Value, at: &str) {
        for (keyword, rule) in schema.as_object().expect("a schema") {
            let fits = match keyword.as_str() {
                "description" | "format" | "default" => true,
                "$ref" => {
                    self.value(resolve(self.document, schema), value, at);
                    true
                }
                "allOf" => {
                    list(rule).iter().for_each(|part| self.value(part, value, at));
                    true
                }
                "anyOf" => {
                    list(rule).iter().any(|part| faults(self.document, part, value).is_empty())
                }
                "not" => !faults(self.document, rule, value).is_empty(),
                "properties" => {
                    self.properties(object(rule), value, at);
                    true
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        let at = format!("{at}/{index}");
                        self.members(rule, item, &at);
                        self.value(rule, item, &at);
                    }
                    true
                }
                "additionalProperties" => self.additional(schema, rule, value, at),
                _ => fits(keyword, rule, value),
            };
            if !fits {
                self.faults.push(format!("{at}: {value} is against {keyword}: {rule}"));
            }
        }
    }

    fn properties(&mut self, properties: &Map<String, Value>, value: &Value, at: &str) {
        for (name, schema) in properties {
            if let Some(member) = value.get(name) {
                let at = format!("{at}/{name}");
                self.members(schema, member, &at);
                self.value(schema, member, &at);
            }
        }
    }

    fn additional(&mut self, schema: &Value, rule: &Value, value: &Value, at: &str) -> bool {
        let known = &schema["properties"];
        let others = value.as_object().into_iter().flatten();
        for (name, member) in others.filter(|(name, _)| known.get(name).is_none()) {
            match rule {
                Value::Bool(false) => return false,
                rule => self.value(rule, member, &format!("{at}/{name}")),
            }
        }
        true
    }

    /// Looks for members of an object that no part of the schema knows.
    fn members(&mut self, schema: &Value, value: &Value, at: &str) {
        let described = self.describes(schema, "properties");
        if !described || self.describes(schema, "additionalProperties") {
            return;
        }
        for name in value.as_object().into_iter().flat_map(Map::keys) {
            if !self.knows(schema, name) {
                self.faults.push(format!("{at}/{name} is not documented"));
            }
        }
    }

    fn describes(&self, schema: &Value, keyword: &str) -> bool {
        self.parts(schema).iter().any(|part| part.get(keyword).is_some())
    }

    fn knows(&self, schema: &Value, name: &str) -> bool {
        self.parts(schema).iter().any(|part| part["properties"].get(name).is_some())
    }

    /// The schema and those it is made of.
    fn parts<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let own = resolve(self.document, schema);
        let others = ["allOf", "anyOf"].into_iter().filter_map(|keyword| own[keyword].as_array());
        let mut parts: Vec<&Value> = others.flatten().flat_map(|part| self.parts(part)).collect();
        parts.push(own);
        parts
    }
}

/// What speaks of the value alone. A rule about another type of value is fulfilled.
fn fits(keyword: &str, rule: &Value, value: &Value) -> bool {
    let length = |text: &str| text.chars().count() as u64;
    let names = || list(rule).iter().map(|name| name.as_str().unwrap());
    match keyword {
        "const" => value == rule,
        "enum" => list(rule).contains(value),
        "type" if rule.is_array() => list(rule).iter().any(|name| is_a(name, value)),
        "type" => is_a(rule, value),
        "minimum" => !value.is_number() || at_least(value, rule),
        "maximum" => !value.is_number() || at_least(rule, value),
        "maxLength" => value.as_str().is_none_or(|text| Some(length(text)) <= rule.as_u64()),
        "maxItems" => value.as_array().is_none_or(|all| Some(all.len() as u64) <= rule.as_u64()),
        "minItems" => value.as_array().is_none_or(|all| Some(all.len() as u64) >= rule.as_u64()),
        "minProperties" => {
            value.as_object().is_none_or(|all| Some(all.len() as u64) >= rule.as_u64())
        }
        "pattern" => {
            let pattern = Regex::new(rule.as_str().unwrap()).expect("a pattern");
            value.as_str().is_none_or(|text| pattern.is_match(text))
        }
        "required" => {
            value.as_object().is_none_or(|all| names().all(|name| all.contains_key(name)))
        }
        unknown => panic!("no such keyword: {unknown}"),
    }
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        unknown => panic!("no such type: {unknown}"),
    }
}

/// Exact for whole numbers of 64 bits.
fn at_least(greater: &Value, smaller: &Value) -> bool {
    match (greater.as_i64(), smaller.as_i64()) {
        (Some(greater), Some(smaller)) => greater >= smaller,
        _ => greater.as_f64() >= smaller.as_f64(),
    }
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

#[test]
fn a_value_that_does_not_fit_is_told_apart() {
    let document = serde_json::json!({"a": {"type": "object", "required": ["n"], "properties": {
        "n": {"type": ["integer", "null"], "minimum": 1, "not": {"const": 5}},
        "t": {"anyOf": [{"const": "x"}, {"type": "string", "pattern": "^y+$"}]},
        "l": {"type": "array", "maxItems": 1, "items": {"$ref": "#/b"}},
    }}, "b": {"allOf": [{"properties": {"p": {"enum": [1, 2]}}}], "minProperties": 1}});
    let count = |text: &str| {
        let value = serde_json::from_str(text).unwrap();
        faults(&document, &document["a"], &value).len()
    };
    for fits in [r#"{"n":1}"#, r#"{"n":null,"t":"x"}"#, r#"{"n":2,"t":"yy","l":[{"p":2}]}"#] {
        assert_eq!(count(fits), 0, "{fits}");
    }
    for wrong in [
        "{}",
        "1",
        r#"{"n":0}"#,
        r#"{"n":5}"#,
        r#"{"n":1.5}"#,
        r#"{"n":1,"more":1}"#,
        r#"{"n":1,"t":"z"}"#,
        r#"{"n":1,"l":[{"p":3}]}"#,
        r#"{"n":1,"l":[{}]}"#,
        r#"{"n":1,"l":[{"p":1},{"p":1}]}"#,
        r#"{"n":1,"l":[{"p":1,"q":1}]}"#,
    ] {
        assert_eq!(count(wrong), 1, "{wrong}");
    }
}
