//! Properties that hold for any password at any place.

use proptest::prelude::*;

use super::*;
use crate::config::Config;

const SECRET: &str = "s3cret";

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() }
}

/// Everything a misconfigured replica says about this address.
fn said(address: &str) -> String {
    let look_up = |name: &str| (name == "DATABASE_URL").then(|| address.to_owned());
    let faults = Config::read(look_up).err().map(|faults| faults.to_string());
    format!("{} {}", faults.unwrap_or_default(), without_secret("DATABASE_URL", address))
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_password_is_not_said_whatever_stands_around_it(
        user in "[a-z@:/?&=%.' ]{0,8}",
        before in "[a-z0-9@:/?&=%#'\\\\ ]{0,8}",
        after in "\\PC{0,4}[a-z0-9@:/?&=%#'\\\\ \\[\\]]{0,4}",
        place in prop::sample::select(&["db:x/y", "db?sslmode=require", "[::1]/x?y=z", ""][..]),
    ) {
        let password = format!("{before}{SECRET}{after}");
        for address in [
            format!("postgresql://{user}:{password}@{place}"),
            format!("postgres://{user}?password={password}&port=x"),
            format!("postgres://db/x?user=me&p%61ssword={password}"),
            format!("postgresql://db/x?user={user}&pass={password}"),
            format!("postgresql://me:{SECRET}{after}"),
            format!("host=db password={password} {place}"),
            format!("host=db user={user} pwd = {password}"),
        ] {
            let said = said(&address);
            prop_assert!(!said.contains(SECRET), "{} -> {}", address, said);
        }
    }

    #[test]
    fn what_holds_no_secret_is_shown(
        user in "[a-z]{1,9}",
        host in "[a-z.-]{1,9}|\\[[0-9a-f:]{2,9}\\]",
        port in 1..=u16::MAX,
        name in "[a-z_]{1,9}",
    ) {
        prop_assume!(![&user, &host, &name].iter().any(|text| text.contains("password")));
        let (place, options) = (format!("{host}:{port}/{name}"), "sslmode=no&connect_timeout=1");
        for (url, shown) in [
            (format!("postgresql://{place}"), None),
            (format!("postgres://{user}@{place},{place}?{options}"), None),
            (format!("host={host} port={port} user={user} dbname={name}"), None),
            (
                format!("postgresql://{user}:a/b@c@{place}?{options}"),
                Some(format!("postgresql://{user}:{HIDDEN}")),
            ),
            (
                format!("postgresql://{user}:a@b@{place}?{options}&pass=x"),
                Some(format!("postgresql://{user}:{HIDDEN}@{place}?{options}&pass={HIDDEN}")),
            ),
        ] {
            let shown = shown.unwrap_or_else(|| url.clone());
            prop_assert_eq!(without_secret("DATABASE_URL", &url), shown);
        }
    }
}
