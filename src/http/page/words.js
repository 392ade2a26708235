// Words for times and numbers, as people read them. Digits and calendar are those of the page's
// language, whatever the browser's is.

const LANGUAGE = "en-GB";

// --- numbers: they have 64 bits, and this language's 53, so they are texts -----------------------

/** The digits of a whole number, in groups of three. */
function grouped(number) {
    return BigInt(number).toLocaleString("en").replaceAll(",", "\u202f").replace("-", "−");
}

/** 1 job, 2 jobs. */
const counted = (count, word) => `${grouped(count)} ${word}${Number(count) === 1 ? "" : "s"}`;

// --- spans of time -------------------------------------------------------------------------------

/** The two largest units that are not zero: 45 s, 2 min 5 s, 3 h 10 min, 4 d. */
function span(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    const units = [["d", Math.floor(whole / 86_400)], ["h", Math.floor(whole / 3_600) % 24],
        ["min", Math.floor(whole / 60) % 60], ["s", whole % 60]];
    const first = units.findIndex(([, count]) => count > 0);
    if (first < 0) return "0 s";
    const parts = units.slice(first, first + 2).filter(([, count]) => count > 0);
    return parts.map(([unit, count]) => `${count}\u00a0${unit}`).join(" ");
}

// --- instants ------------------------------------------------------------------------------------

const ZONE_HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const ZONE = "balanced-zone";

/** The zone in which instants are shown; logs and JSON are in UTC. */
let zone, format;

function useZone(name) {
    zone = name;
    localStorage.setItem(ZONE, name);
    // Not `hour12: false`: with it some browsers begin a day at 24:00.
    const minute = { timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    const second = { ...minute, second: "2-digit" };
    const day = { month: "short", day: "numeric" };
    const made = (options) => new Intl.DateTimeFormat(LANGUAGE, options);
    format = {
        minute: made(minute), second: made(second), dayMinute: made({ ...day, ...minute }),
        yearMinute: made({ ...day, ...minute, year: "numeric" }),
        day: made({ ...day, year: "numeric", timeZone: zone }),
        whole: made({ ...day, ...second, year: "numeric", timeZoneName: "short" }),
    };
}

useZone(localStorage.getItem(ZONE) === "UTC" ? "UTC" : ZONE_HERE);

const dayAndTime = (instant) => format.whole.format(new Date(instant));

/** The time of day; with the day where `now` is another, and with the year. */
function sinceToday(instant, now) {
    const [then, today] = [instant, now].map((at) => format.day.format(new Date(at)));
    const isThisYear = then.slice(-4) === today.slice(-4);
    const kind = then === today ? format.second : isThisYear ? format.dayMinute : format.yearMinute;
    return kind.format(new Date(instant));
}

// --- instants that are typed: a field has no zone, so its text is in the zone that is shown -----------

/** Empty for what is no instant, such as a year of six digits. */
function instantOf(text) {
    const at = new Date(zone === "UTC" ? `${text}Z` : text);
    return Number.isNaN(at.getTime()) ? "" : at.toISOString();
}

function fieldOf(instant) {
    const at = new Date(instant);
    if (Number.isNaN(at.getTime())) return "";
    // Not `setMinutes`, which counts in the zone's own time and so errs around a change of its clocks.
    const ahead = zone === "UTC" ? 0 : at.getTimezoneOffset() * 60_000;
    return new Date(at - ahead).toISOString().slice(0, 19);
}
