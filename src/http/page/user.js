// One user's balance: shown live, and changed so that nobody pays twice or in another's place.

/** The largest number of 64 bits. */
const LARGEST = 9_223_372_036_854_775_807n;

const CHANGES_SHOWN = 8, USER_POLL_MS = 2_000;

/** The dashboard has the user in its query, a user's own page in its path. */
const isUsersPage = /\/users\/[^/]+$/.test(location.pathname);
const chosenUser = () => plainId(isUsersPage ? address.last() : address.get("user") || "1");

/** 007 is 7. */
const plainId = (text) => (/^\d+$/.test(text) ? String(BigInt(text)) : text);

/** The user that is shown, with what was last read: as long as the balance is not known, it is missing. */
let user = {};

// --- reading -------------------------------------------------------------------------------------

/** Only a user of whom nothing is known yet is waited for: else slow answers would hold up the jobs. */
async function readUser() {
    const id = chosenUser();
    if (user.id !== id) [user, typedWrong] = [{ id, readAt: -USER_POLL_MS, changes: [] }, null];
    const one = user;
    if (performance.now() - one.readAt >= USER_POLL_MS && (isUsersPage || inSight("user"))) {
        one.readAt = performance.now();
        one.reading ??= readBalance(one).finally(() => { one.reading = null; draw(); });
    }
    if (one.balance === undefined && !one.problem) await one.reading;
}

async function readBalance(one) {
    one.problem = wrongId(one.id) ?? one.problem;
    if (wrongId(one.id)) return;
    const path = `api/users/${one.id}`;
    try {
        const [{ balance, number }, { externalId = null }] = await Promise.all([
            read(`${path}/balance`), one.externalId === undefined ? read(path) : one]);
        if (!isUsersPage && number !== one.number) {
            // The changes as they were with this balance: it may have been changed since.
            const last = BigInt(number) + 1n;
            ({ changes: one.changes } = await read(`${path}/changes?before=${last}&limit=${CHANGES_SHOWN}`));
        }
        Object.assign(one, { balance, number, externalId, problem: null });
    } catch (error) {
        if (error.status === 404) Object.assign(one, { balance: undefined, number: undefined, changes: [] });
        one.problem = error.status === 404 ? `There is no user ${one.id}.`
            : `The balance cannot be read (${error.message}).`;
    }
}

// --- what people type ----------------------------------------------------------------------------

/** The digits of a whole number, in groups or not; null for what may be a fraction. */
function digitsOf(text) {
    const isWhole = /^(\d+|\d{1,3}([,'’ \u00a0\u2009\u202f])\d{3}(\2\d{3})*)$/.test(text);
    return isWhole ? text.replace(/\D/g, "") : null;
}

function wrongId(text) {
    if (!/^\d+$/.test(text)) return "A user's id is a whole number, such as 7.";
    return BigInt(text) > LARGEST ? `A user's id has at most 19 digits: the largest is ${LARGEST}.` : null;
}

function wrongAmount(text) {
    if (/^[-+−–]/.test(text)) return "The button says which way: give the amount without a sign.";
    const digits = digitsOf(text);
    if (digits === null) return "Give a whole number, such as 200.";
    if (BigInt(digits) === 0n) return "Give an amount above 0, such as 200.";
    return BigInt(digits) > LARGEST ? `An amount has at most 19 digits: the largest is ${grouped(LARGEST)}.` : null;
}

// --- looking up a user ---------------------------------------------------------------------------

/** What is wrong with the id that was typed last. */
let typedWrong = null;

const typedId = () => plainId(byId("user-id").value.trim());

/** Shows the user whose id was typed, as soon as the balance is known. */
async function lookUp() {
    const id = typedId();
    typedWrong = wrongId(id);
    sayAt("balance-said", "", "");
    if (typedWrong) return;
    byId("user-id").value = id;
    if (id === chosenUser()) user.readAt = -USER_POLL_MS;
    else if (isUsersPage) history.pushState(null, "", id);
    else address.set({ user: id });
    pollNow();
    await readUser();
}

/** Whether the field names the user that is shown, so that it is plain whose balance a button changes. */
const isPlain = () => typedId() === user.id && user.id === chosenUser() && user.balance !== undefined;

// --- changing the balance ------------------------------------------------------------------------

/**
 * Where this tab keeps a change from before it is sent until it is known what became of it, so that the same
 * can be sent again under the same key, also after the page was loaded again.
 */
const KEPT = `balanced-change ${new URL(`${ROOT}/`, location).pathname}`;
const keptChange = () => JSON.parse(sessionStorage.getItem(KEPT));

/** The server keeps a key for a day: later, the same would be made once more. */
const KEY_MS = 23 * 3_600_000;

/** While something is under way, a second click is nothing of its own. */
let isChanging = false;

async function oneAtATime(doing) {
    if (isChanging) return;
    isChanging = true;
    try {
        await doing();
    } finally {
        isChanging = false;
        draw();
    }
}

async function changeBalance(form, way) {
    if (!isPlain()) {
        await lookUp();
        if (isPlain()) sayAt("balance-said", "", `This is user ${user.id} now: press again to ${way}.`);
        return;
    }
    const given = form.elements.amount.value.trim();
    const wrong = keptChange() ? "First check and finish the change below, or forget it." : wrongAmount(given);
    if (wrong) return sayAt("balance-said", "alarm", wrong);
    const amount = BigInt(digitsOf(given)) * (way === "withdraw" ? -1n : 1n);
    const change = { body: `{"userId":${user.id},"amount":${amount}}`, key: newKey(), since: Date.now() };
    sessionStorage.setItem(KEPT, JSON.stringify(change));
    if (await sendChange(change, true)) form.reset();
    readAnew();
}

/** What was unknown is shown with its own user. The button is gone then: the focus moves to that user. */
async function finishChange() {
    const change = keptChange();
    byId("user-title").focus();
    byId("user-id").value = parseExactly(change.body).userId;
    await lookUp();
    await sendChange(change, false);
    readAnew();
}

function forgetChange() {
    sessionStorage.removeItem(KEPT);
    byId("user-title").focus();
    sayAt("balance-said", "", "Forgotten. Whether it was made, the list of changes shows.");
}

/** A question that is under way may have been asked before the change. */
async function readAnew() {
    await user.reading;
    user.readAt = -USER_POLL_MS;
    await pollNow();
}

async function sendChange({ body, key }, isFirst) {
    const { userId, amount } = parseExactly(body);
    sayAt("balance-said", "", SENDING);
    try {
        const { balance } = await ask("POST", "api/balance", { body, headers: { "Idempotency-Key": key } });
        sessionStorage.removeItem(KEPT);
        const [done] = wordsOf(amount);
        sayAt("balance-said", "fine", `User ${userId}: ${done}, balance ${grouped(balance)}.`);
        return true;
    } catch (error) {
        if (isDefinite(error, isFirst)) sessionStorage.removeItem(KEPT);
        sayAt("balance-said", "alarm", refusal(error, userId));
    }
}

/**
 * Whether nothing was changed, for sure. An answer that only says so of its own attempt does where that is the
 * first: later, it says nothing about the attempts before. What is not the service's own says nothing at all.
 */
function isDefinite({ status, problem }, isFirst) {
    if (!problem?.code || problem.outcome === "unknown") return false;
    if (isFirst && (status < 500 || problem.outcome === "not_applied")) return true;
    return [400, 404, 409, 422].includes(status);
}

const withoutSign = (amount) => grouped(amount.replace("-", ""));

/** What was done, and what may have been done. */
const wordsOf = (amount) => (amount.startsWith("-")
    ? [`withdrew ${withoutSign(amount)}`, `${withoutSign(amount)} was withdrawn from`]
    : [`deposited ${withoutSign(amount)}`, `${withoutSign(amount)} was deposited to`]);

function refusal(error, userId) {
    const { status, problem: { code, balance, amount } = {} } = error;
    if (code === "insufficient_funds") {
        return `Not enough: the balance is ${grouped(balance)}, you asked for ${withoutSign(amount)}.`;
    }
    if (code === "amount_out_of_range") return `Too much: a balance is at most ${grouped(LARGEST)}.`;
    if (code === "user_not_found") return `There is no user ${userId}.`;
    return status >= 500 ? `The service cannot answer now (${status}).` : sentenceOf(error);
}

// --- the card ------------------------------------------------------------------------------------

/** A change of which nobody knows whether it was made. */
function UnknownChange() {
    const change = keptChange();
    if (!change || isChanging) return null;
    const { userId, amount } = parseExactly(change.body);
    const isLate = Date.now() - change.since > KEY_MS;
    return html`<div id="unknown" class="unknown">
        <p role="alert">Unknown whether ${wordsOf(amount)[1]} user ${userId}.
            ${isLate && " It is too long ago to be checked here: look for it in the list of changes."}</p>
        ${!isLate && html`<button id="finish" onclick=${() => oneAtATime(finishChange)}>Check and finish</button>`}
        <button id="forget" onclick=${forgetChange}>Forget</button></div>`;
}

const signed = (amount) => (amount.startsWith("-") ? "" : "+") + grouped(amount);

const LatestChanges = () => html`
    <h3>Latest changes</h3>
    <table>
        <thead><tr><th scope="col">When</th><th scope="col" class="number">Amount</th>
            <th scope="col" class="number">Balance after</th></tr></thead>
        <tbody id="changes">${user.changes.map(({ number, amount, balanceAfter, reference, createdAt }) => html`
            <tr key=${number}><td><${When} at=${createdAt} /><div class="quiet">${reference}</div></td>
                <td class="number">${signed(amount)}</td><td class="number">${grouped(balanceAfter)}</td></tr>`)}
        </tbody>
    </table>
    <p><a href=${`${ROOT}/users/${user.id}`}>All changes of user ${user.id}</a></p>`;

/** The short form has the latest changes, and a link to all. */
function UserCard({ short }) {
    const { id, balance, externalId, problem } = user;
    const submitted = (doing) => (event) => {
        event.preventDefault();
        oneAtATime(() => doing(event.target, event.submitter?.value));
    };
    // A second click, or a held Enter key, must not send what the first one only looked up.
    const onlyOnce = (event) => { if (event.detail > 1 || (event.repeat && event.key === "Enter")) event.preventDefault(); };
    const wrong = typedWrong ?? problem;
    return html`<section class="card user" id="user" aria-labelledby="user-title">
        <h2 id="user-title" tabindex="-1">User ${id}: <span id="balance">${balance === undefined ? "–" : grouped(balance)}</span></h2>
        ${externalId && html`<p class="quiet">External id: ${externalId}</p>`}
        <form class="fields" onsubmit=${submitted(lookUp)}>
            <label>User <input id="user-id" inputmode="numeric" size="8" autocomplete="off"
                aria-describedby="user-said" ref=${fromAddress("user", () => id)} /></label>
            <button>Show</button>
        </form>
        <p id="user-said" class=${`said ${wrong ? "alarm" : ""}`} role="status">${inlineCode(wrong ?? "")}</p>
        <form id="change" class="fields" onsubmit=${submitted(changeBalance)} onclick=${onlyOnce} onkeydown=${onlyOnce}>
            <label>Amount <input name="amount" inputmode="numeric" size="10" autocomplete="off"
                aria-describedby="balance-said" /></label>
            <button class="main" value="withdraw">Withdraw from user ${id}</button>
            <button value="deposit">Deposit to user ${id}</button>
        </form>
        <${Said} id="balance-said" />
        <${UnknownChange} />
        ${short && balance !== undefined && html`<${LatestChanges} />`}
    </section>`;
}
