// The page of one run: what is known of it, and its log.

const RUN_ID = address.last();

/** The run, or why there is none. */
let run = null, noRun = null;

/** What has ended stays as it is. */
async function readRun() {
    if (run?.outcome && runLog && !runLog.isOpen) return;
    page.every = 10_000;
    try {
        [run, noRun] = [await read(`api/cron/runs/${RUN_ID}`), null];
    } catch (error) {
        if (error.status !== 404) throw error;
        noRun = sentenceOf(error);
        return;
    }
    await readLog(run.runId);
    if (!run.outcome) page.every = 2_000;
}

function RunFacts() {
    const { job, state, outcome, progress, detail, checkpointBytes } = run;
    const took = outcome ? run.durationSeconds : secondsSince(run.startedAt);
    const facts = {
        Job: html`<a href=${jobAddress(job)}>${job}</a>`,
        Function: html`<code>${run.function}</code>`,
        Outcome: html`<${Sign} of=${outcome ?? state} />`,
        Server: run.server ?? "none",
        Slot: html`<${When} at=${run.scheduledAt} />`,
        Attempt: run.attempt,
        Started: html`<${When} at=${run.startedAt} />`,
        Finished: html`<${When} at=${run.finishedAt} />`,
        Took: span(took),
        Progress: html`<${Progress} of=${progress} />`,
        Checkpoint: checkpointBytes === null ? "none" : counted(checkpointBytes, "byte"),
        Result: detail ?? "–",
    };
    return html`<section class="card" aria-labelledby="facts-title">
        <h2 id="facts-title">The run</h2>
        <${Facts} of=${facts} />
        ${!outcome
            && html`<button type="button" id="stop-run" onclick=${() => stopRun(job, run.runId)}>Stop this run</button>`}
        <${Said} id="jobs-said" />
    </section>`;
}

live({
    title: `Run ${RUN_ID}`, heading: `Run ${RUN_ID}`, dialogs: Dialogs, resume: ResumeAllButton,
    refresh: () => Promise.all([readStatus(), readRun()]),
    view: () => (noRun
        ? html`<section class="card"><p id="no-run">${noRun} <a href=${`${ROOT}/`}>All jobs</a></p></section>`
        : html`<${RunFacts} /><section class="card"><h2>Log</h2><${Log} /></section>`),
});
