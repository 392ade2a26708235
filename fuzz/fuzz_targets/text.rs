//! Paths, headers and settings.

use balanced::balance::IdempotencyKey;
use balanced::config::Config;
use balanced::http::{self, NoRoute, Route};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Text up to the first line end, and the text behind it.
pub fn lines(data: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(data).into_owned();
    match text.split_once('\n') {
        Some((first, rest)) => (first.to_owned(), rest.to_owned()),
        None => (text, String::new()),
    }
}

/// A method, a line end, a path.
pub fn route(data: &[u8]) {
    let (method, path) = lines(data);
    match Route::find(&method, &path) {
        Ok((route, argument)) => {
            let printed = route.path.replace("{id}", argument).replace("{name}", argument);
            assert!(argument.is_empty() || printed == path, "{route:?}");
            let reads = ["GET", "HEAD"].contains(&&*method);
            assert_eq!(reads, !route.changes_something());
        }
        Err(NoRoute::NotFound) => {
            for method in METHODS {
                assert_eq!(Route::find(method, &path).err(), Some(NoRoute::NotFound));
            }
        }
        Err(NoRoute::MethodNotAllowed(allowed)) => {
            let allowed: Vec<&str> = allowed.split(", ").collect();
            assert!(!allowed.contains(&&*method));
            for method in METHODS {
                assert_eq!(Route::find(method, &path).is_ok(), allowed.contains(&method));
            }
        }
    }
}

pub fn key(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let bare = text.trim_matches([' ', '\t']);
    let printable = |key: &str| key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match IdempotencyKey::parse(&text) {
        Ok(key) => {
            assert!((1..=255).contains(&key.as_str().len()) && printable(key.as_str()));
            let escaped = key.as_str().replace('\\', "\\\\").replace('"', "\\\"");
            assert_eq!(IdempotencyKey::parse(&format!("\"{escaped}\"")), Ok(key.clone()));
            assert!(bare.starts_with('"') || bare == key.as_str());
        }
        Err(_) => {
            let fits = (1..=255).contains(&bare.len()) && printable(bare);
            assert!(bare.starts_with('"') || !fits);
        }
    }
}

/// What stands before a password, a line end, what stands around it, with a `*` in its place.
pub fn database_url(data: &[u8]) {
    const SECRET: &str = "s3cret";
    let (before, around) = lines(data);
    if before.contains(SECRET) || around.contains(SECRET) || around.contains('\n') {
        return;
    }
    let password = around.replacen('*', SECRET, 1);
    for url in [
        format!("postgresql://me:{password}@db:x/{before}"),
        format!("postgresql://{before}:{password}@db?sslmode=require"),
        format!("postgresql://me:{SECRET}{before}"),
        format!("postgresql://{before}?password={password}&port=x"),
        format!("postgresql://{before}?pass={password}"),
        format!("host=db {before} password={password} port=x"),
        format!("host=db password='{password}' {before}"),
        format!("host=db pwd={password} {before}"),
    ] {
        let faults = Config::read(|name| (name == "DATABASE_URL").then(|| url.clone())).err();
        if let Some(said) = faults.map(|faults| faults.to_string()) {
            assert!(!said.contains(SECRET), "{url} -> {said}");
        }
    }
}

pub fn request_id(data: &[u8]) {
    let given = String::from_utf8_lossy(data);
    let id = http::request_id(Some(&given));
    assert!((1..=128).contains(&id.len()));
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte)));
    assert!(id == given || id != http::request_id(Some(&given)));
}
