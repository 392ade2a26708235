//! `compose.yaml` agrees with the program, with its door and with `.env.example`.

use std::collections::BTreeSet;
use std::fs;

use balanced::config::SETTINGS;

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines below `heading` that are indented by `indent` spaces and no more, up to the next
/// heading of its kind.
fn below<'a>(text: &'a str, heading: &str, indent: usize) -> Vec<&'a str> {
    let after = text.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    let within = after.take_while(|line| line.is_empty() || line.starts_with([' ', '#']));
    within
        .filter(|line| line.len() - line.trim_start().len() == indent)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// Each `${NAME:-default}` of the file.
fn references(text: &str) -> BTreeSet<(&str, &str)> {
    let inside = text.split("${").skip(1).map(|rest| rest.split('}').next().unwrap());
    inside.filter_map(|reference| reference.split_once(":-")).collect()
}

#[test]
fn every_setting_is_handed_on_to_every_replica() {
    let text = read("compose.yaml");
    let keys = below(&text, "x-settings:", 2);
    let mut handed: BTreeSet<&str> =
        keys.iter().map(|key| key.split(':').next().unwrap()).collect();
    handed.insert("REPLICA_NAME"); // each replica's own
    assert_eq!(handed, SETTINGS.iter().map(|setting| setting.name).collect());
}

#[test]
fn its_variables_stand_in_the_example_and_have_the_defaults_of_the_program() {
    let (text, example) = (read("compose.yaml"), read(".env.example"));
    let references = references(&text);
    assert!(references.contains(&("SHUTDOWN_GRACE_SECONDS", "10")), "{references:?}");
    for (name, default) in references {
        // In its place stands what is no certificate, since something has to be mounted.
        let default = if default == "/dev/null" { "" } else { default };
        assert!(example.contains(&format!("#{name}={default}\n")), "{name}, {default}");
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
            assert_eq!(setting.default, default, "{name}");
        }
    }
}

#[test]
fn five_replicas_run_and_the_door_leads_to_each() {
    let services = read("compose.yaml");
    let services = below(&services, "services:", 2);
    let replicas: Vec<&str> =
        services.iter().filter(|name| name.starts_with("app")).copied().collect();
    assert_eq!(replicas, ["app1:", "app2:", "app3:", "app4:", "app5:"]);

    let door = read("deploy/haproxy-compose.cfg");
    let servers = |backend| -> Vec<&str> {
        let lines = below(&door, backend, 4).into_iter();
        lines.filter_map(|line| line.strip_prefix("server ")).collect()
    };
    let plain: Vec<String> =
        (1..=5).map(|number| format!("app{number} app{number}:3001")).collect();
    assert_eq!(servers("backend replicas "), plain);
    for (backend, places) in [("backend short-answers ", 32), ("backend long-answers ", 8)] {
        let tracking = |number: usize| {
            let server = &plain[number - 1];
            format!("{server} no-check track replicas/app{number} maxconn {places}")
        };
        assert_eq!(servers(backend), (1..=5).map(tracking).collect::<Vec<_>>());
    }
}

#[test]
fn the_door_has_a_certificate_where_one_is_given_and_is_watched_from_within_alone() {
    let compose = read("compose.yaml");
    let at = "/etc/door/certificate.pem";
    assert!(compose.contains(&format!("- ${{DOOR_CERTIFICATE:-/dev/null}}:{at}:ro\n")));
    assert!(compose.contains(&format!("DOOR_CERTIFICATE: ${{DOOR_CERTIFICATE:+{at}}}\n")));
    assert!(compose.contains("DOOR_STATUS: 0.0.0.0:8404\n"));
    let published: Vec<&str> = compose.lines().filter(|line| line.contains("ports:")).collect();
    assert_eq!(published, ["    ports: [\"${PROXY_ADDR:-127.0.0.1}:${PROXY_PORT:-8080}:8080\"]"]);
}

#[test]
fn the_door_finds_what_it_loads_and_has_the_defaults_of_the_example() {
    let (compose, door) = (read("compose.yaml"), read("deploy/haproxy.cfg"));
    let loads = below(&door, "global", 4);
    let loaded: Vec<&str> =
        loads.iter().filter_map(|line| line.strip_prefix("lua-load ")).collect();
    assert_eq!(loaded, ["door.lua"]);
    for file in loaded {
        // HAProxy looks beside its own file, also in the container.
        assert!(compose.contains(&format!("- ./deploy/{file}:/etc/door/{file}:ro\n")), "{file}");
    }
    let example = read(".env.example");
    let defaults: BTreeSet<&str> = door
        .split("${DOOR_")
        .skip(1)
        .filter_map(|rest| rest.split('}').next().unwrap().split_once('-'))
        .map(|(name, default)| {
            assert!(example.contains(&format!("#DOOR_{name}={default}\n")), "{name}, {default}");
            assert!(compose.contains(&format!("      DOOR_{name}:\n")), "{name}");
            name
        })
        .collect();
    let expected = [
        "CLIENT_SECONDS",
        "MAXCONN",
        "QUEUE_SECONDS",
        "READ_MS",
        "REQUEST_SECONDS",
        "SERVER_SECONDS",
    ];
    assert_eq!(defaults, expected.into());
}
