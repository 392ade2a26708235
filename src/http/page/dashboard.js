
// --- the page ------------------------------------------------------------------------------------

/** Between two questions, in milliseconds; and how long each may take before it counts as lost. */
const POLL_MS = 1_000, POLL_PATIENCE_MS = 4_000;

/** Asking for very many jobs shall cost the server no more than a small part of its time. */
const POLL_TIMES_SLOWER = 3;

/** The last status, and the answer's instant on this page's own clock. */
let shown = null, shownAt = 0;
let lostSince = null, polls = 0;

/** How often the status was asked for, and the newest question whose answer is shown. */
let statusAsked = 0, statusShown = 0;

/** The runs that were open, and those that had ended, when the timeline was last drawn for them. */
let openSeen = "", endedSeen = "", endedAsked = false;

/** The database's clock, carried on by this page's own: the wall clock here may be wrong. */
const databaseNow = () => (shown ? Date.parse(shown.now) + performance.now() - shownAt : Date.now());

/** More jobs at once would make the answer long, and this page slow. */
const JOBS_ASKED = 1_000;

function askForJobs(filter) {
    const query = new URLSearchParams({ limit: JOBS_ASKED, ...filter });
    return ask("GET", `api/cron/status?${query}`, { patience: POLL_PATIENCE_MS });
}

/** All jobs; where they are too many, those in whose life something happens, and those looked for. */
async function askForStatus() {
    const first = await askForJobs({});
    if (first.next === null) return first;
    const parts = [first, await askForJobs({ state: "stalled,running,due" })];
    if (nameWanted()) parts.push(await askForJobs({ name: nameWanted() }));
    const jobs = new Map(parts.flatMap((part) => part.jobs).map((job) => [job.name, job]));
    return { ...parts.at(-1), jobs: [...jobs.values()] };
}

async function refresh() {
    const asked = ++statusAsked;
    const status = await askForStatus();
    // An answer that was overtaken by a newer one says less. Their times do not tell: after a
    // failover another machine's clock may be behind.
    if (asked < statusShown) return;
    statusShown = asked;
    shown = status;
    shownAt = performance.now();
    showJobs(status);
    tick();
    const open = status.jobs.map((job) => `${job.runId} ${job.server}`).join();
    if (open !== openSeen) showTimeline(status, databaseNow());
    openSeen = open;
    refreshEnded(status);
}

/** Asks for ended runs only when some job has a new one. The status does not wait for them. */
async function refreshEnded(status) {
    const seen = status.jobs.map((job) => `${job.name} ${job.lastRun?.runId} ${job.lastRun?.outcome}`).join();
    if (seen === endedSeen || endedAsked) return;
    endedAsked = true;
    try {
        await showEnded(status);
        endedSeen = seen;
    } catch (error) {
        historyLost(error);
    }
    endedAsked = false;
}

const ENDED_MAX = 1_000, ENDED_FEW = 100;

/** A few are enough if they reach back to what is known; not so after a pause. */
async function askForEnded() {
    const newest = async (limit) => (await ask("GET", `api/cron/history?limit=${limit}`)).runs;
    const few = await newest(ENDED_FEW);
    return few.length < ENDED_FEW || few.some((run) => ended.has(run.runId)) ? few : newest(ENDED_MAX);
}

async function showEnded(status) {
    const runs = await askForEnded();
    // The history's newest are those that began last: a long run may have ended since.
    const last = status.jobs.filter((job) => job.lastRun);
    noteEnded(last.map((job) => ({ ...job.lastRun, job: job.name })), databaseNow());
    noteEnded(runs, databaseNow());
    showTimeline(status, databaseNow());
    const servers = [...ended.values()].map((run) => run.server).concat(status.jobs.map((job) => job.server));
    showHistoryChoices(status.jobs.map((job) => job.name), [...new Set(servers)].filter(Boolean).sort());
    if (pages.length === 1) await loadHistory();
}

function tick() {
    if (!shown || lostSince !== null) return;
    const now = databaseNow();
    tickJobs(now);
    say(byId("live"), `live · ${timeOfDay(now)} · answered by ${shown.servedBy}`);
}

function found() {
    lostSince = null;
    byId("lost").hidden = true;
    document.body.classList.remove("lost");
}

function lost(error) {
    lostSince ??= performance.now();
    const where = error instanceof Lost ? `${location.host} does not answer` : "The service cannot tell";
    const since = (shown ? ` What you see is from ${timeOfDay(shown.now)}.` : "")
        + ([401, 403].includes(error.status) ? " To give another token, load this page again." : "");
    const after = Math.round((performance.now() - lostSince) / 1_000);
    say(byId("lost-why"), `${where} (${error.message}).${since}`);
    say(byId("lost-for"), ` Trying again, for ${after} s now …`);
    byId("lost").hidden = false;
    document.body.classList.add("lost");
    say(byId("live"), "lost");
}

async function poll() {
    let pause = POLL_MS;
    if (!document.hidden) {
        const begun = performance.now();
        try {
            await refresh();
            found();
            pause = Math.max(pause, POLL_TIMES_SLOWER * (performance.now() - begun));
            if (polls++ % 2 === 0) pollBalance();
        } catch (error) {
            lost(error);
        }
    }
    setTimeout(poll, pause);
}

const TIMELINE_MS = 5_000;

setInterval(tick, 250);
setInterval(() => {
    if (shown && lostSince === null && !document.hidden) showTimeline(shown, databaseNow());
}, TIMELINE_MS);
new ResizeObserver(() => shown && showTimeline(shown, databaseNow())).observe(byId("timeline"));
poll();
