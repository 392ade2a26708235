
// --- the balance ---------------------------------------------------------------------------------

const CHANGES_SHOWN = 8;

let userId = "1";

/** A change of which nobody knows whether it was made: the same again, under the same key. */
let unknown = null;

/** How often the balance was asked for, and the newest question that is settled. */
let balanceAsked = 0, balanceSettled = 0;

async function showBalance() {
    const asked = ++balanceAsked;
    const user = `api/users/${encodeURIComponent(userId)}`;
    const patience = POLL_PATIENCE_MS;
    try {
        const [{ balance }, { changes }] = await Promise.all([
            ask("GET", user, { patience }),
            ask("GET", `${user}/changes?limit=${CHANGES_SHOWN}`, { patience })]);
        // Meanwhile it was changed, or another user was asked for.
        if (asked !== balanceAsked) return;
        tell(byId("user-said"), "", "");
        say(byId("balance"), grouped(balance));
        const newest = changes[0]?.number;
        const rows = byId("changes");
        if (rows.dataset.newest !== `${userId} ${newest}`) {
            rows.replaceChildren(...changes.map(changeRow));
            rows.dataset.newest = `${userId} ${newest}`;
        }
    } catch (error) {
        if (asked !== balanceAsked) return;
        if (error.status === 404) forgetBalance("–");
        tell(byId("user-said"), "alarm", `The balance cannot be read: ${error.message}`);
    } finally {
        balanceSettled = Math.max(balanceSettled, asked);
    }
}

/** One question at a time: also slow answers shall be seen. */
function pollBalance() {
    if (balanceSettled === balanceAsked) showBalance();
}

function forgetBalance(sign) {
    say(byId("balance"), sign);
    byId("changes").replaceChildren();
    delete byId("changes").dataset.newest;
}

function changeRow({ number, amount, balanceAfter, reference, createdAt }) {
    const sign = amount.startsWith("-") ? "" : "+";
    return make("tr", { "data-change": number },
        make("td", { title: `Change ${number}, ${dayAndTime(createdAt)}` },
            sinceToday(createdAt, databaseNow()), make("div", { class: "quiet" }, reference ?? "")),
        make("td", { class: "number" }, sign + grouped(amount)),
        make("td", { class: "number" }, grouped(balanceAfter)));
}

/** The digits of a whole number, in groups of three. */
function grouped(number) {
    return BigInt(number).toLocaleString("en").replaceAll(",", "\u202f").replace("-", "−");
}

/** What is not a whole number goes as it is: the server says what is wrong with it. */
function amountOf(text, way) {
    if (!/^\d+$/.test(text)) return JSON.stringify(text);
    const amount = BigInt(text);
    return String(way === "withdraw" ? -amount : amount);
}

/** Random enough that no two are the same; `randomUUID` is for secure contexts only. */
function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** While one change is under way, a second click is none of its own. */
let changing = false;

async function changeBalance(event) {
    event.preventDefault();
    if (changing) return;
    const given = event.target.elements.amount.value.trim();
    if (/^[+-]/.test(given)) {
        return tell(byId("balance-said"), "alarm", "The button says which way: give the amount without a sign.");
    }
    const amount = amountOf(given, event.submitter.value);
    changing = true;
    await sendChange(`{"userId":${userId},"amount":${amount}}`);
    changing = false;
    await showBalance();
}

async function sendChange(body) {
    const said = byId("balance-said");
    const key = unknown?.body === body ? unknown.key : newKey();
    tell(said, "", "Sending …");
    try {
        const headers = { "Idempotency-Key": key };
        const { balance } = await ask("POST", "api/balance", { body, headers });
        if (unknown?.key === key) unknown = null;
        tell(said, "fine", `Done. The balance is ${grouped(balance)}.`);
    } catch (error) {
        if (error instanceof Lost || error.status >= 500) {
            unknown = { body, key };
            tell(said, "alarm", `${error.message}. Press again: it cannot be made twice.`);
        } else {
            // Without a token that may do it, it was not looked at: what was unknown still is.
            if (unknown?.key === key && ![401, 403].includes(error.status)) unknown = null;
            tell(said, "alarm", error.message);
        }
    }
}

byId("user").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = event.target.elements.userId.value.trim();
    tell(byId("balance-said"), "", "");
    if (!/^\d+$/.test(given)) return tell(byId("user-said"), "alarm", "A user is a number.");
    userId = String(BigInt(given));
    forgetBalance("…");
    showBalance();
});
byId("change").addEventListener("submit", changeBalance);
