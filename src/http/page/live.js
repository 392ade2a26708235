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
    // A hidden tab has no frames, but its title must be right.
    (document.hidden ? queueMicrotask : requestAnimationFrame)(() => {
        drawn = true;
        document.title = titleText();
        withFocus(() => render(html`<${Frame} />`, byId("page")));
    });
}

/** What has the focus keeps it where it is moved; where it is gone, the heading of its section gets it. */
function withFocus(drawing) {
    const had = document.activeElement, section = had?.closest("section");
    drawing();
    if (!had || had === document.body || had === document.activeElement) return;
    const heading = section?.isConnected ? section.querySelector("h2") : document.querySelector("h1");
    if (!had.isConnected) heading?.setAttribute("tabindex", "-1");
    (had.isConnected ? had : heading)?.focus({ preventScroll: true });
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
    last() {
        const part = location.pathname.split("/").at(-1);
        try {
            return decodeURIComponent(part);
        } catch {
            return part;
        }
    },
};

addEventListener("popstate", () => pollNow());

/** A `ref` that puts what the address says into a field, unless it has said so before, or somebody types there. */
const fromAddress = (name, shape = (value) => value) => (field) => {
    const value = shape(address.get(name));
    if (!field || field.told === value) return;
    field.told = value;
    if (document.activeElement !== field) field.value = value;
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

/** The places at which a change is being sent. */
const underWay = new Set();

const sentenceOf = (error) => `${error.message}.`.replace(/\.\.$/, ".");

/**
 * Sends a change, says at a place what becomes of it, and reads the page anew. `done` is a text, or
 * makes one of the answer; `failed` may know better words than the server's. True if it was done;
 * nothing is done while another change of that place is under way.
 */
async function act(place, { method = "POST", path, headers, body, json = JSON.stringify(body), done, failed = () => null }) {
    if (underWay.has(place)) {
        sayAt(place, "", "Another change is being sent. Wait for its answer.");
        return false;
    }
    underWay.add(place);
    sayAt(place, "", SENDING);
    try {
        const answer = await ask(method, path, { body: json, headers });
        sayAt(place, "fine", typeof done === "function" ? done(answer) : done);
    } catch (error) {
        sayAt(place, "alarm", failed(error) ?? sentenceOf(error));
        return false;
    } finally {
        underWay.delete(place);
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

/** While no answer comes, the pauses grow to this. */
const POLL_LOST_MS = 10_000;

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
            // Without a token nothing changes by itself, and what is down is not asked by all pages each second.
            const lostFor = performance.now() - lostSince;
            pause = [401, 403].includes(error.status) ? POLL_LOST_MS : Math.min(POLL_LOST_MS, POLL_MS + lostFor / 5);
        }
        draw();
    } while (again);
    timer = setTimeout(pollNow, document.hidden ? POLL_UNSEEN_MS : pause);
}

document.addEventListener("visibilitychange", () => {
    // A frame that was asked for may not come while nobody looks.
    drawn = true;
    draw();
    if (!document.hidden) pollNow();
});

/** Whether any part of the element is on the screen: what is not need not be read again. */
function inSight(id) {
    const box = byId(id)?.getBoundingClientRect();
    return !box || (box.bottom > 0 && box.top < innerHeight);
}

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
        ${[ZONE_HERE, "UTC"].map((name) => html`<option value=${name}>${name}</option>`)}</select></label>`;
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
