// What the live pages share: drawing, the address, asking again and again, and the page's frame.

const { h, render } = preact;
const html = htm.bind(h);

// --- drawing -------------------------------------------------------------------------------------

/** What `live` was given. */
let page;

let drawn = true;

/** Draws the page anew from what is known: once, however often it is called before. */
function draw() {
    if (!drawn) return;
    drawn = false;
    // A tab that is not looked at has no frames, and its title tells something all the same.
    (document.hidden ? queueMicrotask : requestAnimationFrame)(() => {
        drawn = true;
        document.title = titleText();
        render(html`<${Frame} />`, byId("page"));
    });
}

/** The number of failing jobs is read in a row of tabs, too. */
function titleText() {
    const failing = shown?.conditions?.failing ?? 0;
    return `${failing ? `(${failing}) ` : ""}${page.title ? `${page.title} · ` : ""}balanced`;
}

/** Keeps what was drawn as long as what it is drawn from is the same. */
function remembered(view) {
    let seen = null, made;
    return (...what) => {
        const key = JSON.stringify(what);
        if (key !== seen) [seen, made] = [key, view(...what)];
        return made;
    };
}

/** A text in which code stands between backticks, as the server writes it. */
const inlineCode = (text) =>
    String(text).split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));

// --- the address: what is chosen on a page stands in it, so that it can be sent -------------------

const address = {
    get: (name) => new URLSearchParams(location.search).get(name) ?? "",
    /** Empty values are left out. What is typed replaces the entry in the browser's history. */
    set(values, { replace = false } = {}) {
        const query = new URLSearchParams(location.search);
        for (const [name, value] of Object.entries(values)) {
            if (value) query.set(name, value);
            else query.delete(name);
        }
        const target = query.size ? `?${query}` : location.pathname;
        history[replace ? "replaceState" : "pushState"](null, "", target);
        draw();
        pollNow();
    },
    /** The last part of the path, which names what the page is of. */
    last: () => decodeURIComponent(location.pathname.split("/").at(-1)),
};

addEventListener("popstate", () => pollNow());

/** A `ref` that puts what the address says into a field, unless it has said so before: then somebody may be typing. */
const fromAddress = (name, shape = (value) => value) => (field) => {
    const value = shape(address.get(name));
    if (field && field.told !== value) field.value = field.told = value;
};

// --- what is said of an action -------------------------------------------------------------------

const saidAt = {};

/** Says one line at a place; `kind` is "fine", "alarm" or empty. */
function sayAt(place, kind, text) {
    saidAt[place] = { kind, text };
    draw();
}

function Said({ id, role = "status" }) {
    const { kind = "", text = "" } = saidAt[id] ?? {};
    return html`<p id=${id} class=${`said ${kind}`} role=${role}>${inlineCode(text)}</p>`;
}

const SENDING = "Sending …";

const sentenceOf = (error) => `${error.message}.`.replace(/\.\.$/, ".");

/**
 * Sends a change, says at a place what becomes of it, and reads the page anew. `done` is a text, or
 * makes one of the answer; `failed` may know better words than the server's. True if it was done;
 * nothing is done while another change of that place is under way.
 */
async function act(place, { method = "POST", path, headers, body, json = JSON.stringify(body), done, failed = () => null }) {
    if (saidAt[place]?.text === SENDING) return false;
    sayAt(place, "", SENDING);
    try {
        const answer = await ask(method, path, { body: json, headers });
        sayAt(place, "fine", typeof done === "function" ? done(answer) : done);
    } catch (error) {
        sayAt(place, "alarm", failed(error) ?? sentenceOf(error));
        return false;
    }
    // What was done is done, also where its effect cannot be seen yet.
    await pollNow();
    return true;
}

// --- asking again and again ----------------------------------------------------------------------

/** Between two questions, in milliseconds; and how long each may take before it counts as lost. */
const POLL_MS = 1_000, POLL_PATIENCE_MS = 4_000;

/** While nobody looks, only the number of failing jobs is asked for. */
const POLL_UNSEEN_MS = 30_000;

/** Asking for very many jobs shall cost the server no more than a small part of its time. */
const POLL_TIMES_SLOWER = 3;

const read = (path) => ask("GET", path, { patience: POLL_PATIENCE_MS });

/** The last status, and the answer's instant on this page's own clock. */
let shown = null, shownAt = 0;
let lostSince = null, lostError = null, loaded = false;

/** The database's clock, carried on by this page's own: the wall clock here may be wrong. */
const databaseNow = () => (shown ? Date.parse(shown.now) + performance.now() - shownAt : Date.now());

/** How often the status was asked for, and the newest question whose answer is shown. */
let statusAsked = 0, statusShown = 0;

/** Keeps a status, unless it was overtaken by a newer one. */
async function readStatus(question = () => read("api/cron/status?limit=1")) {
    const asked = ++statusAsked;
    const status = await question();
    // Their times do not tell: after a failover another machine's clock may be behind.
    if (asked < statusShown) return;
    [statusShown, shown, shownAt] = [asked, status, performance.now()];
}

/** What the tab's title needs; the jobs stay those that are drawn. */
const askForCounts = async () => ({ ...await read("api/cron/status?limit=1"), jobs: shown.jobs, next: shown.next });

let polling = null, again = false, timer;

/** Reads the page's data now; if that is under way, once more after it. */
function pollNow() {
    again = polling !== null;
    polling ??= poll().finally(() => { polling = null; });
    return polling;
}

async function poll() {
    clearTimeout(timer);
    let pause = POLL_MS;
    do {
        again = false;
        const begun = performance.now();
        try {
            await (document.hidden && loaded ? readStatus(askForCounts) : page.refresh());
            [lostSince, lostError, loaded] = [null, null, true];
            pause = Math.max(page.every ?? POLL_MS, POLL_TIMES_SLOWER * (performance.now() - begun));
        } catch (error) {
            lostSince ??= performance.now();
            lostError = error;
        }
        draw();
    } while (again);
    timer = setTimeout(pollNow, document.hidden ? POLL_UNSEEN_MS : pause);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) pollNow(); });

/** Whether any part of the element is on the screen: what is not need not be read again. */
function inSight(id) {
    const box = byId(id)?.getBoundingClientRect();
    return !box || (box.bottom > 0 && box.top < innerHeight);
}

// --- pieces --------------------------------------------------------------------------------------

const SIGNS = {
    running: "▶", waiting: "◷", due: "●", paused: "❚❚", stalled: "!",
    succeeded: "✓", failed: "✗", cancelled: "↷", abandoned: "!",
    timed_out: "◔", stopped: "■", missed: "∅",
};

/** A state or an outcome: the sign is for eyes alone. */
const Sign = ({ of }) => html`<span class=${`sign ${of}`}><i aria-hidden="true">${SIGNS[of]}</i> ${of}</span>`;

/** An instant: the time of day, and all of it for who points at it or touches it. */
const When = ({ at }) => at
    ? html`<time datetime=${at} title=${dayAndTime(at)}>${sinceToday(at, databaseNow())}</time>`
    : "–";

/** How long until an instant. */
function Until({ at }) {
    if (!at) return "–";
    const seconds = (Date.parse(at) - databaseNow()) / 1_000;
    return html`<time datetime=${at} title=${dayAndTime(at)}>${seconds <= 0 ? "now" : `in ${span(Math.ceil(seconds))}`}</time>`;
}

document.addEventListener("click", ({ target }) => target.closest?.("time")?.classList.toggle("whole"));

/** What is wrong with a job, or soon may be. */
function conditionsOf(job) {
    return ["failing", "overdue", "missed", "retrying"].filter((name) => ({
        failing: job.enabled && job.failing,
        overdue: job.overdue,
        missed: job.enabled && job.lastRun?.outcome === "missed",
        retrying: job.attempt > 1,
    })[name]);
}

const Conditions = ({ job }) => conditionsOf(job).map((name) => html` <b class=${`condition ${name}`}>${name}</b>`);

/** A cell of a table that becomes cards where it is narrow. */
const Cell = ({ label, children }) => html`<td role="cell" data-label=${label}>${children}</td>`;

const jobAddress = (name) => `${ROOT}/jobs/${encodeURIComponent(name)}`;
const runAddress = (runId) => `${ROOT}/runs/${runId}`;

/** Shows a dialog once: one that was just closed may be drawn again before anybody hears of that. */
function showOnce(dialog) {
    if (!dialog || dialog.wasShown) return;
    dialog.wasShown = true;
    dialog.showModal();
}

/** A dialog that is open as long as it is drawn; Escape closes it, and the focus returns. */
const Dialog = ({ id, title, onclose, children }) => html`
    <dialog id=${id} aria-labelledby=${`${id}-title`} onclose=${onclose}
        ref=${showOnce}>
        <h2 id=${`${id}-title`}>${title}</h2>${children}
    </dialog>`;

// --- the frame -----------------------------------------------------------------------------------

function Frame() {
    const { heading, skips = [], view, dialogs = () => null } = page;
    return html`
        <div class="skips">${skips.map(([id, words]) => html`<a class="skip" href=${`#${id}`}>${words}</a>`)}</div>
        <header class="top">
            ${heading ? html`<a class="brand" href=${`${ROOT}/`}>balanced</a><h1>${heading}</h1>` : html`<h1>balanced</h1>`}
            <span id="live" class="quiet">${liveText()}</span>
            <${Zone} />
            <nav aria-label="Pages"><a href=${`${ROOT}/api-docs`}>API</a> <a href=${`${ROOT}/metrics`}>Metrics</a></nav>
        </header>
        <${LostBanner} /><${PauseBanner} />
        <main class=${lostSince === null ? "" : "lost"}>${loaded && view()}</main>
        ${dialogs()}`;
}

function liveText() {
    if (lostSince !== null) return "lost";
    if (!loaded) return "connecting …";
    return shown ? `live · ${format.second.format(databaseNow())} · answered by ${shown.servedBy}` : "live";
}

/** The zone is named always, and can be changed where it is not UTC anyway. */
function Zone() {
    if (ZONE_HERE === "UTC") return html`<span class="quiet">Times in UTC</span>`;
    const choose = ({ target }) => { useZone(target.value); draw(); };
    return html`<label class="zone quiet">Times in <select id="zone" value=${zone} onchange=${choose}>
        <option>${ZONE_HERE}</option><option>UTC</option></select></label>`;
}

function LostBanner() {
    if (lostSince === null) return html`<p id="lost" class="banner" role="alert" hidden></p>`;
    const where = lostError instanceof Lost ? `${location.host} does not answer` : "The service cannot answer now";
    const since = shown ? ` What you see is from ${format.second.format(Date.parse(shown.now))}.` : "";
    const token = [401, 403].includes(lostError.status) ? " To give another token, load this page again." : "";
    const after = Math.round((performance.now() - lostSince) / 1_000);
    // Only what changes seldom is read aloud.
    return html`<p id="lost" class="banner" role="alert"><span>${where} (${lostError.message}).${since}${token}</span>
        <span aria-hidden="true"> Trying again, for ${after} s now …</span></p>`;
}

function PauseBanner() {
    const pause = shown?.pause;
    if (!pause) return html`<p id="paused" class="banner" role="status" hidden></p>`;
    return html`<p id="paused" class="banner" role="status">All jobs are paused${pause.by ? ` by ${pause.by}` : ""} until
        ${" "}${pause.until ? html`<${When} at=${pause.until} />` : "somebody resumes them"}: ${pause.reason}
        ${" "}${page.resume?.()}</p>`;
}

/**
 * Begins a page: `refresh` reads its data, `view` draws them, `title` stands in the tab, `heading` above
 * the page, `skips` are links to its sections, `dialogs` draws what is open, `resume` a button.
 */
function live(what) {
    page = what;
    draw();
    pollNow();
    setInterval(draw, POLL_MS);
}
