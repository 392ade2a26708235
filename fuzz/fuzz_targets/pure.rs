//! Everything that reads what strangers write, without a database: the first byte says which part
//! reads the rest. Each is held to what its documentation promises, not only to "no panic".

#![no_main]

mod command;
mod schedule;
mod text;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((part, rest)) = data.split_first() else {
        return;
    };
    // `0` to `8`, so that a seed can be written as text.
    match part.wrapping_sub(b'0') % 9 {
        0 => text::route(rest),
        1 => command::balance(rest),
        2 => command::job(rest),
        3 => command::runs(rest),
        4 => schedule::schedule(rest),
        5 => text::key(rest),
        6 => text::database_url(rest),
        7 => text::request_id(rest),
        _ => command::set(rest),
    }
});
