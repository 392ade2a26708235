
// --- the page ------------------------------------------------------------------------------------

/** Between two questions, in milliseconds; and how long each may take before it counts as lost. */
const POLL_MS = 1_000, POLL_PATIENCE_MS = 4_000;

/** Asking for very many jobs shall cost the server no more than a small part of its time. */
const POLL_TIMES_SLOWER = 3;

/** The last status, and the answer's instant on this page's own clock. */
let shown = null, shownAt = 0;
let lostSince = null, endedSeen = "", balanceTurn = 0;

/** The database's clock, carried on by this page's own: the wall clock here may be wrong. */
const databaseNow = () => Date.parse(shown.now) + performance.now() - shownAt;

async function refresh() {
    const status = await ask("GET", "/api/cron/status", { patience: POLL_PATIENCE_MS });
    // An answer that was overtaken by a newer one says less.
    if (shown && Date.parse(status.now) < Date.parse(shown.now)) return;
    shown = status;
    shownAt = performance.now();
    showJobs(status);
    tick();
    await refreshEnded(status);
}

/** Asks for ended runs only when some job has a new one. */
async function refreshEnded(status) {
    const seen = status.jobs.map((job) => `${job.name} ${job.lastRun?.runId} ${job.lastRun?.outcome}`).join();
    if (seen === endedSeen) return;
    const { runs } = await ask("GET", `/api/cron/history?limit=${endedSeen ? 100 : 1_000}`);
    endedSeen = seen;
    // The history's newest are those that began last: a long run may have ended since.
    const last = status.jobs.filter((job) => job.lastRun);
    noteEnded(last.map((job) => ({ ...job.lastRun, job: job.name })), databaseNow());
    noteEnded(runs, databaseNow());
    showTimeline(status, databaseNow());
    const servers = [...ended.values()].map((run) => run.server).concat(status.jobs.map((job) => job.server));
    showHistoryChoices(status.jobs.map((job) => job.name), [...new Set(servers)].filter(Boolean).sort());
    if (pages.length === 1) await showHistory();
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
    const since = shown ? ` What you see is from ${timeOfDay(shown.now)}.` : "";
    const after = Math.round((performance.now() - lostSince) / 1_000);
    say(byId("lost"), `${where} (${error.message}), for ${after} s now.${since} Trying again …`);
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
            if (balanceTurn++ % 2 === 0) await showBalance();
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
