// The timeline: a picture of the servers' runs, which the keyboard reaches, too.

/** Between two ticks or the ends of a slice, in seconds. */
const STEPS = [5, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600];

let picked = null, pointed = null;

/** Shows one job's runs and dims the others; none when there is no name. */
function pickOut(name) {
    picked = name;
    draw();
}

/** What is drawn anew only when something of this has changed, or every few seconds. */
let pictureOf = "", picture = null;

function Timeline() {
    const width = byId("timeline")?.clientWidth || Math.max(256, Math.min(document.documentElement.clientWidth, 1_440) - 66);
    const open = shown.jobs.map((job) => `${job.runId} ${job.server} ${job.state}`).join();
    const of = [timelineVersion, width, Math.floor(databaseNow() / 5_000), zone, picked, pointed, open].join();
    if (of !== pictureOf) [pictureOf, picture] = [of, drawPicture(width)];
    const { lanes, height, names, shapes } = picture;
    if (!lanes.length) return html`<p class="quiet">No job has run in this time.</p>`;
    return html`<svg viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="group"
        aria-label="Runs, a lane for each server: arrow keys move between them">
        ${shapes}
        ${lanes.map((lane) => html`<${LaneName} key=${lane.server} lane=${lane} names=${names} width=${width} />`)}
    </svg>`;
}

function drawPicture(width) {
    const narrow = width < 600, now = databaseNow(), runs = timelineRuns(), lanes = lanesOf(runs);
    const names = narrow ? 0 : 170, height = placeLanes(lanes, narrow);
    const earliest = Math.min(now - 20_000, ...lanes.flatMap((lane) => lane.runs.map((run) => run.start)));
    const begin = Math.max(earliest - (now - earliest) / 50, now - RANGES[chosenRange()][1] * 60_000);
    const x = (instant) => names + (width - names - 4) * Math.min(1, Math.max(0, (instant - begin) / (now - begin)));
    const stepFor = (pixels) => STEPS.find((step) => x(begin + step * 1_000) - names >= pixels) ?? STEPS.at(-1);
    const step = stepFor(SLICE) * 1_000;
    for (const lane of lanes) lane.things = lane.sliced ? slicesOf(lane, begin, now, step) : lane.runs;
    const things = new Map(lanes.flatMap((lane) => lane.things).map((thing) => [thing.id, thing]));
    const stop = things.has(pointed) ? pointed : [...things.keys()].at(-1);
    const most = Math.max(...lanes.flatMap((lane) => (lane.sliced ? lane.things : [])).map(({ runs }) => runs.length));
    const view = { x, now, most, stop };
    const axis = { begin, now, x, width, bottom: height, step: stepFor(80) * 1_000 };
    const shapes = html`<${Axis} ...${axis} />
        ${lanes.map((lane, index) => html`<g key=${lane.server} data-lane=${index}>
            <line class="rule" x1="0" x2=${width} y1=${lane.top - 6} y2=${lane.top - 6} />
            ${lane.things.map((thing) => (lane.sliced ? bar : box)(thing, lane, view))}</g>`)}
        ${takeovers(lanes, x)}`;
    return { lanes, things, height, names, shapes };
}

function Axis({ begin, now, x, bottom, width, step }) {
    const ticks = [];
    for (let at = Math.ceil(begin / step) * step; at <= now; at += step) ticks.push(at);
    const written = step < 60_000 ? format.second : format.minute;
    return html`<g class="axis" aria-hidden="true">${ticks.map((at) => html`
        <line x1=${x(at)} x2=${x(at)} y1="16" y2=${bottom} />
        <text x=${x(at)} y="12" text-anchor=${x(at) > width - 25 ? "end" : x(at) < 25 ? "start" : "middle"}>
            ${written.format(at)}</text>`)}</g>`;
}

function LaneName({ lane, names, width }) {
    const { kind, words } = saidOf(lane);
    const room = names || width - words.length * 6.5 - 8, letters = Math.floor((room - 8) / 8);
    const short = lane.server.length > letters ? `…${lane.server.slice(1 - letters)}` : lane.server;
    return html`<g class=${`server ${kind}`} data-server=${lane.server}>
        <text class="lane" x="0" y=${lane.top + 10}>${short}<title>${lane.server}</title></text>
        <text class="seen" x=${names ? 0 : width} y=${lane.top + (names ? 26 : 10)} text-anchor=${names ? "start" : "end"}>
            ${words}</text></g>`;
}

/** One run: a link, of which only one is a stop of the Tab key; the arrow keys reach the others. */
function box(run, lane, { x, now, stop }) {
    const left = x(run.start), width = Math.max(3, x(Math.min(run.end, now)) - left - 1);
    const y = lane.first + run.row * lane.pitch, height = lane.pitch * ROW / (ROW + GAP);
    const dim = picked && picked !== run.job ? "dim" : "";
    // The label is no part of the link, whose name is the whole of what the label may cut off.
    return html`<a key=${run.id} id=${run.id} href=${runAddress(run.runId)} data-run=${run.runId} data-x=${left}
        class=${`run ${run.outcome} ${dim}`} tabindex=${run.id === stop ? 0 : -1}
        aria-label=${`${run.job}, ${run.outcome}`}>
        <rect x=${left} y=${y} width=${width} height=${height} rx=${Math.min(3, height / 4)} /></a>
        ${height > 12 && html`<text key=${`label-${run.id}`} class=${`label ${dim}`} aria-hidden="true"
            x=${left + 4} y=${y + height - 6}>${labelOf(run, width - 6)}</text>`}`;
}

/** The sign, and as much of the name as is worth reading. */
function labelOf(run, width) {
    const letters = Math.floor(width / 6.4) - 2;
    if (letters < 5) return width > 7 ? SIGNS[run.outcome] : "";
    return `${SIGNS[run.outcome]} ${letters < run.job.length ? `${run.job.slice(0, letters - 1)}…` : run.job}`;
}

/** From each run that broke off to the one that ran for the same slot on another server. */
function takeovers(lanes, x) {
    const runs = lanes.flatMap((lane) => lane.runs).sort((one, other) => one.runId - other.runId);
    const middle = (run) => {
        const lane = lanes.find(({ server }) => server === run.server);
        return lane.first + (lane.sliced ? lane.height / 2 : (run.row + ROW / (ROW + GAP) / 2) * lane.pitch);
    };
    return runs.map((run, index) => {
        if (run.outcome !== "abandoned" && run.outcome !== "cancelled") return null;
        const next = runs.slice(index + 1).find((other) => other.job === run.job);
        if (!next || next.server === run.server || next.scheduledAt !== run.scheduledAt) return null;
        const [fromX, fromY, toX, toY] = [x(run.end), middle(run), x(next.start), middle(next)];
        const arrow = toY > fromY ? -1 : 1;
        return html`<g key=${run.id} class=${`takeover ${picked && picked !== run.job ? "dim" : ""}`}>
            <path d=${`M${fromX - 3} ${fromY}C${fromX + 16} ${fromY} ${toX + 16} ${toY} ${toX + 2} ${toY}`} />
            <path class="head" d=${`M${toX} ${toY}l7 ${arrow * 5}l1 ${arrow * -7}z`} />
            <title>${run.job}: taken over by ${next.server} from ${run.server}</title></g>`;
    });
}

// --- slices: how many runs there were, where one cannot be told from another ---------------------

function slicesOf(lane, begin, now, step) {
    const slices = [];
    for (let at = Math.floor(begin / step) * step; at < now; at += step) {
        const runs = lane.runs.filter(({ end }) => Math.min(end, now - 1) >= at && Math.min(end, now - 1) < at + step);
        if (runs.length) slices.push({ id: `slice-${lane.server}-${at}`, server: lane.server, at, until: at + step, runs });
    }
    return slices;
}

/** How many runs of a slice ended in each way, or go on, those that succeeded first. */
function outcomesOf(runs) {
    const found = new Map([["succeeded", 0], ["running", 0], ["stalled", 0]]);
    for (const { outcome } of runs) found.set(outcome, (found.get(outcome) ?? 0) + 1);
    return [...found].filter(([, count]) => count);
}

function bar({ id, server, at, until, runs }, lane, { x, most, stop }) {
    const left = x(at) + 1, width = Math.max(3, x(until) - left - 1), bottom = lane.first + lane.height;
    const chosen = { server, from: new Date(at).toISOString(), to: new Date(until).toISOString() };
    let top = bottom;
    const parts = outcomesOf(runs).map(([outcome, count]) => {
        const height = (lane.height - 14) * count / most;
        top -= height;
        return html`<rect class=${outcome} x=${left} y=${top} width=${width} height=${height} />`;
    });
    return html`<a key=${id} id=${id} class="run" data-x=${left} href=${`?${new URLSearchParams(chosen)}`}
        tabindex=${id === stop ? 0 : -1} aria-label=${counted(runs.length, "run")} onclick=${(event) => {
            event.preventDefault();
            address.set({ ...chosen, before: "" });
            byId("history").scrollIntoView();
        }}>${parts}${width > 7 * String(runs.length).length
            && html`<text x=${left + width / 2} y=${top - 3} text-anchor="middle">${runs.length}</text>`}</a>`;
}

// --- what is pointed at --------------------------------------------------------------------------

function point({ target }) {
    const link = target.closest("a");
    if (!link || link.id === pointed) return;
    pointed = link.id;
    draw();
}

/** To the run before or after it in its lane, or to the nearest of the lane above or below. */
function moveBetweenRuns(event) {
    const here = event.target.closest("a"), lanes = [...event.currentTarget.querySelectorAll("[data-lane]")];
    if (!here) return;
    const lane = lanes.indexOf(here.parentNode);
    const of = (index) => [...(lanes[index]?.querySelectorAll("a") ?? [])];
    const far = (link) => Math.abs(link.dataset.x - here.dataset.x);
    const nearest = (links) => links.sort((one, other) => far(one) - far(other))[0];
    const mine = of(lane), place = mine.indexOf(here);
    const next = {
        ArrowLeft: mine[place - 1], ArrowRight: mine[place + 1], Home: mine[0], End: mine.at(-1),
        ArrowUp: nearest(of(lane - 1)), ArrowDown: nearest(of(lane + 1)),
    }[event.key];
    if (event.key.startsWith("Arrow") || next) event.preventDefault();
    next?.focus();
}

function told() {
    if (timelineError) return `The runs cannot be read: ${timelineError.message}.`;
    const thing = picture?.things.get(pointed);
    if (!thing) return "Point at a run, or go from one to another with the arrow keys, to read of it.";
    if (thing.runs) {
        const [from, to] = [thing.at, thing.until].map((at) => sinceToday(at, databaseNow()));
        const kinds = outcomesOf(thing.runs).map(([outcome, count]) => `${count} ${outcome}`);
        return `On ${thing.server} from ${from} to ${to}: ${counted(thing.runs.length, "run")}, ${kinds.join(", ")}`;
    }
    const { job, server, outcome, startedAt, finishedAt, detail, runId } = thing;
    const took = span(((finishedAt ? thing.end : databaseNow()) - thing.start) / 1_000);
    return `${job} on ${server} from ${sinceToday(startedAt, databaseNow())}, ${outcome} `
        + `${finishedAt ? "after" : "for"} ${took}${detail ? `: ${detail}` : ""} (run ${runId})`;
}

// --- the section ---------------------------------------------------------------------------------

const watchWidth = (place) => place && new ResizeObserver(draw).observe(place);

const LEGEND = {
    running: "", succeeded: "", failed: "", cancelled: ": the server was shut down",
    abandoned: ": the server died or was cut off", timed_out: ": it took longer than it may",
    stopped: ": somebody asked for that",
};

const Servers = () => html`<section class="card" id="servers" aria-labelledby="servers-title">
    <div class="top">
        <h2 id="servers-title">Servers that ran a job in the last ${RANGES[chosenRange()][0]}</h2>
        <label class="zone">Show the last <select id="range" ref=${fromAddress("range", chosenRange)}
            onchange=${({ target }) => address.set({ range: target.value })}>
            ${Object.entries(RANGES).map(([key, [words]]) => html`<option value=${key}>${words}</option>`)}</select></label>
    </div>
    <div id="timeline" class="timeline" ref=${watchWidth}
        onkeydown=${moveBetweenRuns} onfocusin=${point} onmouseover=${point}><${Timeline} /></div>
    ${ended.size === RUNS_MAX && html`<p class="quiet">Only the newest ${grouped(RUNS_MAX)} runs are shown.</p>`}
    <p id="run-told" class="told quiet" aria-live="polite">${told()}</p>
    <ul class="legend quiet" aria-label="Signs of the timeline">
        ${Object.entries(LEGEND).map(([outcome, words]) => html`<li><${Sign} of=${outcome} />${words}</li>`)}
        <li><i class="takeover" aria-hidden="true">⤷</i> the same slot, taken over by another server</li>
    </ul>
</section>`;
