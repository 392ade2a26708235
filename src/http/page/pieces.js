// The pieces that the live pages are made of.

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

/** How much is done: not "100 %" before it is. */
const Progress = ({ of, label = "Progress" }) => html`<span class="bar"><progress max="1" value=${of ?? 0} aria-label=${label} />
    <span class="percent">${Math.floor((of ?? 0) * 100)} %</span></span>`;

const secondsSince = (instant) => (databaseNow() - Date.parse(instant)) / 1_000;

/** Whether somebody has selected something in an element: it then keeps its place. */
function isSelected(element) {
    const selection = getSelection();
    return !selection.isCollapsed && element.contains(selection.anchorNode);
}

/** Whether somebody points at an element, is in it with the keyboard, or has selected something there. */
const isBeingUsed = (element) => element.matches(":hover") || element.contains(document.activeElement) || isSelected(element);

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
