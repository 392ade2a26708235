
// --- the timeline: a lane for each server, the last hour -----------------------------------------

const HOUR_MS = 3_600_000;
const ROW = 20, GAP = 4, LANE_GAP = 12, AXIS = 22, LABEL = 40, LANE_MAX = 300;

/** Runs that have ended within the hour or so, by id; the newest are asked for when some ended. */
const ended = new Map();

/**
 * Notes ended runs, and forgets those that the timeline is past. A job's last run as its status has
 * it does not name its slot, without which no takeover is seen: it says nothing new of a known one.
 */
function noteEnded(runs, now) {
    for (const run of runs) if (run.scheduledAt || !ended.has(run.runId)) ended.set(run.runId, run);
    for (const [id, run] of ended) {
        if (Date.parse(run.finishedAt) < now - HOUR_MS) ended.delete(id);
    }
}

/** Everything the timeline shows, oldest first. */
function timelineRuns(status) {
    const open = status.jobs.filter((job) => job.runId !== null).map((job) => ({
        runId: job.runId, job: job.name, server: job.server, outcome: "running",
        scheduledAt: job.scheduledAt, startedAt: job.startedAt, finishedAt: null,
    }));
    // A slot that was missed was on no server.
    const over = [...ended.values()].filter((run) => run.server && !open.some((other) => other.runId === run.runId));
    return [...over, ...open].sort((one, other) => one.runId - other.runId);
}

/** Lanes by server name; in a lane, runs at the same time lie in rows below each other. */
function lanesOf(runs) {
    const lanes = new Map();
    for (const run of runs) {
        const lane = lanes.get(run.server) ?? { rows: [], running: 0 };
        lanes.set(run.server, lane);
        const start = Date.parse(run.startedAt);
        let row = lane.rows.findIndex((end) => end <= start);
        if (row < 0) row = lane.rows.length;
        lane.rows[row] = run.finishedAt ? Date.parse(run.finishedAt) : Infinity;
        run.row = row;
        lane.running += run.outcome === "running";
    }
    const byName = new Intl.Collator([], { numeric: true });
    return new Map([...lanes].sort(([one], [other]) => byName.compare(one, other)));
}

function svg(name, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
}

/** How far the rows are from each other: less where a server runs very many jobs at once. */
function pitchOf(lanes) {
    const most = Math.max(1, ...[...lanes.values()].map((lane) => lane.rows.length));
    return Math.max(2, Math.min(ROW + GAP, LANE_MAX / most));
}

function showTimeline(status, now) {
    const runs = timelineRuns(status);
    const lanes = lanesOf(runs);
    const pitch = pitchOf(lanes);
    showServers(lanes);
    const place = byId("timeline");
    const width = place.clientWidth;
    const names = Math.min(150, width * 0.25);
    const share = (instant) => Math.min(1, Math.max(0, 1 - (now - instant) / HOUR_MS));
    const x = (instant) => names + (width - names - 4) * share(instant);
    let top = AXIS;
    for (const lane of lanes.values()) {
        lane.top = top;
        lane.pitch = pitch;
        top += Math.max(ROW + GAP, lane.rows.length * pitch) + LANE_GAP;
    }
    const picture = svg("svg", { width, height: top, role: "img", "aria-label": inWords(lanes) });
    picture.append(axis(now, x, top, width));
    for (const [server, lane] of lanes) {
        picture.append(svg("line", { class: "rule", x1: 0, x2: width, y1: lane.top - 7, y2: lane.top - 7 }));
        picture.append(clipped(server, names - 8, lane.top + 14));
    }
    const boxes = runs.map((run) => box(run, lanes.get(run.server), x, now));
    picture.append(...boxes, ...takeovers(runs, lanes, x));
    place.replaceChildren(picture);
    pickOut(picked);
}

function inWords(lanes) {
    const words = [...lanes].map(([server, lane]) => `${server} runs ${lane.running}`);
    return `The runs of the last hour, a lane for each server. ${words.join(", ")}.`;
}

function axis(now, x, bottom, width) {
    const group = svg("g", { class: "axis" });
    const step = (width < 600 ? 20 : 10) * 60_000;
    for (let at = Math.ceil((now - HOUR_MS) / step) * step; at <= now; at += step) {
        const anchor = x(at) > width - LABEL / 2 ? "end" : "middle";
        const label = svg("text", { x: x(at), y: 12, "text-anchor": anchor },
            MINUTES.format(at));
        group.append(svg("line", { x1: x(at), x2: x(at), y1: 16, y2: bottom }), label);
    }
    return group;
}

function clipped(text, width, y) {
    const letters = Math.floor(width / 8);
    const short = text.length > letters ? `…${text.slice(1 - letters)}` : text;
    return svg("text", { class: "lane", x: 0, y }, short, svg("title", {}, text));
}

function box(run, lane, x, now) {
    const left = x(Date.parse(run.startedAt));
    const right = x(run.finishedAt ? Date.parse(run.finishedAt) : now);
    const width = Math.max(3, right - left - 1);
    const y = lane.top + run.row * lane.pitch;
    const height = lane.pitch * ROW / (ROW + GAP);
    const words = toldOf(run, now);
    const group = svg("g", { class: `run ${run.outcome}`, "data-job": run.job, "data-run": run.runId },
        svg("rect", { x: left, y, width, height, rx: Math.min(3, height / 4) }), svg("title", {}, words));
    if (height > 12) group.append(svg("text", { x: left + 4, y: y + height - 6 }, labelOf(run, width - 6)));
    group.addEventListener("mouseenter", () => say(byId("run-told"), words));
    return group;
}

/** The sign, and as much of the name as is worth reading. */
function labelOf(run, width) {
    const sign = SIGNS[run.outcome];
    const letters = Math.floor(width / 6.4) - 2;
    if (letters < 5) return width > 7 ? sign : "";
    return `${sign} ${letters < run.job.length ? `${run.job.slice(0, letters - 1)}…` : run.job}`;
}

function toldOf(run, now) {
    const end = run.finishedAt ? Date.parse(run.finishedAt) : now;
    const took = span((end - Date.parse(run.startedAt)) / 1000);
    const detail = run.detail ? `: ${run.detail}` : "";
    return `${run.job} on ${run.server} from ${timeOfDay(run.startedAt)}, ${run.outcome} `
        + `${run.finishedAt ? "after" : "for"} ${took}${detail} (run ${run.runId})`;
}

/** From each run that broke off to the one that ran for the same slot on another server. */
function takeovers(runs, lanes, x) {
    const lines = [];
    runs.forEach((run, index) => {
        if (run.outcome !== "abandoned" && run.outcome !== "cancelled") return;
        const next = runs.slice(index + 1).find((other) => other.job === run.job);
        if (!next || next.server === run.server || next.scheduledAt !== run.scheduledAt) return;
        const middle = (one) => {
            const { top, pitch } = lanes.get(one.server);
            return top + one.row * pitch + pitch * ROW / (ROW + GAP) / 2;
        };
        const [fromX, fromY] = [x(Date.parse(run.finishedAt)), middle(run)];
        const [toX, toY] = [x(Date.parse(next.startedAt)), middle(next)];
        const arrow = toY > fromY ? -1 : 1;
        const words = `${run.job}: taken over by ${next.server} from ${run.server}`;
        const bend = `${fromX + 16} ${fromY} ${toX + 16} ${toY}`;
        lines.push(svg("g", { class: "takeover", "data-job": run.job },
            svg("path", { d: `M${fromX - 3} ${fromY}C${bend} ${toX + 2} ${toY}` }),
            svg("path", { class: "head", d: `M${toX} ${toY}l7 ${arrow * 5}l1 ${arrow * -7}z` }),
            svg("title", {}, words)));
    });
    return lines;
}

/** How many jobs each server runs now, also those that have run one within the hour. */
function showServers(lanes) {
    const most = Math.max(1, ...[...lanes.values()].map((lane) => lane.running));
    const items = [...lanes].map(([server, { running }]) => {
        const bar = { min: 0, max: most, value: running, "aria-label": `${server} runs` };
        return make("li", { "data-server": server },
            make("span", {}, server), make("meter", bar), make("b", {}, String(running)));
    });
    byId("servers").replaceChildren(...items);
}

let picked = null;

/** Shows one job's runs and dims the others; none when there is no name. */
function pickOut(name) {
    picked = name;
    for (const group of byId("timeline").querySelectorAll("[data-job]")) {
        group.classList.toggle("dim", name !== null && group.dataset.job !== name);
    }
}
