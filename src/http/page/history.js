
// --- the history ---------------------------------------------------------------------------------

const HISTORY_ROWS = 12;

/** Where each page begins that was turned to; the last is shown. */
let pages = [null];

/** The pages as they were when one was last shown, where the next begins, and how often one was asked for. */
let pagesShown = null, olderPage = null, historyAsked = 0;

function showHistoryChoices(jobs, servers) {
    const form = byId("filters").elements;
    addChoices(form.job, jobs);
    addChoices(form.server, servers);
}

/** What was once a choice stays one: jobs and servers go, their runs do not. */
function addChoices(select, values) {
    const known = new Set([...select.options].map((option) => option.value));
    for (const value of values) {
        if (!known.has(value)) select.append(make("option", { value }, value));
    }
}

/** Shows the page that was turned to. Throws what `ask` throws. */
async function loadHistory() {
    const query = new URLSearchParams({ limit: HISTORY_ROWS });
    for (const [name, value] of new FormData(byId("filters"))) if (value) query.set(name, value);
    const page = pages.length;
    if (pages[page - 1]) query.set("before", pages[page - 1]);
    const asked = ++historyAsked;
    const { runs, next } = await ask("GET", `api/cron/history?${query}`);
    // Somebody has turned the page meanwhile.
    if (historyAsked !== asked) return;
    byId("history-rows").replaceChildren(...runs.map(historyRow));
    pagesShown = pages;
    olderPage = next;
    byId("older").disabled = next === null;
    byId("newer").disabled = page === 1;
    say(byId("history-page"), `page ${page}`);
    tell(byId("history-said"), "", runs.length ? "" : "No run has ended that fits.");
}

function historyLost(error) {
    tell(byId("history-said"), "alarm", `The history cannot be read: ${error.message}`);
}

function historyRow(run) {
    const outcome = make("span", { class: `outcome ${run.outcome}` }, `${SIGNS[run.outcome]} ${run.outcome}`);
    return make("tr", { "data-run": run.runId },
        make("td", {}, String(run.runId)), make("td", {}, run.job), make("td", {}, run.server ?? "–"),
        make("td", {}, outcome), make("td", { title: dayAndTime(run.startedAt) }, sinceToday(run.startedAt, databaseNow())),
        make("td", {}, span(run.durationSeconds)),
        make("td", {}, make("span", { class: "detail", title: run.detail }, run.detail ?? "")));
}

function turnTo(next, otherwise = pages) {
    pages = next;
    return loadHistory().catch((error) => {
        if (pages === next) pages = otherwise;
        historyLost(error);
    });
}

// Until the answer is there, another click turns no further.
byId("older").addEventListener("click", () => pages === pagesShown && turnTo([...pages, olderPage]));
byId("newer").addEventListener("click", () => pages === pagesShown && turnTo(pages.slice(0, -1)));
byId("filters").addEventListener("change", () => turnTo([null], [null]));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
