
// --- the history ---------------------------------------------------------------------------------

const HISTORY_ROWS = 12;

/** Where each page begins that was turned to; the last is shown. */
let pages = [null];

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

async function showHistory() {
    const query = new URLSearchParams({ limit: HISTORY_ROWS });
    for (const [name, value] of new FormData(byId("filters"))) if (value) query.set(name, value);
    const page = pages.length;
    if (pages[page - 1]) query.set("before", pages[page - 1]);
    const asked = String(query);
    showHistory.asked = asked;
    try {
        const { runs, next } = await ask("GET", `/api/cron/history?${query}`);
        // Somebody has turned the page meanwhile.
        if (showHistory.asked !== asked) return;
        byId("history-rows").replaceChildren(...runs.map(historyRow));
        showHistory.next = next;
        byId("older").disabled = next === null;
        byId("newer").disabled = page === 1;
        say(byId("history-page"), `page ${page}`);
        tell(byId("history-said"), "", runs.length ? "" : "No run has ended that fits.");
    } catch (error) {
        tell(byId("history-said"), "alarm", `The history cannot be read: ${error.message}`);
    }
}

function historyRow(run) {
    const outcome = make("span", { class: `outcome ${run.outcome}` }, `${SIGNS[run.outcome]} ${run.outcome}`);
    return make("tr", { "data-run": run.runId },
        make("td", {}, String(run.runId)), make("td", {}, run.job), make("td", {}, run.server),
        make("td", {}, outcome), make("td", { title: dayAndTime(run.startedAt) }, sinceToday(run.startedAt)),
        make("td", {}, span(run.durationSeconds)),
        make("td", {}, make("span", { class: "detail", title: run.detail }, run.detail ?? "")));
}

function turnTo(next) {
    pages = next;
    return showHistory();
}

byId("older").addEventListener("click", () => turnTo([...pages, showHistory.next]));
byId("newer").addEventListener("click", () => turnTo(pages.slice(0, -1)));
byId("filters").addEventListener("change", () => turnTo([null]));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
