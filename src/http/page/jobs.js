// The jobs: how many there are of each kind, and a row for each.

/** More rows would only slow the page down: the field above finds the others. */
const JOB_ROWS_MAX = 100;

/** More jobs at once would make the answer long. */
const JOBS_ASKED = 1_000;

/** Where there are too many, busy jobs come first. */
const STATES = ["stalled", "running", "due", "paused", "waiting"];
const CONDITIONS = ["failing", "overdue", "missed", "retrying"];

// --- what is asked for ---------------------------------------------------------------------------

/** What the address says; what it does not know of chooses nothing. */
function wanted() {
    const known = (name, values) => (values.includes(address.get(name)) ? address.get(name) : "");
    const name = address.get("find").trim().toLowerCase();
    return { state: known("state", STATES), condition: known("condition", CONDITIONS), name };
}

function askForJobs(filter) {
    const given = Object.entries(filter).filter(([, value]) => value);
    return read(`api/cron/status?${new URLSearchParams([["limit", JOBS_ASKED], ...given])}`);
}

/** All jobs; where they are too many, those that need somebody, those that are busy, and those looked for. */
async function askForStatus() {
    const first = await askForJobs({});
    if (first.next === null) return first;
    const filters = [{ state: "stalled,running,due" }];
    if (CONDITIONS.some((name) => first.conditions?.[name])) filters.push({ condition: CONDITIONS.join() });
    if (Object.values(wanted()).some(Boolean)) filters.push(wanted());
    const parts = [first, ...await Promise.all(filters.map(askForJobs))];
    const jobs = new Map(parts.flatMap((part) => part.jobs).map((job) => [job.name, job]));
    return { ...parts.at(-1), jobs: [...jobs.values()], next: first.next };
}

// --- which are shown -----------------------------------------------------------------------------

/** Those that fit, first those with which something is wrong; and how many there are besides. */
function jobsToShow() {
    const { state, condition, name } = wanted();
    const found = shown.jobs.map((job) => ({ job, wrong: conditionsOf(job) })).filter(({ job, wrong }) =>
        job.name.includes(name) && (!state || job.state === state) && (!condition || wrong.includes(condition)));
    const many = found.length > JOB_ROWS_MAX;
    const rank = ({ job, wrong }) => (wrong.length ? -1 : many ? STATES.indexOf(job.state) : 0);
    found.sort((one, other) => rank(one) - rank(other) || (one.job.name < other.job.name ? -1 : 1));
    const jobs = inPlace(found.map(({ job }) => job)).slice(0, JOB_ROWS_MAX);
    return { jobs, left: Math.max(found.length, countOf({ state, condition, name })) - jobs.length };
}

/** The names of the rows in the order in which they were last drawn. */
let order = [];

/** A row that moved away from under the pointer, or with the focus in it, would be another's at the next click. */
function inPlace(jobs) {
    const rows = byId("job-rows");
    if (rows && isBeingUsed(rows)) {
        const places = new Map(order.map((name, place) => [name, place]));
        const place = ({ name }) => places.get(name) ?? Infinity;
        jobs.sort((one, other) => (place(one) < place(other) ? -1 : place(one) > place(other) ? 1 : 0));
    }
    order = jobs.map(({ name }) => name);
    return jobs;
}

/** How many fit by the server's counts, which know all jobs; 0 where they cannot tell. */
function countOf({ state, condition, name }) {
    if (name || (state && condition)) return 0;
    if (condition) return shown.conditions?.[condition] ?? 0;
    return state ? shown.counts[state] : Object.values(shown.counts).reduce((sum, count) => sum + count, 0);
}

// --- the section ---------------------------------------------------------------------------------

const Jobs = () => {
    const { jobs, left } = jobsToShow();
    const looksFor = Object.values(wanted()).some(Boolean);
    return html`<section class="card" id="jobs" aria-labelledby="jobs-title">
        <div class="top">
            <h2 id="jobs-title">Jobs</h2>
            <label class="find">Find
                <input id="find" type="search" autocomplete="off" placeholder="part of a name" ref=${fromAddress("find")}
                    oninput=${({ target }) => address.set({ find: target.value }, { replace: true })} /></label>
            <span class="actions"><button type="button" id="new-job" onclick=${() => editJob(null)}>New job</button>
                <${PauseAllButton} /></span>
        </div>
        <div id="counts" class="counts" role="group" aria-label="Show only jobs that are">
            ${STATES.map((name) => html`<${Count} kind="state" name=${name} count=${shown.counts[name]} />`)}
            ${CONDITIONS.map((name) => html`
                <${Count} kind="condition" name=${name} count=${shown.conditions?.[name] ?? 0} />`)}
        </div>
        <${Said} id="jobs-said" />
        <table class="cards jobs" role="table" aria-labelledby="jobs-title">
            <thead role="rowgroup"><tr role="row">
                ${["Job", "State", "Server", "Progress", "Next run", "Last run", "Menu"].map((title) =>
                    html`<th role="columnheader" scope="col" data-label=${title}>${title}</th>`)}
            </tr></thead>
            <tbody id="job-rows" role="rowgroup">${jobs.map((job) => html`<${JobRow} key=${job.name} job=${job} />`)}</tbody>
        </table>
        <p id="jobs-left" class="quiet">${left > 0 ? `and ${grouped(left)} more`
            : jobs.length ? "" : looksFor ? "No job matches." : "There is no job yet."}</p>
    </section>`;
};

/** Pressed, it shows only those that it counts; pressed again, all. */
function Count({ kind, name, count }) {
    const pressed = wanted()[kind] === name;
    const choose = () => address.set({ state: "", condition: "", [kind]: pressed ? "" : name });
    return html`<button type="button" class=${count ? name : "none"} aria-pressed=${pressed} onclick=${choose}>
        <b>${grouped(count)}</b> ${name}</button>`;
}

const JobRow = ({ job }) => html`
    <tr role="row" id=${`job-${job.name}`} data-state=${job.state}
        onmouseenter=${() => pickOut(job.name)} onmouseleave=${() => pickOut(null)}>
        <th role="rowheader" scope="row">
            <a href=${jobAddress(job.name)}>${job.name}</a><${Conditions} job=${job} />
            <${Quiet} text=${job.name === job.function ? job.schedule : `${job.schedule} · ${job.function}`} />
            <${Quiet} text=${[job.description, job.owner && `owner: ${job.owner}`].filter(Boolean).join(" · ")} />
        </th>
        <${Cell} label="State"><${Sign} of=${job.state} />
            ${remarksOn(job).map((text) => html`<${Quiet} text=${text} />`)}<//>
        <${Cell} label="Server">${job.server ?? "–"}<//>
        <${Cell} label="Progress">${job.runId
            ? html`<${Progress} of=${job.progress} label=${`Progress of ${job.name}`} />` : html`<span class="bar">–</span>`}<//>
        <${Cell} label="Next run"><${NextRun} job=${job} /><//>
        <${Cell} label="Last run"><${LastRun} last=${job.lastRun} /><//>
        <${Cell} label="Menu"><${JobMenu} job=${job} /><//>
    </tr>`;

const Quiet = ({ text }) => text && html`<span class="quiet detail" title=${text}>${text}</span>`;

const attemptOf = (job) => `attempt ${job.attempt} of ${job.retries + 1}`;

/** How long it runs, what holds it up, or sets its run apart from others. */
function remarksOn(job) {
    const { reason, job: other } = job.waitsFor ?? {};
    const waits = {
        pause: "waits until all jobs are resumed",
        group: `waits for ${other}, of the same group`,
        function: `waits for a server with the function ${job.function}`,
    };
    const elapsed = job.runId && `for ${span(secondsSince(job.startedAt))}`;
    return [
        elapsed && (job.attempt > 1 ? `${elapsed}, ${attemptOf(job)}` : elapsed),
        job.stopRequested && "stop requested",
        waits[reason] ?? (!job.functionKnown && `${shown.servedBy} has no function ${job.function}`),
    ].filter(Boolean);
}

function NextRun({ job }) {
    if (job.nextAttemptAt) return html`<${Until} at=${job.nextAttemptAt} /><${Quiet} text=${attemptOf(job)} />`;
    return job.state === "paused" ? "paused" : html`<${Until} at=${job.nextRunAt} />`;
}

/** The link is for who points: for the keyboard it stands on the job's page, so that a row has two stops. */
function LastRun({ last }) {
    if (!last) return html`<span class="quiet">none yet</span>`;
    const told = `${last.detail ? `${last.detail} · ` : ""}on ${last.server ?? "no server"}`;
    return html`<${Sign} of=${last.outcome} /> <${When} at=${last.finishedAt} />
        ${" "}<a class="quiet" href=${runAddress(last.runId)} tabindex="-1">run ${last.runId}</a>
        <${Quiet} text=${told} />`;
}
