// What the pages of a job and of a run share: facts, and a log, which grows while the run is open.

const Facts = ({ of }) => html`<dl class="facts">${Object.entries(of).map(([about, fact]) =>
    html`<div key=${about}><dt>${about}</dt><dd>${fact}</dd></div>`)}</dl>`;

// --- the log ----------------------------------------------------------------------------------------

/** Older lines are forgotten here; the server keeps fewer. */
const LOG_LINES_MAX = 2_000;

/** The log of the run that the page shows, and whether its end is in sight. */
let runLog = null, atEnd = true;

/** Reads the lines that are new; nothing where the run has ended and all of them are here. */
async function readLog(runId) {
    if (runLog?.runId !== runId) [runLog, atEnd] = [{ runId, lines: [], dropped: 0, after: 0, isOpen: true }, true];
    const log = runLog;
    while (log.isOpen) {
        const { lines, dropped, next, isOpen } = await read(`api/cron/runs/${runId}/log?limit=1000&after=${log.after}`);
        log.lines = [...log.lines, ...lines].slice(-LOG_LINES_MAX);
        const more = next !== null && next !== log.after;
        // The last lines come with the end or after it.
        Object.assign(log, { dropped, after: next ?? log.after, isOpen: isOpen || next !== null });
        if (!more) break;
    }
}

const logText = () => runLog.lines.map(({ at, line }) => `${at} ${line}\n`).join("");

function saveLog() {
    const link = make("a", { download: `run-${runLog.runId}.log` });
    link.href = URL.createObjectURL(new Blob([logText()], { type: "text/plain" }));
    link.click();
    URL.revokeObjectURL(link.href);
}

const copyLog = () => navigator.clipboard.writeText(logText()).then(
    () => sayAt("log-said", "fine", "Copied."),
    () => sayAt("log-said", "alarm", "This browser does not let pages copy."));

/** Drawn anew when there are other lines, or another zone. */
const logLines = remembered(() => runLog.lines.map(({ number, at, line }) =>
    html`<div key=${number}><time datetime=${at} title=${dayAndTime(at)}>${format.second.format(new Date(at))}</time>
        ${` ${line}`}</div>`));

/** Its end stays in sight, unless somebody has scrolled up to read. */
function Log() {
    const { runId, lines, dropped, isOpen } = runLog;
    const scrolled = ({ target: box }) => { atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 8; };
    const none = isOpen ? "Nothing has been said yet." : "Nothing was said.";
    return html`
        ${dropped > 0 && html`<p class="quiet">${counted(dropped, "line")} dropped, because the log would be too long.</p>`}
        <div class="log" id="log" tabindex="0" role="region" aria-label=${`Log of run ${runId}`} onscroll=${scrolled}
            ref=${(box) => { if (box && atEnd) box.scrollTop = box.scrollHeight; }}>
            ${lines.length ? logLines(runId, lines.at(-1).number, lines.length, zone) : html`<p class="quiet">${none}</p>`}</div>
        <div class="fields">
            ${navigator.clipboard && html`<button type="button" onclick=${copyLog}>Copy</button>`}
            <button type="button" onclick=${saveLog}>Download</button>
            <${Said} id="log-said" />
        </div>`;
}
