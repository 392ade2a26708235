// The page of one job: how it is, what is set, its runs, its log, and who has changed it.

const JOB = { name: address.last() };

/** The job, none where there is no such; and what is read of it only when it may have changed. */
let job = null, settingsSeen = null, upcomingSeen = null, runsSeen = null;
let upcoming = null, changes = [], olderChanges = null, runs = [];

async function readJob() {
    try {
        job = await read(jobPath(JOB));
    } catch (error) {
        if (error.status !== 404) throw error;
        job = null;
    }
    page.every = job ? 2_000 : 10_000;
    await Promise.all([readSet(), readRuns()]);
}

/** The changes move on with what is set, and the next instants with each run, too. */
async function readSet() {
    const set = JSON.stringify([Object.keys(SETTINGS).map((of) => job?.[of]), job?.enabled]);
    const seen = `${set} ${job?.nextRunAt}`;
    if (seen !== upcomingSeen) [upcoming, upcomingSeen] = [job && await read(`${jobPath(JOB)}/next?count=5`), seen];
    if (set === settingsSeen) return;
    const page = await readChanges();
    [settingsSeen, changes, olderChanges] = [set, page.changes, page.next];
}

/** There are none of a job that never was. */
const readChanges = (before = "") => read(`${jobPath(JOB)}/changes?limit=10&before=${before}`).catch((error) => {
    if (error.status !== 404) throw error;
    return { changes: [], next: null };
});

async function readRuns() {
    const seen = JSON.stringify([job?.runId, job?.lastRun?.runId]);
    if (seen !== runsSeen) {
        runs = (await read(`api/cron/history?limit=${BARS_MAX}&job=${encodeURIComponent(JOB.name)}`)).runs;
        runsSeen = seen;
    }
    const latest = job?.runId ?? runs[0]?.runId;
    if (latest) await readLog(latest);
}

async function moreChanges() {
    const from = olderChanges;
    try {
        const page = await readChanges(from);
        // A second click asked for the same.
        if (from === olderChanges) [changes, olderChanges] = [[...changes, ...page.changes], page.next];
        sayAt("changes-said", "", "");
    } catch (error) {
        sayAt("changes-said", "alarm", sentenceOf(error));
    }
}

// --- how it is, and what is set ------------------------------------------------------------------

const waitWords = ({ reason, job: other }) => ({
    pause: "All jobs are paused.",
    group: html`<a href=${jobAddress(other)}>${other}</a> runs, which is of the same group.`,
    function: `The build of ${shown.servedBy} has no such function.`,
})[reason];

function JobState() {
    const { state, waitsFor, runId, lastRun, nextRunAt } = job;
    const facts = {
        State: html`<${Sign} of=${state} /><${Conditions} job=${job} /> ${waitsFor && waitWords(waitsFor)}`,
        ...runId !== null && {
            "Open run": html`<a href=${runAddress(runId)}>Run ${runId}</a> on ${job.server}, for ${span(secondsSince(job.startedAt))}`,
            Progress: html`<${Progress} of=${job.progress} />`,
        },
        "Last run": lastRun ? html`<${Sign} of=${lastRun.outcome} />
            ${" "}<a href=${runAddress(lastRun.runId)}>${`run ${lastRun.runId}`}</a>${" "}
            <${When} at=${lastRun.finishedAt} />${lastRun.detail && `: ${lastRun.detail}`}` : "none yet",
        "Next run": html`<${Until} at=${nextRunAt} />`,
    };
    return html`<section class="card" id="state" aria-labelledby="state-title">
        <div class="top"><h2 id="state-title">Now</h2><span><${JobMenu} job=${job} /></span></div>
        <${Said} id="jobs-said" />
        <${Facts} of=${facts} />
    </section>`;
}

/** What is set, in words; what nobody has set is told, too. */
function Settings() {
    const facts = Object.entries(SETTINGS).map(([of, { label }]) =>
        [label, of === "catchUp" ? CATCH_UP[job[of]] : settingWords(job[of])]);
    return html`<section class="card" aria-labelledby="settings-title">
        <h2 id="settings-title">Settings</h2><${Facts} of=${Object.fromEntries(facts)} /></section>`;
}

const Upcoming = () => html`<section class="card" aria-labelledby="next-title">
    <h2 id="next-title">Next runs</h2>
    ${upcoming.words && html`<p>Runs ${upcoming.words}${job.enabled ? "" : ", when it is resumed"}</p>`}
    <ol>${upcoming.next.map((at) => html`<li key=${at}><${When} at=${at} /></li>`)}</ol></section>`;

// --- its runs ------------------------------------------------------------------------------------

const BARS_MAX = 50, BAR_WIDTH = 14, BARS_HEIGHT = 90;

/** A bar for each run, as high as it took long: for eyes alone, since the history below has them all. */
function Durations() {
    const open = job?.runId && {
        runId: job.runId, outcome: "running", startedAt: job.startedAt, durationSeconds: secondsSince(job.startedAt),
    };
    const room = Math.floor((innerWidth - 80) / BAR_WIDTH);
    const all = [open, ...runs].filter(Boolean).slice(0, Math.min(BARS_MAX, room)).reverse();
    const longest = Math.max(1, ...all.map((one) => one.durationSeconds));
    const bar = ({ runId, outcome, startedAt, durationSeconds: took }, index) => {
        const height = Math.max(2, BARS_HEIGHT * took / longest);
        return html`<a key=${runId} href=${runAddress(runId)} tabindex="-1" class=${outcome}>
            <title>Run ${runId}: ${outcome} after ${span(took)}, begun ${dayAndTime(startedAt)}</title>
            <rect x=${index * BAR_WIDTH + 1} y=${BARS_HEIGHT - height} width=${BAR_WIDTH - 3} height=${height} />
            <text x=${(index + .5) * BAR_WIDTH} y=${BARS_HEIGHT + 13}>${SIGNS[outcome]}</text></a>`;
    };
    const byOutcome = Object.groupBy(runs, (one) => one.outcome);
    const counts = Object.entries(byOutcome).map(([outcome, those]) => `${those.length} ${outcome}`);
    const words = `The last ${counted(runs.length, "run")}: ${counts.join(", ")}. The highest bar took ${span(longest)}.`;
    return html`<figure class="durations">
        <svg aria-hidden="true" width=${all.length * BAR_WIDTH} height=${BARS_HEIGHT + 18}>${all.map(bar)}</svg>
        <figcaption class="quiet">${runs.length ? words : "No run has ended yet."}</figcaption></figure>`;
}

// --- who has changed it --------------------------------------------------------------------------

const Changes = () => html`<section class="card" aria-labelledby="changes-title">
    <h2 id="changes-title">Who has changed it</h2>
    ${changes.length ? null : html`<p class="quiet">Nobody, as far back as the history goes.</p>`}
    <ul class="changes" id="changes">${changes.map((change) => html`<li key=${change.id}>
        <${When} at=${change.at} /> <b>${change.by ?? (change.requestId ? "somebody" : "by itself, after its last instant")}</b>:
        ${" "}${differences(change).join("; ")}</li>`)}</ul>
    ${olderChanges && html`<button type="button" onclick=${moreChanges}>Older changes</button>`}
    <${Said} id="changes-said" /></section>`;

const NoJob = () => html`<section class="card">
    <p id="no-job">There is no job ${JOB.name}. <a href=${`${ROOT}/`}>All jobs</a></p><${Said} id="jobs-said" /></section>`;

live({
    title: JOB.name, heading: JOB.name, dialogs: Dialogs, resume: ResumeAllButton,
    skips: [["runs", "To the runs"]],
    refresh: () => Promise.all([readStatus().then(() => readHistory({ job: JOB.name })), readJob()]),
    view: () => html`
        ${job ? html`<${JobState} /><div class="pair"><${Settings} /><${Upcoming} /></div>` : html`<${NoJob} />`}
        <section class="card" id="runs" aria-labelledby="runs-title"><h2 id="runs-title">Runs</h2>
            <${Durations} /><${History} job=${JOB.name} /></section>
        ${runLog && html`<section class="card">
            <h2>Log of <a href=${runAddress(runLog.runId)}>run ${runLog.runId}</a></h2><${Log} /></section>`}
        <${Changes} />`,
});
