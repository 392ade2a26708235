// What all pages stand on: elements, requests, and the token.

/** The way from this page to the dashboard, as a relative address: a proxy may add a path. */
const ROOT = document.documentElement.dataset.root ?? ".";

const byId = (id) => document.getElementById(id);

/** A new element; texts stay texts, whatever is in them. */
function make(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
        else if (value === true) made.setAttribute(key, "");
        else if (value !== false && value != null) made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
}

/** Sets a text only where it differs, so that a selection or a screen reader is not disturbed. */
function say(place, text) {
    if (place.textContent !== text) place.textContent = text;
}

/** One line on what became of something; `kind` is "fine" or "alarm". */
function tell(place, kind, text) {
    place.className = `said ${kind}`;
    say(place, text);
}

// --- requests ------------------------------------------------------------------------------------

/** No answer is waited for longer, in milliseconds. */
const PATIENCE_MS = 40_000;

/** The server's own refusal: a document of RFC 9457. */
class Refused extends Error {
    constructor(status, problem) {
        const words = problem.detail || `the answer was ${status}`;
        super(words[0].toUpperCase() + words.slice(1));
        this.status = status;
        this.problem = problem;
    }
}

/** No answer came: nobody knows what became of the request. */
class Lost extends Error {}

/** Whole numbers have 64 bits, and this language's 53: amounts and balances are read as text. */
function parseExactly(text) {
    const numbers = /"(userId|balance|amount|balanceAfter|number|next)":(-?\d+)/g;
    return JSON.parse(text.replace(numbers, '"$1":"$2"'));
}

/** Sends one request as it is: what came back, whatever it says. */
async function send(method, path, { body, headers = {}, patience = PATIENCE_MS } = {}) {
    try {
        const signal = AbortSignal.timeout(patience);
        const response = await fetch(path, { method, body, headers, signal, cache: "no-store" });
        return { response, text: await response.text() };
    } catch (error) {
        const late = error.name === "TimeoutError";
        throw new Lost(late ? `No answer within ${patience / 1000} s` : "No connection");
    }
}

/**
 * Asks for a document, or for the `whole` answer as it came; and for a token where the server does.
 * Throws `Refused` or `Lost`.
 */
async function ask(method, path, { headers, whole = false, ...options } = {}) {
    // What a job is given has members of any name, whose numbers stay numbers.
    const parse = path.startsWith("api/cron/") ? JSON.parse : parseExactly;
    for (;;) {
        const token = sessionStorage.getItem(TOKEN);
        const { response, text } = await send(method, `${ROOT}/${path}`, {
            ...options, headers: { ...headers, ...tokenHeaders() },
        });
        if (response.ok) return whole ? { response, text } : text ? parse(text) : null;
        let problem = {};
        try {
            problem = parseExactly(text);
        } catch {
            // Not one of the service's own: the status says it all.
        }
        const refused = new Refused(response.status, problem);
        if (!(await haveAnotherToken(method, token, refused))) throw refused;
    }
}

/** Random enough that no two are the same; `randomUUID` is for secure contexts only. */
function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- the token -----------------------------------------------------------------------------------

const TOKEN = "balanced-token";

/** A text that cannot be a token is not sent: the server asks for one, where a browser would send nothing. */
function tokenHeaders() {
    const token = sessionStorage.getItem(TOKEN) ?? "";
    return /^[!-~]+$/.test(token) ? { Authorization: `Bearer ${token}` } : {};
}

/** The dialog for a token while it is open, and the last token that a person did not replace there. */
let asking = null, declined;

/**
 * Whether there is another token than the refused one. One dialog serves all requests that need it. Requests
 * that only read are repeated, so they do not ask twice for the same. Without the scope `read` a page shows
 * nothing, so a read that lacks it asks for another token; a change only says what is missing.
 */
async function haveAnotherToken(method, token, { status, problem, message }) {
    const reads = method === "GET";
    if (status !== 401 && !(reads && problem.code === "forbidden")) return false;
    if (sessionStorage.getItem(TOKEN) !== token) return true;
    if (reads && declined === token) return false;
    const reason = status === 401 && token ? "That token was not accepted" : message;
    asking ??= askForToken(reason).finally(() => { asking = null; });
    const given = await asking;
    if (!given) declined = token;
    return given;
}

/** True when one was given. It is kept for as long as the tab. */
function askForToken(reason) {
    const input = make("input", { type: "password", autocomplete: "off", required: true });
    const form = make("form", { method: "dialog" },
        make("h2", {}, "A token is needed"),
        make("p", {}, `${reason}. Whoever runs the service gives tokens; this tab remembers yours.`),
        make("label", {}, "Token", input),
        make("div", { class: "fields" },
            make("button", { class: "main", value: "given" }, "Use it"),
            make("button", { value: "", formnovalidate: true }, "Cancel")));
    const dialog = make("dialog", { "aria-label": "Token" }, form);
    document.body.append(dialog);
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener("close", () => {
            const given = dialog.returnValue === "given";
            if (given) sessionStorage.setItem(TOKEN, input.value);
            dialog.remove();
            resolve(given);
        });
    });
}

/** A link carries no token: with one, what it leads to is asked for here, and shown as a text. */
async function followWithToken(event) {
    const href = event.target.closest("header nav a[href$=metrics]")?.href;
    if (!href || !sessionStorage.getItem(TOKEN)) return;
    event.preventDefault();
    try {
        const { text } = await send("GET", href, { headers: tokenHeaders() });
        location.assign(URL.createObjectURL(new Blob([text], { type: "text/plain" })));
    } catch {
        location.assign(href);
    }
}

document.addEventListener("click", followWithToken);
