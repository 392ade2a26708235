// A request to be tried: its fields, its answer, and the same for a shell.

/** Between single quotes a shell takes everything as it is, but for the quote itself. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function parameterField(parameter) {
    const { enum: values } = merged(parameter.schema);
    const [[, example = ""] = []] = examplesOf(parameter);
    const field = values
        ? make("select", {}, make("option", { value: "" }, "any"),
            ...values.map((value) => make("option", {}, plain(value))))
        : make("input", { autocomplete: "off", spellcheck: "false", placeholder: plain(example) });
    if (parameter.in === "path") field.value = plain(example);
    field.required = parameter.required === true;
    field.name = parameter.name;
    const label = make("label", {}, `${parameter.name} (${parameter.in})`, field);
    return { parameter, field, labels: parameter.name === "Idempotency-Key" ? [label, newKeyButton(field)] : [label] };
}

function newKeyButton(field) {
    const fill = () => {
        field.value = newKey();
        field.dispatchEvent(new Event("input", { bubbles: true }));
    };
    return make("button", { type: "button", onclick: fill }, "New key");
}

/** Gives `show` the chosen example. A single one needs no choice. */
function exampleSwitch(examples, show) {
    const text = (value) => (typeof value === "string" ? value : jsonText(value, 2));
    const options = examples.map(([name], at) => make("option", { value: at }, name));
    const change = (at) => show(text(examples[at][1]));
    const choice = make("select", { onchange: () => change(choice.value) }, ...options);
    if (examples.length) change(0);
    return examples.length > 1 ? [make("label", {}, "Example", choice)] : [];
}

/** A choice among the examples, and the body to be sent. */
function bodyFields(operation) {
    const [type, content] = contentOf(resolve(operation.requestBody));
    if (!content) return { type, labels: [] };
    const body = make("textarea", { name: "body", spellcheck: "false", rows: 5 });
    const choose = exampleSwitch(examplesOf(content), (text) => { body.value = text; });
    return { type, body, labels: [...choose, make("label", { class: "wide" }, `Body (${type})`, body)] };
}

/** What the form says is to be sent. A parameter that is not filled in is left out. */
function requestOf(operation, fields, { type, body }) {
    const given = fields.filter(({ field }) => field.value !== "");
    const of = (place) => given.filter(({ parameter }) => parameter.in === place)
        .map(({ parameter, field }) => [parameter.name, field.value]);
    const inPath = Object.fromEntries(of("path"));
    const path = operation.path.replace(/\{([^}]+)\}/g, (_, name) => encodeURIComponent(inPath[name] ?? ""));
    const query = of("query").map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
    const headers = { ...(body && { "Content-Type": type }), ...Object.fromEntries(of("header")) };
    return { method: operation.method, path: BASE + path + (query && `?${query}`), headers, body: body?.value };
}

/** The token itself is not shown: a shell puts its own in. */
function curlText({ method, path, headers, body }, withToken) {
    const parts = [`curl -i${method === "GET" ? "" : ` -X ${method}`} ${quoted(new URL(path, document.baseURI).href)}`];
    for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
    if (withToken) parts.push('-H "Authorization: Bearer $API_TOKEN"');
    if (body !== undefined) parts.push(`--data-raw ${quoted(body)}`);
    return parts.join(" \\\n  ");
}

/** Copies, or where the browser does not let a page do that, selects. */
async function copyFrom(place, said) {
    try {
        await navigator.clipboard.writeText(place.textContent);
        tell(said, "fine", "Copied");
    } catch {
        getSelection().selectAllChildren(place);
        tell(said, "", "The command is selected: copy it with your keyboard");
    }
}

/** Sends it, after a question for the token where the server wants one. */
async function sendGuarded(operation, request) {
    for (;;) {
        // Throws here where a field cannot be sent, which later looks like a lost connection.
        const headers = new Headers({ ...request.headers, ...(operation.guarded && tokenHeaders()) });
        const begun = performance.now();
        const { response, text } = await send(request.method, request.path, { ...request, headers });
        const took = Math.round(performance.now() - begun);
        const reason = () => readJson(text).detail ?? "The answer was 401";
        if (response.status !== 401 || !operation.guarded || !(await askForToken(reason()))) {
            return { response, text, took };
        }
        showToken();
    }
}

function answerBlock(operation, { response, text }) {
    const label = `Answer of ${operation.operationId}`;
    const names = ["Content-Type", ...documentedHeaders].filter((name) => response.headers.has(name));
    const lines = names.map((name) => `${name}: ${response.headers.get(name)}`);
    return [
        make("pre", { class: "headers" }, lines.join("\n")),
        text ? make("pre", { class: "body", tabindex: 0, role: "region", "aria-label": label }, tidied(text))
            : make("p", { class: "quiet" }, "The answer has no body"),
    ];
}

/** What is said of a request nobody answered. */
function lossText(operation, error) {
    const fate = operation.method === "GET" ? "" : " Nobody knows whether it was done.";
    return `No answer: ${error.message}.${fate}`;
}

async function tryOut(operation, request, said, place) {
    place.replaceChildren();
    tell(said, "", "Sending …");
    try {
        const answer = await sendGuarded(operation, request);
        const { status, statusText, ok } = answer.response;
        const size = new TextEncoder().encode(answer.text).length;
        place.replaceChildren(...answerBlock(operation, answer));
        tell(said, ok ? "fine" : "alarm", `${status} ${statusText}, after ${answer.took} ms, ${size} bytes`);
    } catch (error) {
        const lost = error instanceof Lost;
        tell(said, "alarm", lost ? lossText(operation, error) : `This request cannot be sent: ${error.message}`);
    }
}

/** Read aloud when it changes. */
function statusLine() {
    return make("p", { class: "said", role: "status" });
}

function tryBlock(operation) {
    const fields = operation.parameters.filter(({ in: place }) => place !== "cookie").map(parameterField);
    const body = bodyFields(operation);
    const curl = make("pre", { class: "curl" });
    const [said, copied] = [statusLine(), statusLine()];
    const answer = make("div", { class: "answer" });
    const request = () => requestOf(operation, fields, body);
    const show = () => say(curl, curlText(request(), operation.guarded && sessionStorage.getItem(TOKEN)));
    let busy = false;
    const submit = async (event) => {
        event.preventDefault();
        if (busy) return;
        busy = true;
        await tryOut(operation, request(), said, answer);
        busy = false;
        show();
    };
    const form = make("form", { onsubmit: submit, oninput: show, onchange: show, onfocusin: show },
        make("div", { class: "fields" }, ...fields.flatMap(({ labels }) => labels), ...body.labels),
        make("p", { class: "quiet" }, "The same request from a shell"), curl,
        make("div", { class: "fields" },
            make("button", { class: "main" }, "Send"),
            make("button", { type: "button", onclick: () => copyFrom(curl, copied) }, "Copy the command"), copied));
    return make("details", { class: "try", ontoggle: show }, make("summary", {}, "Try it"), form, said, answer);
}
