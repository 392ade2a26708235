// The dialog in which a job is made or changed.

/** What is set of a job, and what people read of it. */
const SETTINGS = {
    function: { label: "Function" },
    arguments: { label: "Arguments" },
    schedule: { label: "Schedule" },
    description: { label: "Description", hint: "What the job is for." },
    owner: { label: "Owner", hint: "Whom to ask about it." },
    maxSeconds: { label: "Longest run, in seconds", hint: "A run that takes longer ends as timed_out. Empty: no limit." },
    retries: { label: "Retries", hint: "How often a run that failed is tried again." },
    retryAfterSeconds: { label: "First retry after, in seconds", hint: "Each further pause is twice as long." },
    startWithinSeconds: { label: "Start within, in seconds", hint: "A slot that is later is missed. Empty: no limit." },
    catchUp: { label: "Missed slots" },
    group: { label: "Group", hint: "Jobs of one group never run at the same time." },
};

const NUMBERS = ["maxSeconds", "retries", "retryAfterSeconds", "startWithinSeconds"];

/** What a new job is where nothing is said. */
const DEFAULTS = { retries: "0", retryAfterSeconds: "10", catchUp: "one" };

const CATCH_UP = { one: "one run makes up for all of them", none: "are not run" };

/** Makes a job, or changes this one. */
async function editJob(job) {
    try {
        const reading = job ? readSettings(job) : { values: settingTexts(DEFAULTS) };
        const [before, functions] = await Promise.all([reading, readFunctions()]);
        const { values } = before;
        openDialog({
            id: "edit", title: job ? `Change ${job.name}` : "New job", button: job ? "Save" : "Make it",
            job, before, functions, values, chosen: values.function, Fields: SettingFields, send: saveJob,
        });
        if (job) checkSchedule(values.schedule);
    } catch (error) {
        sayAt("jobs-said", "alarm", sentenceOf(error));
    }
}

const settingTexts = (settings) =>
    Object.fromEntries(Object.keys(SETTINGS).map((of) => [of, String(settings[of] ?? "")]));

/** The settings as texts, and their tag: a change is refused where somebody has changed them meanwhile. */
async function readSettings(job) {
    const { response, text } = await ask("GET", jobPath(job), { patience: POLL_PATIENCE_MS, whole: true });
    // As they were written: this language's numbers have fewer digits.
    const [, written] = text.match(/"arguments":(\{.*\}),"schedule":"/s);
    const read = JSON.parse(written), exact = JSON.stringify(read) === written;
    const values = settingTexts({ ...JSON.parse(text), arguments: exact ? JSON.stringify(read, null, 2) : written });
    return { tag: response.headers.get("ETag"), values };
}

/** None where they cannot be read: then the name is typed. */
const readFunctions = () => read("api/cron/functions").then(({ functions }) => functions, () => []);

function SettingFields({ job, functions, chosen, values, errors, checked }) {
    const known = functions.find(({ name }) => name === chosen);
    const setting = (of, attributes) => html`<${Field} of=${of} ...${SETTINGS[of]} defaultValue=${values[of]} ...${attributes} />`;
    const option = (of) => ([value, words]) => html`<option value=${value} selected=${value === values[of]}>${words}</option>`;
    const choice = (of, options, attributes) =>
        html`<${Field} of=${of} tag="select" ...${SETTINGS[of]} ...${attributes}>${options.map(option(of))}<//>`;
    // Another build may have the function that is set.
    const names = [...new Set(["", values.function, ...functions.map(({ name }) => name)])];
    const choose = ({ target }) => { opened.chosen = target.value; draw(); };
    const takes = known ? `Must be ${known.arguments}.` : "A JSON object.";
    return html`
        ${!job && html`<${Field} of="name" label="Name" hint="Small letters, digits and hyphens." maxlength="63" required />`}
        ${functions.length
            ? choice("function", names.map((name) => [name, name || "choose one"]), { onchange: choose, required: true })
            : setting("function", { required: true })}
        ${setting("arguments", { tag: "textarea", rows: 3, spellcheck: false, hint: takes })}
        ${setting("schedule", {
            required: true, spellcheck: false, oninput: ({ target }) => checkSchedule(target.value),
            hint: html`Such as <code>every 5m</code>, <code>0 3 * * 2</code> for Tuesdays at 03:00 UTC,
                or <code>0 3 * * 1-5 Europe/Berlin</code>.`,
        })}
        ${!errors.schedule && html`<${Meaning} of=${checked} />`}
        ${setting("description")}
        ${setting("owner")}
        <details><summary>Limits and retries</summary>
            ${NUMBERS.map((of) => setting(of, { inputmode: "numeric" }))}
            ${choice("catchUp", Object.entries(CATCH_UP))}
            ${setting("group", { spellcheck: false })}
        </details>`;
}

// --- what a schedule means -----------------------------------------------------------------------

/** So long nothing is typed before it is asked for, in milliseconds. */
const TYPED_MS = 300;

let checkTimer, checksAsked = 0;

function checkSchedule(schedule) {
    const asked = ++checksAsked, dialog = opened;
    clearTimeout(checkTimer);
    checkTimer = setTimeout(async () => {
        const checked = schedule && await readMeaning(schedule, dialog).catch((error) => ({ error }));
        // A newer text was typed before this one's answer.
        if (asked !== checksAsked) return;
        dialog.checked = checked;
        draw();
    }, TYPED_MS);
}

/** What is set already keeps its grid; another interval begins one. */
const readMeaning = (schedule, { job, before }) => (job && schedule === before.values.schedule
    ? read(`${jobPath(job)}/next?count=5`)
    : ask("POST", "api/cron/schedules/check", { body: JSON.stringify({ schedule }), patience: POLL_PATIENCE_MS }));

/** In words, and its next runs; or why it is no schedule. */
const Meaning = ({ of: { error, words, next = [] } = {} }) => html`<div class="meaning" id="meaning">
    <p role="status" class=${error ? "alarm" : ""}>${error ? inlineCode(sentenceOf(error)) : words && `Runs ${words}`}</p>
    <ol>${next.map((at) => html`<li key=${at}><${When} at=${at} /></li>`)}</ol></div>`;

// --- saving --------------------------------------------------------------------------------------

/** A number that is none is sent as it was typed: the server says what it must be. */
function settingJson(of, text) {
    if (!text) return "null";
    return of === "arguments" || (NUMBERS.includes(of) && /^(0|[1-9]\d*)$/.test(text)) ? text : JSON.stringify(text);
}

/** Sends what differs from what was read, and nothing else. */
function saveJob(fields, dialog) {
    const { job, before } = dialog;
    const text = fields.arguments.value;
    if (text && !isObject(text)) return refuseField("arguments", "Give a JSON object, such as `{\"below\": 1000}`.");
    const changed = Object.keys(SETTINGS).filter((of) => fields[of].value !== before.values[of]);
    const members = changed.map((of) => `${JSON.stringify(of)}:${settingJson(of, fields[of].value.trim())}`);
    if (job && !members.length) return sayAt(dialog.place, "alarm", "Nothing is changed.");
    const target = job ?? { name: fields.name.value.trim() };
    return sendFromDialog({
        method: job ? "PATCH" : "PUT", path: jobPath(target),
        headers: job ? { "If-Match": before.tag } : { "If-None-Match": "*" },
        json: `{${(job ? members : [...members, "\"enabled\":true"]).join()}}`,
        done: () => (job ? `${job.name} is changed.` : `${target.name} is made.`),
        failed({ status: answered }) {
            if (answered !== 412) return null;
            if (job) tellMeanwhile(dialog);
            else refuseField("name", `There is a job ${target.name} already.`);
            return "";
        },
    });
}

function isObject(text) {
    try {
        return JSON.parse(text)?.constructor === Object;
    } catch {
        return false;
    }
}

/** Who has changed the job since it was read, and what. */
async function tellMeanwhile(dialog) {
    dialog.again = readAgain;
    const reading = read(`${jobPath(dialog.job)}/changes?limit=1`);
    const latest = await reading.then(({ changes: [last] }) => last, () => null);
    const what = latest ? `: ${differences(latest).join(", ")}` : "";
    sayAt(dialog.place, "alarm", `${latest?.by ?? "Somebody"} has changed it meanwhile${what}.`);
}

/** Takes up what somebody else has changed, and keeps what was typed here. */
async function readAgain({ target: { form } }) {
    const dialog = opened;
    try {
        const before = await readSettings(dialog.job);
        for (const [of, was] of Object.entries(dialog.before.values)) {
            const field = form.elements[of];
            if (field.value === was) field.value = before.values[of];
        }
        Object.assign(dialog, { before, again: null, chosen: form.elements.function.value });
        checkSchedule(form.elements.schedule.value);
        sayAt(dialog.place, "fine", "This is how it is now, with what you have typed. Save it if you agree.");
    } catch (error) {
        sayAt(dialog.place, "alarm", sentenceOf(error));
    }
}

// --- who changed what ----------------------------------------------------------------------------

const settingWords = (value) => (value === null ? "none" : typeof value === "object" ? JSON.stringify(value) : String(value));

/** What differs between the settings before and after a change, each in words. */
function differences({ before, after }) {
    if (!before) return ["made"];
    if (!after) return ["deleted"];
    const words = (of) => `${SETTINGS[of]?.label ?? of} ${settingWords(before[of])} → ${settingWords(after[of])}`;
    return Object.keys(after).filter((of) => JSON.stringify(before[of]) !== JSON.stringify(after[of]))
        .map((of) => (of !== "enabled" ? words(of) : after.enabled ? "resumed" : "paused"));
}
