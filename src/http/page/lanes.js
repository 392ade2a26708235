// What the timeline shows: the runs of a time that can be chosen, in a lane for each server.

const RANGES = { "15m": ["15 minutes", 15], "1h": ["hour", 60], "6h": ["6 hours", 360], "24h": ["24 hours", 1_440] };
const chosenRange = () => (address.get("range") in RANGES ? address.get("range") : "1h");

/** More runs would only slow the page down; and what ended unseen is asked for after this time at the latest. */
const RUNS_MAX = 5_000, RUNS_ASKED = 1_000, TIMELINE_MS = 10_000;

/** What the database's clock may be set back by, and a run that ends may be seen later than its end. */
const OVERLAP_MS = 60_000;

/** In pixels. A lane with more rows than fit, or more runs than can be told apart, shows how many there were. */
const ROW = 20, GAP = 4, PITCH_MIN = 6, LANE_MAX = 240, LANE_GAP = 12, AXIS = 22, SLICE = 48;
const LANE_RUNS_MAX = 300;

// --- the runs ------------------------------------------------------------------------------------

/** Runs that have ended since an instant, by id; and up to which instant they are known. */
let ended = new Map(), endedFrom = Infinity, endedUntil = 0, endedSeen = "", timelineError = null;

/** Counts what the picture is drawn from. */
let timelineVersion = 0;

async function readTimeline() {
    const now = Date.parse(shown.now), from = now - RANGES[chosenRange()][1] * 60_000, seen = lastRuns();
    const isKnown = endedFrom <= from;
    const isNews = seen !== endedSeen || now - endedUntil > TIMELINE_MS;
    if (isKnown && !(isNews && inSight("timeline"))) return;
    try {
        const runs = await readEnded(isKnown ? Math.max(endedUntil - OVERLAP_MS, from) : from);
        const all = new Map([...(isKnown ? ended : []), ...runs.map((run) => [run.runId, run])]);
        const kept = [...all.values()].filter((run) => run.server && Date.parse(run.finishedAt) >= from);
        kept.sort((one, other) => other.runId - one.runId);
        ended = new Map(kept.slice(0, RUNS_MAX).map((run) => [run.runId, run]));
        [endedFrom, endedUntil, endedSeen, timelineError] = [from, now, seen, null];
        timelineVersion += 1;
    } catch (error) {
        timelineError = error;
    }
}

async function readEnded(from) {
    const query = `api/cron/history?limit=${RUNS_ASKED}&from=${new Date(from).toISOString()}`;
    const runs = [];
    let page = { next: "" };
    do {
        page = await read(`${query}${page.next && `&before=${page.next}`}`);
        runs.push(...page.runs);
    } while (page.next && runs.length < RUNS_MAX);
    return runs;
}

/** Everything the timeline shows, in the order in which it began. */
function timelineRuns() {
    const open = shown.jobs.filter((job) => job.runId).map((job) => ({
        runId: job.runId, job: job.name, server: job.server, outcome: job.state,
        scheduledAt: job.scheduledAt, startedAt: job.startedAt, finishedAt: null, seenAt: job.lastSeenAt,
    }));
    const ids = new Set(open.map((run) => run.runId));
    const over = [...ended.values()].filter((run) => !ids.has(run.runId));
    return [...over, ...open].sort((one, other) => one.runId - other.runId);
}

// --- the lanes -----------------------------------------------------------------------------------

/** By server name; in a lane, runs at the same time lie in rows below each other. */
function lanesOf(runs) {
    const lanes = new Map();
    for (const run of runs) {
        const lane = lanes.get(run.server) ?? { server: run.server, runs: [], rows: [], running: 0, seen: 0, lost: 0 };
        lanes.set(run.server, lane);
        const start = Date.parse(run.startedAt), end = run.finishedAt ? Date.parse(run.finishedAt) : Infinity;
        let row = lane.rows.findIndex((until) => until <= start);
        if (row < 0) row = lane.rows.length;
        lane.rows[row] = end;
        lane.runs.push({ ...run, id: `run-${run.runId}`, row, start, end });
        lane.running += run.outcome === "running";
        // What others have written of a server that is gone is no sign of its life.
        const seen = run.outcome === "abandoned" ? start : Math.min(end, Date.parse(run.seenAt ?? run.finishedAt));
        lane.seen = Math.max(lane.seen, seen);
        if (run.outcome === "abandoned" || run.outcome === "stalled") lane.lost = Math.max(lane.lost, Math.min(end, databaseNow()));
    }
    const byName = new Intl.Collator([], { numeric: true });
    return [...lanes.values()].sort((one, other) => byName.compare(one.server, other.server));
}

/** Gives each lane its place; true for `narrow` puts its name above it, not beside it. */
function placeLanes(lanes, narrow) {
    let top = AXIS;
    for (const lane of lanes) {
        lane.top = top;
        lane.first = top + (narrow ? 20 : 0);
        lane.pitch = Math.min(ROW + GAP, LANE_MAX / lane.rows.length);
        lane.sliced = lane.pitch < PITCH_MIN || lane.runs.length > LANE_RUNS_MAX;
        lane.height = lane.sliced ? 64 : Math.max(narrow ? 0 : 30, lane.rows.length * lane.pitch);
        top = lane.first + lane.height + LANE_GAP;
    }
    return top;
}

/** A server of which nothing has been heard since others took over its run, or may, looks dead, not idle. */
function saidOf({ running, seen, lost }) {
    const ago = `seen ${span((databaseNow() - seen) / 1_000).split(" ")[0]} ago`;
    if (lost > seen) return { kind: "alarm", words: `! last ${ago}` };
    return { kind: running ? "" : "idle", words: `${running ? `${running} running` : "idle"}, ${ago}` };
}
