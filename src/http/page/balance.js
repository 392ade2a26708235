
// --- the balance ---------------------------------------------------------------------------------

const CHANGES_SHOWN = 8;

let userId = "1";

/** A change of which nobody knows whether it was made: the same again, under the same key. */
let unknown = null;

async function showBalance() {
    const user = `/api/users/${encodeURIComponent(userId)}`;
    try {
        const [{ balance }, { changes }] = await Promise.all([
            ask("GET", user), ask("GET", `${user}/changes?limit=${CHANGES_SHOWN}`)]);
        say(byId("balance"), grouped(balance));
        const newest = changes[0]?.id;
        const rows = byId("changes");
        if (rows.dataset.newest !== `${userId} ${newest}`) {
            rows.replaceChildren(...changes.map(changeRow));
            rows.dataset.newest = `${userId} ${newest}`;
        }
    } catch (error) {
        if (error instanceof Lost) return; // the banner says so
        say(byId("balance"), "–");
        byId("changes").replaceChildren();
        delete byId("changes").dataset.newest;
        tell(byId("balance-said"), "alarm", error.message);
    }
}

function changeRow({ id, amount, balanceAfter, createdAt }) {
    const sign = amount.startsWith("-") ? "" : "+";
    return make("tr", { "data-change": id },
        make("td", { title: dayAndTime(createdAt) }, timeOfDay(createdAt)),
        make("td", { class: "number" }, sign + grouped(amount)),
        make("td", { class: "number" }, grouped(balanceAfter)));
}

/** The digits of a whole number, in groups of three. */
function grouped(number) {
    return BigInt(number).toLocaleString("en").replaceAll(",", "\u202f").replace("-", "−");
}

/** What is not a whole number goes as it is: the server says what is wrong with it. */
function amountOf(text, way) {
    if (!/^[+-]?\d+$/.test(text)) return JSON.stringify(text);
    const amount = BigInt(text);
    return String(way === "withdraw" ? -amount : amount);
}

/** Random enough that no two are the same; `randomUUID` is for secure contexts only. */
function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function changeBalance(event) {
    event.preventDefault();
    const said = byId("balance-said");
    const amount = amountOf(event.target.elements.amount.value.trim(), event.submitter.value);
    const body = `{"userId":${userId},"amount":${amount}}`;
    const key = unknown?.body === body ? unknown.key : newKey();
    unknown = null;
    try {
        const headers = { "Idempotency-Key": key };
        const { balance } = await change("POST", "/api/balance", { body, headers });
        tell(said, "fine", `Done. The balance is ${grouped(balance)}.`);
    } catch (error) {
        if (error instanceof Lost || error.problem.outcome) {
            unknown = { body, key };
            tell(said, "alarm", `${error.message}. Press again: it cannot be made twice.`);
        } else {
            tell(said, "alarm", error.message);
        }
    }
    await showBalance();
}

byId("user").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = event.target.elements.userId.value.trim();
    tell(byId("balance-said"), "", "");
    if (/^\d+$/.test(given)) userId = given;
    else tell(byId("balance-said"), "alarm", "A user is a number.");
    showBalance();
});
byId("change").addEventListener("submit", changeBalance);
