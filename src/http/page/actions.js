// What can be done with a job, on the dashboard and on the job's own page: its menu, and the dialogs.

const jobPath = (job) => `api/cron/jobs/${encodeURIComponent(job.name)}`;

// --- the dialog that is open ---------------------------------------------------------------------

let opened = null, openings = 0;

/** `Fields` draws what is asked for, and `send` does it; what is wrong with a field stands in `errors`. */
function openDialog(dialog) {
    opened = { errors: {}, place: `dialog-said-${++openings}`, ...dialog };
    draw();
}

const closeDialog = () => opened && byId(opened.id)?.close();

function Dialogs() {
    if (!opened) return null;
    const { id, title, button, place, again, Fields, send } = opened;
    const closed = () => {
        delete saidAt[place];
        opened = null;
        draw();
    };
    const submitted = (event) => {
        event.preventDefault();
        opened.errors = {};
        send(event.target.elements, opened);
    };
    return html`<${Dialog} key=${place} id=${id} title=${title} onclose=${closed}>
        <form onsubmit=${submitted}>
            <${Fields} ...${opened} />
            <${Said} id=${place} role="alert" />
            <div class="fields"><button class="main">${button}</button>
                ${again && html`<button type="button" onclick=${again}>Read it again</button>`}
                <button type="button" onclick=${closeDialog}>Cancel</button></div>
        </form>
    <//>`;
}

/** A field with a hint below it, or with what is wrong with it. */
function Field({ of, label, hint, tag = "input", children, ...attributes }) {
    const id = `${opened.id}-${of}`, error = opened.errors[of];
    return html`<div class="field">
        <label for=${id}>${label}</label>
        <${tag} id=${id} name=${of} autocomplete="off" aria-describedby=${`${id}-about`}
            aria-invalid=${error ? "true" : null} ...${attributes}>${children}<//>
        <p id=${`${id}-about`} class=${error ? "alarm" : "quiet"}>${error ? inlineCode(error) : hint}</p>
    </div>`;
}

/** Says at a field of the open dialog what is wrong with it. False where there is no such field. */
function refuseField(of, error) {
    const field = opened && byId(`${opened.id}-${of}`);
    if (!field) return false;
    opened.errors = { [of]: error };
    draw();
    field.closest("details")?.setAttribute("open", "");
    // Only then is it drawn, and read aloud with the field.
    requestAnimationFrame(() => field.focus());
    return true;
}

/** Sends what a dialog asks for. Who has closed it meanwhile is told on the page what became of it. */
function sendFromDialog({ done, failed = () => null, ...request }) {
    const from = opened;
    return act(from.place, {
        ...request,
        done(answer) {
            if (opened === from) closeDialog();
            sayAt("jobs-said", "fine", done(answer));
            return "";
        },
        failed(error) {
            if (opened !== from) sayAt("jobs-said", "alarm", sentenceOf(error));
            else if (refuseField(error.problem?.field, sentenceOf(error))) return "";
            return failed(error);
        },
    });
}

// --- one job -------------------------------------------------------------------------------------

/** What can be done with a job now; `unless` says why not. */
const actionsOf = (job) => [
    { words: job.enabled ? "Pause" : "Resume", begin: pauseOrResume },
    {
        words: "Run now", begin: runNow,
        unless: !job.enabled ? "It is paused. Resume it first." : job.runId !== null && "It runs already.",
    },
    job.runId !== null && {
        words: "Stop this run", begin: () => stopRun(job.name, job.runId),
        unless: job.stopRequested && "It has been told to stop.",
    },
    { words: "Edit", begin: editJob },
    { words: "Delete", begin: deleteJob, unless: job.runId !== null && "It is running. Stop it first." },
].filter(Boolean);

/** The menu has a state of its own, so that it opens also in a row that is not drawn anew. */
class JobMenu extends preact.Component {
    render({ job }, { isOpen = false }) {
        const toggled = ({ target: menu, newState }) => {
            this.setState({ isOpen: newState === "open" });
            requestAnimationFrame(() => putBelow(menu, menu.previousElementSibling));
        };
        const choose = ({ begin, unless }) => ({ target }) => {
            if (unless) return sayAt("jobs-said", "alarm", unless.replace(/^It/, job.name));
            target.closest(".menu").hidePopover();
            begin(job);
        };
        const item = (action) => html`<button type="button" aria-disabled=${action.unless ? "true" : null}
            onclick=${choose(action)}>${action.words}${action.unless && html` <small>${action.unless}</small>`}</button>`;
        return html`<button type="button" aria-label=${`Actions for ${job.name}`} aria-expanded=${String(isOpen)}
                popovertarget=${`menu-${job.name}`}>Actions</button>
            <div class="menu" id=${`menu-${job.name}`} popover="auto" role="group" aria-label=${`Actions for ${job.name}`}
                onbeforetoggle=${toggled}>${isOpen && actionsOf(job).map(item)}</div>`;
    }
}

/** Above it where there is no room below. */
function putBelow(menu, button) {
    const { left, top: upper, bottom } = button.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = menu;
    const y = bottom + height > innerHeight && upper > height ? upper - height - 4 : bottom + 4;
    menu.style.top = `${scrollY + y}px`;
    menu.style.left = `${scrollX + Math.max(8, Math.min(left, document.documentElement.clientWidth - width - 8))}px`;
}

function pauseOrResume(job) {
    const paused = `${job.name} is paused.${job.runId === null ? "" : " The run that has begun goes on to its end."}`;
    const done = job.enabled ? paused : `${job.name} is resumed.`;
    return act("jobs-said", { method: "PATCH", path: jobPath(job), body: { enabled: !job.enabled }, done });
}

/** When a run begins that was asked for. */
const startWords = ({ name: job, waitsFor }) => ({
    pause: `${job} will start when the pause of all jobs ends.`,
    group: `${job} will start when ${waitsFor?.job} has ended, which is of the same group.`,
})[waitsFor?.reason] ?? `${job} will start within seconds.`;

const runNow = (job) => act("jobs-said", {
    path: `${jobPath(job)}/run`,
    done: startWords,
    failed: ({ problem }) => ({
        job_paused: `${job.name} is paused. Resume it first.`,
        job_running: `${job.name} runs already.`,
    })[problem?.code],
});

const stopRun = (job, runId) => openDialog({
    id: "stop", title: `Stop run ${runId} of ${job}?`, button: "Stop this run",
    Fields: () => html`<p>It is told to end, and ends as stopped. The job then waits for its next slot.</p>`,
    send: () => sendFromDialog({
        path: `${jobPath({ name: job })}/stop`, body: { runId },
        done: () => `Run ${runId} of ${job} is told to stop.`,
        failed: ({ problem }) => (problem?.code === "job_not_running" ? `Run ${runId} has ended already.` : null),
    }),
});

const deleteJob = (job) => openDialog({
    id: "delete", title: `Delete ${job.name}?`, button: "Delete it",
    Fields: () => html`<p>No replica will run it any more. Its history stays.</p>
        <${Field} of="typed" label=${`Type ${job.name} to delete it`} spellcheck=${false} required />`,
    send: ({ typed }) => (typed.value.trim() === job.name
        ? sendFromDialog({ method: "DELETE", path: jobPath(job), done: () => `${job.name} is deleted. Its history stays.` })
        : refuseField("typed", `This is not "${job.name}".`)),
});

// --- all jobs ------------------------------------------------------------------------------------

/** How long a pause lasts that ends by itself, in minutes. */
const PAUSES = { 15: "for 15 minutes", 60: "for 1 hour", 240: "for 4 hours" };

const PauseAllButton = () => !shown?.pause && html`<button type="button" onclick=${pauseAll}>Pause all jobs</button>`;

/** In the banner of the pause. */
const ResumeAllButton = () => html`<button type="button" onclick=${resumeAll}>Resume all jobs</button>`;

const resumeAll = () => act("jobs-said", { path: "api/cron/resume", done: "The pause is over: jobs run again." });

const pauseAll = () => openDialog({
    id: "pause", title: "Pause all jobs?", button: "Pause all jobs", until: "",
    Fields: ({ until }) => html`
        <p>No run begins any more. Those that have begun go on to their end.</p>
        <${Field} of="reason" label="Why" hint="Everybody who looks at the jobs reads this." maxlength="1000" required />
        <${Field} of="until" tag="select" label="Until" onchange=${({ target }) => { opened.until = target.value; draw(); }}>
            <option value="">somebody resumes them</option>
            ${Object.entries(PAUSES).map(([minutes, words]) => html`<option value=${minutes}>${words}</option>`)}
            <option value="instant">an instant</option>
        <//>
        ${until === "instant"
            && html`<${Field} of="instant" type="datetime-local" label="Instant" hint=${`In ${zone}.`} required />`}`,
    send: ({ reason, until, instant }) => sendFromDialog({
        path: "api/cron/pause",
        body: { reason: reason.value, until: untilOf(until.value, instant?.value) },
        done: () => "All jobs are paused. Runs that have begun go on to their end.",
    }),
});

/** An instant is typed in the zone that the page shows. */
function untilOf(choice, instant) {
    if (!choice) return undefined;
    // What is no instant goes as it was typed: the server says what is wrong with it.
    return choice === "instant" ? instantOf(instant) || instant : new Date(databaseNow() + choice * 60_000).toISOString();
}
