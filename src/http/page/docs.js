// The page of the interface, drawn from the document.

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

/** Its roles are said aloud, because on a phone its cells stand below each other. */
function tableOf(titles, rows) {
    const head = titles.map((title) => make("th", { role: "columnheader", scope: "col" }, title));
    const lines = rows.map(([first, ...others]) => make("tr", { role: "row" },
        make("th", { role: "rowheader", scope: "row" }, ...first),
        ...others.map((cell) => make("td", { role: "cell" }, ...cell))));
    return make("table", { role: "table" },
        make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...head)),
        make("tbody", { role: "rowgroup" }, ...lines));
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

function exampleBlocks(content) {
    return examplesOf(content).flatMap(([name, value]) => [
        make("p", { class: "quiet" }, name ? `Example: ${name}` : "Example"),
        make("pre", {}, typeof value === "string" ? value : jsonText(value, 2)),
    ]);
}

// --- one operation -------------------------------------------------------------------------------

function responseBlock(status, value, open) {
    const response = resolve(value);
    const headers = Object.entries(response.headers ?? {}).filter(([name]) => !commonHeaders.includes(name));
    const contents = Object.entries(response.content ?? {});
    const schema = merged(contents[0]?.[1].schema);
    const code = schema.properties?.code;
    const codes = (code?.enum ?? [code?.const]).filter(Boolean).flatMap((one) => [make("code", {}, one), " "]);
    const next = Object.values(response.links ?? {}).flatMap(({ operationId }) =>
        [" ", make("a", { href: `#${operationId}` }, operationId)]);
    return make("details", { class: "response", open },
        make("summary", {}, make("span", { class: `status s${status[0]}` }, status), ...codes,
            ...inline(response.description)),
        make("div", {},
            headers.length ? headerTable(headers) : "",
            ...contents.flatMap(([type, content]) =>
                [make("p", { class: "quiet" }, type), ...exampleBlocks(content)]),
            schema.properties ? make("details", {}, make("summary", {}, "Fields"), fieldTable(schema, false)) : "",
            next.length ? make("p", { class: "quiet" }, "Goes on with", ...next) : ""));
}

function responsesOf(operation) {
    const own = Object.entries(operation.responses)
        .filter(([status, { $ref }]) => !commonAnswers.includes(`${status} ${$ref}`));
    return [
        make("h4", {}, "Answers"),
        ...own.map(([status, value]) => responseBlock(status, value, status[0] === "2")),
        make("p", { class: "quiet" }, "And those of ", make("a", { href: "#every-operation" }, "every operation"),
            `: ${commonAnswers.map((one) => one.split(" ")[0]).join(", ")}.`),
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
        ...exampleBlocks(content),
    ];
}

const scopeText = ({ scopes }) =>
    `Where the service has tokens, it needs one with the scope ${scopes.map((scope) => `\`${scope}\``).join(" and ")}.`;

function operationBlock(operation) {
    const { operationId: id, method, path } = operation;
    const parameters = operation.parameters.filter(({ name }) => !commonParameters.includes(name));
    return make("article", { class: "card operation", id, "aria-labelledby": `${id}-title` },
        make("h3", { id: `${id}-title` },
            make("a", { href: `#${id}` }, methodBadge(method), " ", make("code", {}, path)), " ",
            make("span", {}, operation.summary ?? "")),
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
        ...commonAnswers.map((one) => one.split(" ")).map(([status, $ref]) => responseBlock(status, { $ref }, false)));
}

function tagBlocks({ name, description }) {
    const own = operations.filter((operation) => operation.tags?.includes(name));
    return make("section", { id: `tag-${name}`, "aria-labelledby": `tag-${name}-title` },
        make("h2", { id: `tag-${name}-title` }, `${name[0].toUpperCase()}${name.slice(1)}`),
        ...markdown(description), ...own.map(operationBlock));
}

function contentsOf({ name }) {
    const own = operations.filter((operation) => operation.tags?.includes(name));
    return [
        make("h2", {}, make("a", { href: `#tag-${name}` }, name)),
        make("ul", {}, ...own.map(({ operationId, method, summary }) => make("li", {},
            make("a", { href: `#${operationId}` }, methodBadge(method), summary ?? operationId)))),
    ];
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
    document.title = `${title}: the interface`;
    say(byId("title"), title);
    say(byId("version"), joined([summary, `version ${version}`], ", "));
    byId("about").append(...markdown(description));
    const schemes = Object.values(openapi.components.securitySchemes ?? {});
    byId("token-said").append(...schemes.flatMap((scheme) => inline(scheme.description)), " This tab remembers it.");
    byId("contents").append(...openapi.tags.flatMap(contentsOf),
        make("h2", {}, make("a", { href: "#every-operation" }, "every operation")));
    byId("content").append(...openapi.tags.map(tagBlocks), everyOperation());
    byId("token-form").addEventListener("submit", (event) => event.preventDefault());
    byId("token").addEventListener("input", keepToken);
    showToken();
    placeContents();
    byId("sides").hidden = false;
    byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

drawPage();
