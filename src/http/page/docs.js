// The page of the API, drawn from the document.

// --- pieces --------------------------------------------------------------------------------------

/** **bold** and `code`. */
function inline(text = "") {
    return text.split(/(\*\*.+?\*\*|`[^`]+`)/).filter(Boolean).map((part) => {
        if (part.startsWith("**")) return make("strong", {}, ...inline(part.slice(2, -2)));
        return part.startsWith("`") ? make("code", {}, part.slice(1, -1)) : part;
    });
}

/** Paragraphs, and lists of lines that begin with a hyphen. */
function markdown(text = "") {
    return text.split(/\n{2,}/).filter(Boolean).map((block) => {
        if (!block.startsWith("- ")) return make("p", {}, ...inline(block));
        const items = block.split(/^- /m).filter(Boolean);
        return make("ul", {}, ...items.map((item) => make("li", {}, ...inline(item.trim()))));
    });
}

function methodBadge(method) {
    return make("span", { class: `method ${method.toLowerCase()}` }, method);
}

function tableOf(titles, rows) {
    const head = titles.map((title) => make("th", { scope: "col" }, title));
    const lines = rows.map(([first, ...others]) =>
        make("tr", {}, make("th", { scope: "row" }, ...first), ...others.map((cell) => make("td", {}, ...cell))));
    return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines));
}

function nameCell(name, need = "") {
    return [make("code", {}, name), " ", make("span", { class: "need" }, need)];
}

function meaningCell(description, schema) {
    const said = rules(schema).map((rule) => make("span", { class: "rule" }, rule));
    return [...inline(description), ...said];
}

/** What is sent says what must be there; what is answered, what may not be. */
function fieldTable(schema, isSent) {
    const need = (required) => (isSent ? required && "required" : !required && "optional") || "";
    const rows = fieldsOf(schema).map(({ name, required, schema: field }) =>
        [nameCell(name, need(required)), [typeName(field)], meaningCell(field.description, field)]);
    return tableOf(["Field", "Type", "Meaning and rule"], rows);
}

function parameterTable(parameters) {
    return tableOf(["Parameter", "In and type", "Meaning and rule"], parameters.map((parameter) => {
        const schema = merged(parameter.schema);
        const text = sentences(parameter.description, schema.description);
        const name = nameCell(parameter.name, parameter.required ? "required" : "");
        return [name, [`${parameter.in}, ${typeName(schema)}`], meaningCell(text, schema)];
    }));
}

function headerTable(headers) {
    return tableOf(["Header", "Type", "Meaning and rule"], headers.map(([name, value]) => {
        const header = resolve(value);
        const schema = merged(header.schema);
        return [nameCell(name), [typeName(schema)], meaningCell(header.description, schema)];
    }));
}

function exampleBlock(content) {
    const shown = make("pre");
    const choose = exampleSwitch(examplesOf(content), (text) => say(shown, text));
    return [...choose, shown.textContent && shown];
}

// --- one operation -------------------------------------------------------------------------------

/** A status with the codes of its problems. */
function statusAndCodes(status, value) {
    const code = merged(Object.values(resolve(value).content ?? {})[0]?.schema).properties?.code;
    const codes = (code?.enum ?? [code?.const]).filter(Boolean).flatMap((one) => [make("code", {}, one), " "]);
    return [make("span", { class: `status s${status[0]}` }, status), ...codes];
}

/** What is folded is drawn when it is first opened: all of it at once takes a phone half a second. */
function folded(attributes, summary, draw) {
    const block = make("details", attributes, make("summary", {}, ...summary));
    if (attributes.open) block.append(draw());
    else block.addEventListener("toggle", () => block.append(draw()), { once: true });
    return block;
}

function responseBlock(status, value, open) {
    const response = resolve(value);
    const headers = Object.entries(response.headers ?? {}).filter(([name]) => !commonHeaders.includes(name));
    const contents = Object.entries(response.content ?? {});
    const schema = merged(contents[0]?.[1].schema);
    const next = Object.values(response.links ?? {}).flatMap(({ operationId }) =>
        [" ", make("a", { href: `#${operationId}` }, operationId)]);
    const fields = () => fieldTable(schema, false);
    const summary = [...statusAndCodes(status, value), ...inline(response.description)];
    return folded({ class: "response", open }, summary, () =>
        make("div", {},
            headers.length ? headerTable(headers) : "",
            ...contents.flatMap(([type, content]) =>
                [make("p", { class: "quiet" }, type), ...exampleBlock(content)]),
            schema.properties ? folded({}, ["Fields"], fields) : "",
            next.length ? make("p", { class: "quiet" }, "See also", ...next) : ""));
}

const commonResponses = commonAnswers.map((one) => one.split(" ")).map(([status, $ref]) => [status, { $ref }]);

function responsesOf(operation) {
    const own = Object.entries(operation.responses)
        .filter(([status, { $ref }]) => !commonAnswers.includes(`${status} ${$ref}`));
    return [
        make("h4", {}, "Answers"),
        ...own.map(([status, value]) => responseBlock(status, value, status[0] === "2")),
        make("p", { class: "common" }, "Also those of ", make("a", { href: "#every-operation" }, "every operation"),
            ": ", ...commonResponses.flatMap((one) => statusAndCodes(...one))),
    ];
}

function bodyOf(operation) {
    const [type, content] = contentOf(resolve(operation.requestBody));
    if (!content) return [];
    const schema = merged(content.schema);
    const more = joined([schema.description, ...rules(schema)], ", ");
    return [
        make("h4", {}, "Body"),
        make("p", { class: "quiet" }, joined([type, more], ": ")),
        fieldTable(schema, true),
        ...exampleBlock(content),
    ];
}

const scopeText = ({ scopes }) =>
    `If the service has tokens, this needs one with the scope ${scopes.map((scope) => `\`${scope}\``).join(" and ")}.`;

const searched = ({ operationId, method, path, summary }) =>
    `${method} ${path} ${operationId} ${summary}`.toLowerCase();

function operationBlock(operation) {
    const { operationId: id, method, path } = operation;
    const parameters = operation.parameters.filter(({ name }) => !commonParameters.includes(name));
    const labelled = { id, "aria-labelledby": `${id}-title` };
    return make("article", { class: "card operation", ...labelled, "data-find": searched(operation) },
        make("h3", { id: `${id}-title` },
            make("a", { href: `#${id}` }, methodBadge(method), " ", make("code", {}, path)), " ",
            make("span", {}, operation.summary)),
        ...markdown(operation.description),
        operation.guarded ? make("p", { class: "quiet" }, ...inline(scopeText(operation))) : "",
        ...(parameters.length ? [make("h4", {}, "Parameters"), parameterTable(parameters)] : []),
        ...bodyOf(operation),
        ...responsesOf(operation),
        tryBlock(operation));
}

// --- the page ------------------------------------------------------------------------------------

function showToken() {
    byId("token").value = sessionStorage.getItem(TOKEN) ?? "";
}

function keepToken() {
    const { value } = byId("token");
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
}

function everyOperation() {
    const headers = commonHeaders.map((name) => [name, answers[0].headers[name]]);
    const parameters = operations[0].parameters.filter(({ name }) => commonParameters.includes(name));
    return make("section", { class: "card", id: "every-operation", "aria-labelledby": "every-title" },
        make("h2", { id: "every-title" }, "Every operation"),
        make("h3", {}, "Parameters"), parameterTable(parameters),
        make("h3", {}, "Headers of every answer"), headerTable(headers),
        make("h3", {}, "Answers"),
        ...commonResponses.map((one) => responseBlock(...one)));
}

function tagBlocks({ name, description }) {
    const own = operations.filter((operation) => operation.tags?.includes(name));
    return make("section", { class: "tag", id: `tag-${name}`, "aria-labelledby": `tag-${name}-title` },
        make("h2", { id: `tag-${name}-title` }, `${name[0].toUpperCase()}${name.slice(1)}`),
        ...markdown(description), ...own.map(operationBlock));
}

function contentsOf({ name }) {
    const own = operations.filter((operation) => operation.tags?.includes(name));
    return make("div", { class: "tag" },
        make("h2", {}, make("a", { href: `#tag-${name}` }, name)),
        make("ul", {}, ...own.map((operation) => make("li", { "data-find": searched(operation) },
            make("a", { href: `#${operation.operationId}` }, methodBadge(operation.method), operation.summary)))));
}

/** Shows the operations that contain each of the words. The address keeps the words. */
function find() {
    const { value } = byId("find");
    const words = value.toLowerCase().split(/\s+/);
    for (const block of document.querySelectorAll(".tag")) {
        const own = [...block.querySelectorAll("[data-find]")];
        for (const one of own) one.hidden = !words.every((word) => one.dataset.find.includes(word));
        block.hidden = own.every(({ hidden }) => hidden);
    }
    const found = document.querySelectorAll("article:not([hidden])").length;
    if (value) byId("contents").open = true;
    say(byId("found"), found ? value && `${found} of ${operations.length} operations` : "No operation matches.");
    const url = new URL(location);
    url.searchParams.set("find", value);
    if (!value) url.searchParams.delete("find");
    history.replaceState(null, "", url);
}

/** A link may lead to what the search has hidden. */
function showTarget() {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (target?.closest("[hidden]")) {
        byId("find").value = "";
        find();
    }
    target?.scrollIntoView();
}

function reachFind(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, textarea, select")) return;
    event.preventDefault();
    byId("contents").open = true;
    byId("find").select();
}

/** Beside the text where there is room; folded above it where there is none. */
function placeContents() {
    const room = matchMedia("(min-width: 60.01rem)");
    const contents = byId("contents");
    const place = () => { contents.open = room.matches; };
    place();
    room.addEventListener("change", place);
    contents.addEventListener("click", ({ target }) => {
        if (target.closest("a")) place();
    });
}

function drawPage() {
    const { title, version, summary, description } = openapi.info;
    document.title = `API · ${title}`;
    say(byId("title"), title);
    say(byId("version"), joined([summary, `version ${version}`], ", "));
    byId("about").append(...markdown(description));
    const schemes = Object.values(openapi.components.securitySchemes ?? {});
    byId("token-said").append(...schemes.flatMap(({ description }) => inline(description)), " This tab remembers it.");
    byId("contents").append(...openapi.tags.map(contentsOf),
        make("h2", {}, make("a", { href: "#every-operation" }, "every operation")));
    byId("content").append(...openapi.tags.map(tagBlocks), everyOperation());
    byId("token-form").addEventListener("submit", (event) => event.preventDefault());
    byId("token").addEventListener("input", keepToken);
    showToken();
    byId("find").value = new URLSearchParams(location.search).get("find") ?? "";
    byId("find").addEventListener("input", () => {
        find();
        document.querySelector("main .tag:not([hidden])")?.scrollIntoView();
    });
    addEventListener("keydown", reachFind);
    addEventListener("hashchange", showTarget);
    placeContents();
    find();
    byId("sides").hidden = false;
    showTarget();
}

drawPage();
