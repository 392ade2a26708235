// The page of one user: all changes, in pages, by reference and time, and as a file.

const ROWS = 50, FILE_ROWS = 1_000, FILE_ROWS_TOLD = 10_000, FILE_ROWS_MAX = 100_000;

/** The list as it was last read, and what it was read for. */
let list = {};

/** The page from which one came to an older one. */
const newerOf = new Map();
const pageOf = (before) => `${user.id} ${new URLSearchParams([...filters(), ["before", before]])}`;

const FILTERS = ["reference", "from", "to"];
const filters = () => FILTERS.map((name) => [name, address.get(name)]).filter(([, value]) => value);
const without = (name) => filters().every(([other]) => other !== name);

/** Whether a new row would move what somebody reads or copies. */
const isBeingRead = () => address.get("before") !== "" || !inSight("changes-title")
    || isSelected(byId("changes"));

async function readChanges() {
    const { id, number } = user;
    const query = new URLSearchParams([...filters(), ["limit", ROWS]]);
    // The list is as it was with the balance that is shown: it may have been changed since.
    if (number) query.set("before", address.get("before") || BigInt(number) + 1n);
    const place = `${id} ${location.search}`;
    if (number !== undefined && (list.place !== place || (list.number !== number && !isBeingRead()))) list = await readList(place, id, number, query);
}

async function readList(place, id, number, query) {
    const to = address.get("to");
    try {
        const [page, then] = await Promise.all([read(`api/users/${id}/changes?${query}`), to && readThen(id, to)]);
        return { id, place, number, then, ...page };
    } catch (error) {
        // What was asked for is wrong: the service is well.
        if (error.status !== 400) throw error;
        return { id, place, number, changes: [], wrong: sentenceOf(error) };
    }
}

/** The balance at an instant, in words. */
async function readThen(id, at) {
    if (Number.isNaN(Date.parse(at))) return null;
    if (Date.parse(at) > databaseNow()) return "not known yet";
    try {
        return grouped((await read(`api/users/${id}/balance?at=${encodeURIComponent(at)}`)).balance);
    } catch (error) {
        if (error.status !== 404) throw error;
        return "none: there was no change yet";
    }
}

// --- turning pages -------------------------------------------------------------------------------

function turnToOlder() {
    newerOf.set(pageOf(list.next), address.get("before"));
    address.set({ before: list.next });
}

/** Without a reference the numbers have no gaps, so that the newer page is known also where one began here. */
function turnToNewer() {
    const before = address.get("before");
    const newer = BigInt(before) + BigInt(ROWS);
    const isNewest = !without("reference") || newer > BigInt(user.number);
    address.set({ before: newerOf.get(pageOf(before)) ?? (isNewest ? "" : String(newer)) });
}

function jump(form) {
    const given = digitsOf(form.elements.number.value.trim());
    const isThere = given !== null && BigInt(given) >= 1n && BigInt(given) <= BigInt(user.number ?? 0);
    sayAt("list-said", "alarm", isThere ? "" : `User ${user.id} has the changes 1 to ${grouped(user.number ?? 0)}.`);
    if (isThere) address.set({ before: String(BigInt(given) + 1n), reference: "", from: "", to: "" });
}

function filter(form) {
    const { reference, from, to } = form.elements;
    sayAt("list-said", "", "");
    address.set({ reference: reference.value, from: instantOf(from.value), to: instantOf(to.value), before: "" });
}

// --- the file ------------------------------------------------------------------------------------

/** Reads page after page, from the newest on; the names of the columns stand only above the first. */
async function readFile(id, told) {
    const query = new URLSearchParams([...filters(), ["format", "csv"], ["limit", FILE_ROWS]]);
    let next = new URL(`${ROOT}/api/users/${id}/changes?${query}`, location), rows = 0;
    const parts = [];
    while (next && rows < FILE_ROWS_MAX) {
        if (rows % FILE_ROWS_TOLD === 0) told(`Reading … ${counted(rows, "change")} so far.`);
        const { response, text } = await send("GET", next, { headers: tokenHeaders() });
        if (!response.ok) throw new Refused(response.status, {});
        const [names, ...lines] = text.split("\r\n");
        parts.push(parts.length ? "" : `${names}\r\n`, lines.join("\r\n"));
        rows += lines.length - 1;
        const [, target] = /<([^>]*)>; rel="next"/.exec(response.headers.get("Link")) ?? [];
        next = target && new URL(target, response.url);
    }
    return { parts, rows, isWhole: !next };
}

let isDownloading = false;

async function download() {
    if (isDownloading) return;
    isDownloading = true;
    const { id } = user;
    try {
        const { parts, rows, isWhole } = await readFile(id, (text) => sayAt("list-said", "", text));
        const href = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
        make("a", { href, download: `user-${id}-changes.csv` }).click();
        setTimeout(() => URL.revokeObjectURL(href), 60_000);
        const more = isWhole ? "" : " There are more: choose a shorter time for the rest.";
        sayAt("list-said", isWhole ? "fine" : "alarm", `The file has ${counted(rows, "change")}.${more}`);
    } catch (error) {
        sayAt("list-said", "alarm", `The file cannot be made (${error.message}). Try again.`);
    }
    isDownloading = false;
}

// --- the card ------------------------------------------------------------------------------------

const ChangeRow = ({ change: { number, createdAt, amount, balanceAfter, reference, setId, actor } }) => html`
    <tr role="row" data-change=${number}>
        <${Cell} label="Number">${grouped(number)}</><${Cell} label="When"><${When} at=${createdAt} /></>
        <${Cell} label="Amount">${signed(amount)}</><${Cell} label="Balance after">${grouped(balanceAfter)}</>
        <${Cell} label="Reference">${reference}${actor && html` <span class="quiet">by ${actor}</span>`}</>
        <${Cell} label="Set">${setId}</>
    </tr>`;

function ChangeFilters() {
    const submitted = (doing) => (event) => { event.preventDefault(); doing(event.target); };
    const time = (name) => html`<input type="datetime-local" step="1" name=${name} ref=${fromAddress(name, fieldOf)} />`;
    return html`<form id="filters" class="fields" onsubmit=${submitted(filter)}>
            <label>Reference <input name="reference" maxlength="255" ref=${fromAddress("reference")} /></label>
            <label>From ${time("from")}</label><label>To ${time("to")}</label>
            <button>Filter</button>
            ${filters().length > 0 && html`<button type="button" onclick=${showAll}>Show all</button>`}
        </form>
        <form id="jump" class="fields" onsubmit=${submitted(jump)}>
            <label>Number <input name="number" inputmode="numeric" size="8" autocomplete="off" /></label>
            <button>Go to this change</button>
            <button type="button" id="download" onclick=${download}>Download as CSV</button>
        </form>`;
}

function ChangePages() {
    const before = address.get("before"), { changes, next } = list;
    const more = BigInt(user.number ?? 0) - BigInt(list.number ?? 0);
    const words = without("reference") && without("from") ? counted(more, "newer change") : "Look for newer changes";
    const turn = (id, words, doing) => html`<button id=${id} aria-disabled=${!doing} onclick=${doing || null}>${words}</button>`;
    return html`<div class="fields">
        ${turn("newest", "Newest", before && (() => showNewest()))}
        ${turn("newer", "Newer", before && turnToNewer)}
        ${turn("older", "Older", next && turnToOlder)}
        ${changes.length > 0 && html`<span class="quiet" role=${before ? "status" : null}>
            ${grouped(changes[0].number)} to ${grouped(changes.at(-1).number)}</span>`}
        ${more > 0n && without("to") && html`<button id="fresh" onclick=${() => showNewest()}>${words}</button>`}
    </div>`;
}

/** The button that was pressed may be gone then: the focus moves to what is shown. */
function showNewest(values = {}) {
    getSelection().removeAllRanges();
    byId("changes-title").focus();
    address.set({ before: "", ...values }, { replace: !location.search });
}

const showAll = () => showNewest({ reference: "", from: "", to: "" });

/** Another user's changes never stand below a name: an answer may come late. */
function ChangesCard() {
    if (list.id !== user.id || user.number === undefined) list = { id: user.id, changes: [] };
    return html`<section class="card" id="changes-card" aria-labelledby="changes-title">
        <h2 id="changes-title" tabindex="-1">Changes</h2>
        <${ChangeFilters} />
        <${Said} id="list-said" />
        ${list.then && html`<p id="then">Balance at <${When} at=${address.get("to")} />: <b>${list.then}</b></p>`}
        <${ChangePages} />
        <table class="changes cards" role="table" aria-labelledby="changes-title">
            <thead role="rowgroup"><tr role="row">
                ${["Number", "When", "Amount", "Balance after", "Reference", "Set"].map((column) => html`
                    <th role="columnheader" scope="col">${column}</th>`)}
            </tr></thead>
            <tbody id="changes" role="rowgroup">${list.changes.map((change) => html`<${ChangeRow} key=${change.number} change=${change} />`)}</tbody>
        </table>
        ${user.number !== undefined && !list.changes.length
            && html`<p class=${list.wrong ? "alarm" : "quiet"}>${inlineCode(list.wrong ?? "No change matches.")}</p>`}
    </section>`;
}

live({
    every: USER_POLL_MS,
    get title() { return `User ${chosenUser()}`; },
    get heading() { return `User ${chosenUser()}`; },
    refresh: () => Promise.all([readStatus(), readUser().then(() => user.reading).then(readChanges)]),
    skips: [["user", "To the balance"], ["changes-card", "To the changes"]],
    view: () => html`<${UserCard} /><${ChangesCard} />`,
});
