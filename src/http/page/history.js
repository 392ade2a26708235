// The history: the runs that have ended, those that began last first, in pages.

const OUTCOMES = ["succeeded", "failed", "cancelled", "abandoned", "timed_out", "stopped", "missed"];
const PAGE_SIZES = ["12", "50", "200"];

/** Also where no job has a new last run, some job that is not listed may have one. */
const HISTORY_MS = 5_000;

/** The page that is shown, and what was asked for it. */
let historyShown = { filter: null, before: "", runs: [], next: null };

/** Where each page begins that was turned to, for the same filter; the first is the newest. */
let starts = [""];

/** The newest run that was shown, how many came after it, in words, and what told of new runs when that was read. */
let newestSeen = null, newer = "", historySeen = null, historyReadAt = 0;

const lastRuns = () => shown.jobs.map((job) => `${job.lastRun?.runId} ${job.lastRun?.outcome}`).join();

// --- what is asked for ---------------------------------------------------------------------------

function historyFilter(job) {
    const size = address.get("size");
    const query = new URLSearchParams({ limit: PAGE_SIZES.includes(size) ? size : PAGE_SIZES[0] });
    for (const name of ["job", "server", "outcome", "from", "to"]) {
        const value = name === "job" && job ? job : address.get(name);
        if (value) query.set(name, value);
    }
    return String(query);
}

const isShown = (filter, before) => historyShown.filter === filter && historyShown.before === before;

/** Reads the page that the address asks for, or whether there are newer runs than it shows. */
async function readHistory({ job = null } = {}) {
    const filter = historyFilter(job), before = address.get("before");
    const known = isShown(filter, before), seen = lastRuns();
    const isNews = seen !== historySeen || performance.now() - historyReadAt > HISTORY_MS;
    if (known && !(isNews && inSight("history-rows"))) return;
    try {
        const page = await read(`api/cron/history?${filter}${!known && before ? `&before=${before}` : ""}`);
        // Meanwhile somebody has asked for another.
        if (filter !== historyFilter(job) || before !== address.get("before")) return readHistory({ job });
        [historySeen, historyReadAt] = [seen, performance.now()];
        if (known && (before || isBeingUsed(byId("history-rows")))) noteNewer(page);
        else showHistory({ filter, before, ...page });
        sayAt("history-said", "", historyShown.runs.length ? "" : "No run matches.");
    } catch (error) {
        sayAt("history-said", "alarm", `The history cannot be read: ${error.message}.`);
    }
}

function showHistory(page) {
    if (page.filter !== historyShown.filter) [starts, newestSeen] = [[""], null];
    const index = starts.indexOf(page.before);
    starts = [...(index < 0 ? [page.before] : starts.slice(0, index + 1)), ...(page.next ? [String(page.next)] : [])];
    historyShown = page;
    if (!page.before) [newestSeen, newer] = [page.runs[0]?.runId ?? 0, ""];
}

function noteNewer({ runs, next }) {
    newestSeen ??= runs[0]?.runId ?? 0;
    const count = runs.filter((run) => run.runId > newestSeen).length;
    newer = count ? `${next && count === runs.length ? "at least " : ""}${counted(count, "newer run")}` : "";
}

/** Until the answer is there, another click turns no further. */
function turnTo(start, job) {
    if (isShown(historyFilter(job), address.get("before"))) address.set({ before: start });
}

function showNewest() {
    historyShown.filter = null;
    if (address.get("before")) address.set({ before: "" });
    else pollNow();
}

// --- the section ---------------------------------------------------------------------------------

function History({ job = null }) {
    const { runs, next, before } = historyShown;
    const index = starts.indexOf(before);
    const filter = (name) => ({
        name, ref: fromAddress(name), onchange: ({ target }) => address.set({ [name]: target.value.trim(), before: "" }),
    });
    const instant = (name) => ({
        name, type: "datetime-local", step: 1, ref: fromAddress(name, fieldOf),
        // Each digit of a year is a change.
        onchange: ({ target }) => address.set({ [name]: instantOf(target.value), before: "" }, { replace: true }),
    });
    return html`
        <form id="filters" class="fields" onsubmit=${(event) => event.preventDefault()}>
            ${!job && html`<label>Job <input ...${filter("job")} list="job-names" autocomplete="off" /></label>
                <${Choices} id="job-names" values=${shown.jobs.map(({ name }) => name)} />`}
            <label>Server <input ...${filter("server")} list="server-names" autocomplete="off" /></label>
            <${Choices} id="server-names" values=${[...runs, ...shown.jobs].map(({ server }) => server)} />
            <label>Outcome <select ...${filter("outcome")}><option value="">all</option>
                ${OUTCOMES.map((outcome) => html`<option value=${outcome}>${outcome}</option>`)}</select></label>
            <label>Ended from <input ...${instant("from")} /></label>
            <label>until <input ...${instant("to")} /></label>
            <button type="button" id="newest" disabled=${!before && !newer} onclick=${showNewest}>${newer || "Newest"}</button>
        </form>
        <${Said} id="history-said" />
        <table class="cards history" role="table" aria-label="Runs that have ended">
            <thead role="rowgroup"><tr role="row">
                ${["Run", !job && "Job", "Server", "Outcome", "Started", "Took", "Result"].filter(Boolean).map((title) =>
                    html`<th role="columnheader" scope="col" data-label=${title}>${title}</th>`)}
            </tr></thead>
            <tbody id="history-rows" role="rowgroup">
                ${runs.map((run) => html`<${HistoryRow} key=${run.runId} run=${run} job=${job} />`)}
            </tbody>
        </table>
        <div class="fields">
            <button type="button" id="newer" disabled=${index < 1}
                onclick=${() => turnTo(starts[index - 1], job)}>Newer</button>
            <button type="button" id="older" disabled=${!next} onclick=${() => turnTo(String(next), job)}>Older</button>
            <label class="zone">Rows
                <select ...${filter("size")} ref=${fromAddress("size", (size) => size || PAGE_SIZES[0])}>${PAGE_SIZES.map((size) => html`<option value=${size}>${size}</option>`)}</select></label>
            <span id="history-page" class="quiet">${starts[0] ? `before run ${before}` : `page ${index + 1}`}</span>
        </div>`;
}

const Choices = ({ id, values }) => html`<datalist id=${id}>
    ${[...new Set(values)].filter(Boolean).sort().map((value) => html`<option value=${value} />`)}</datalist>`;

const HistoryRow = ({ run, job }) => html`<tr role="row" data-run=${run.runId}>
    <${Cell} label="Run"><a href=${runAddress(run.runId)}>${run.runId}</a><//>
    ${!job && html`<${Cell} label="Job"><a href=${jobAddress(run.job)}>${run.job}</a><//>`}
    <${Cell} label="Server">${run.server ?? "–"}<//>
    <${Cell} label="Outcome"><${Sign} of=${run.outcome} />${run.attempt > 1 && html`
        <span class="quiet"> attempt ${run.attempt}</span>`}<//>
    <${Cell} label="Started"><${When} at=${run.startedAt} /><//>
    <${Cell} label="Took">${span(run.durationSeconds)}<//>
    <${Cell} label="Result"><span class="result" title=${run.detail}>${run.detail}</span><//>
</tr>`;
