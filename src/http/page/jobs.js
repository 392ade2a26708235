
// --- the jobs ------------------------------------------------------------------------------------

const SIGNS = {
    running: "▶", waiting: "◷", due: "●", paused: "❚❚", stalled: "!",
    succeeded: "✓", failed: "✗", cancelled: "↷", abandoned: "!",
    timed_out: "⧖", stopped: "■", missed: "∅",
};

/** More rows would only slow the page down: the field above finds the others. */
const JOB_ROWS_MAX = 100;

/** One row for each job that is shown. */
const jobRows = new Map();

/** A part of a name; empty where none is looked for. */
const nameWanted = () => byId("find").value.trim().toLowerCase();

/** Those whose names fit; where they are too many, those first in whose life something happens. */
function jobsToShow(status) {
    const found = status.jobs.filter((job) => job.name.includes(nameWanted()));
    if (found.length > JOB_ROWS_MAX) {
        const order = ["stalled", "running", "due", "paused", "waiting"];
        found.sort((one, other) => order.indexOf(one.state) - order.indexOf(other.state));
    }
    const all = Object.values(status.counts).reduce((sum, count) => sum + count, 0);
    byId("find-label").hidden = all <= JOB_ROWS_MAX;
    const left = (nameWanted() ? found.length : all) - JOB_ROWS_MAX;
    say(byId("jobs-left"), left > 0 ? `and ${left} more` : "");
    return found.slice(0, JOB_ROWS_MAX);
}

function showPause(pause) {
    byId("paused").hidden = !pause;
    if (!pause) return say(byId("paused"), "");
    const by = pause.by ? ` by ${pause.by}` : "";
    const until = pause.until ? sinceToday(pause.until, shown.now) : "somebody resumes";
    say(byId("paused"), `All jobs are paused${by} until ${until}: ${pause.reason}`);
}

function showJobs(status) {
    showPause(status.pause);
    showCounts(status.counts);
    const body = byId("job-rows");
    const jobs = jobsToShow(status);
    const names = new Set(jobs.map((job) => job.name));
    const focused = document.activeElement;
    for (const [name, row] of jobRows) {
        if (!names.has(name)) {
            row.line.remove();
            jobRows.delete(name);
        }
    }
    jobs.forEach((job, index) => {
        const row = jobRows.get(job.name) ?? newJobRow(job.name);
        if (body.children[index] !== row.line) body.insertBefore(row.line, body.children[index] ?? null);
        fillJobRow(row, job);
    });
    // A row that was moved lost it.
    if (focused !== document.activeElement) focused.focus({ preventScroll: true });
}

function showCounts(counts) {
    const list = byId("counts");
    for (const [state, count] of Object.entries(counts)) {
        let item = list.querySelector(`[data-state=${state}]`);
        if (!item) {
            item = make("li", { "data-state": state }, make("b"), ` ${state}`);
            list.append(item);
        }
        say(item.firstChild, String(count));
        item.className = count > 0 ? state : "none";
    }
}

function button(label, onclick, text) {
    return make("button", { type: "button", "aria-label": label, onclick }, text);
}

function newJobRow(name) {
    const cell = (label, ...content) => make("td", { role: "cell", "data-label": label }, ...content);
    const row = {
        definition: make("span", { class: "quiet" }),
        state: make("span", { class: "state" }),
        server: cell("Server"),
        elapsed: cell("Elapsed"),
        bar: make("progress", { max: 1, "aria-label": `Progress of ${name}` }),
        percent: make("span", { class: "percent" }),
        next: cell("Next run"),
        last: make("span"),
        detail: make("span", { class: "detail quiet" }),
        pause: button(null, () => pauseOrResume(name), ""),
        run: button(`Run now: ${name}`, () => runNow(name), "Run now"),
        schedule: button(`Schedule of ${name}`, () => editSchedule(name), "Schedule"),
    };
    row.line = make("tr", { role: "row", id: `job-${name}` },
        make("th", { role: "rowheader", scope: "row" }, make("b", {}, name), row.definition),
        cell("State", row.state), row.server, row.elapsed,
        cell("Progress", make("span", { class: "bar" }, row.bar, row.percent)),
        row.next, cell("Last run", row.last, row.detail),
        cell("Actions", make("span", { class: "actions" }, row.pause, row.run, row.schedule)));
    row.line.addEventListener("mouseenter", () => pickOut(name));
    row.line.addEventListener("mouseleave", () => pickOut(null));
    jobRows.set(name, row);
    return row;
}

function fillJobRow(row, job) {
    const open = job.runId !== null;
    row.job = job;
    say(row.definition, job.name === job.function ? job.schedule : `${job.schedule} · ${job.function}`);
    row.line.dataset.state = job.state;
    row.state.className = `state ${job.state}`;
    say(row.state, `${SIGNS[job.state]} ${job.state}`);
    say(row.server, job.server ?? "–");
    row.bar.hidden = row.percent.hidden = !open;
    row.bar.value = job.progress ?? 0;
    // Not "100 %" before it is.
    say(row.percent, `${Math.floor((job.progress ?? 0) * 100)} %`);
    fillLastRun(row, job);
    say(row.pause, job.enabled ? "Pause" : "Resume");
    row.pause.setAttribute("aria-label", `${job.enabled ? "Pause" : "Resume"} ${job.name}`);
    // Not `disabled`, which takes the focus from whoever has just pressed it: the server says why not.
    row.run.ariaDisabled = String(open || !job.enabled);
}

function fillLastRun(row, { lastRun: last, functionKnown }) {
    row.last.className = last ? `outcome ${last.outcome}` : "quiet";
    const words = last && `${SIGNS[last.outcome]} ${last.outcome} at ${sinceToday(last.finishedAt, shown.now)}`;
    say(row.last, words ?? "none yet");
    const told = last ? `${last.server ? `on ${last.server}` : "on no server"}${last.detail ? `: ${last.detail}` : ""}` : "";
    const detail = functionKnown ? told : `the build of ${shown.servedBy} has no such function`;
    say(row.detail, detail);
    row.detail.title = detail;
}

/** What moves between two answers: by the database's clock, as far as it is known. */
function tickJobs(now) {
    for (const { job, elapsed, next } of jobRows.values()) {
        say(elapsed, job.startedAt ? span((now - Date.parse(job.startedAt)) / 1000) : "–");
        say(next, nextRun(job, now));
    }
}

function nextRun(job, now) {
    if (job.state === "paused") return "paused";
    if (!job.nextRunAt) return "–";
    const seconds = (Date.parse(job.nextRunAt) - now) / 1000;
    return seconds <= 0 ? "now" : `in ${span(Math.ceil(seconds))}`;
}

byId("find").addEventListener("input", () => shown && showJobs(shown));

// --- steering ------------------------------------------------------------------------------------

/** Does something to a job, and says what became of it. */
async function steer(name, done, ...request) {
    try {
        await ask(...request);
        tell(byId("jobs-said"), "fine", `${name}: ${done}`);
    } catch (error) {
        tell(byId("jobs-said"), "alarm", `${name}: ${error.message}`);
        return;
    }
    // What was done is done, also where its effect cannot be seen yet.
    await refresh().catch(lost);
}

const pathOf = (name) => `api/cron/jobs/${encodeURIComponent(name)}`;

function pauseOrResume(name) {
    const enabled = !jobRows.get(name).job.enabled;
    const done = enabled ? "resumed" : "paused; a run that has begun goes on to its end";
    return steer(name, done, "PATCH", pathOf(name), { body: JSON.stringify({ enabled }) });
}

function runNow(name) {
    return steer(name, "due now", "POST", `${pathOf(name)}/run`);
}

function editSchedule(name) {
    const dialog = byId("schedule");
    const form = dialog.querySelector("form");
    const said = dialog.querySelector(".said");
    say(byId("schedule-title"), `Schedule of ${name}`);
    tell(said, "", "");
    form.elements.schedule.value = jobRows.get(name).job.schedule;
    const save = async (event) => {
        event.preventDefault();
        const schedule = form.elements.schedule.value;
        // When the answer comes, the dialog may be closed, or open for another job.
        const isHere = () => dialog.open && form.onsubmit === save;
        try {
            await ask("PATCH", pathOf(name), { body: JSON.stringify({ schedule }) });
        } catch (error) {
            if (isHere()) tell(said, "alarm", error.message);
            else tell(byId("jobs-said"), "alarm", `${name}: ${error.message}`);
            return;
        }
        if (isHere()) dialog.close();
        tell(byId("jobs-said"), "fine", `${name}: runs ${schedule}`);
        await refresh().catch(lost);
    };
    form.onsubmit = save;
    form.querySelector("[value=cancel]").onclick = () => dialog.close();
    dialog.showModal();
}
