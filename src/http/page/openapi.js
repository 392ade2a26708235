// The document in the page, read. What is here knows OpenAPI, and none of the routes.

// --- JSON whose numbers stay as they are written: they have 64 bits, this language's have 53 ------

/** What JSON says, each number as a marked text. */
function readJson(text) {
    const words = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
    return JSON.parse(text.replace(words, (word) => (word[0] === '"' ? word : `"\\u0000${word}"`)));
}

/** Such a value as JSON again. */
function jsonText(value, indent) {
    return JSON.stringify(value, null, indent).replace(/"\\u0000([^"]*)"/g, "$1");
}

/** One line for people: texts without quotes. */
function plain(value) {
    return typeof value === "string" ? value.replace("\u0000", "") : jsonText(value);
}

/** Indented where it is JSON, as it came where it is not. */
function tidied(text) {
    try {
        return jsonText(readJson(text), 2);
    } catch {
        return text;
    }
}

// --- the document --------------------------------------------------------------------------------

const openapi = readJson(byId("document").textContent);
const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const BASE = (openapi.servers?.[0]?.url ?? ".").replace(/\/$/, "");

const joined = (texts, between) => texts.filter(Boolean).join(between);
const sentences = (...texts) => joined([...new Set(texts)], ". ").replaceAll("..", ".");

/** What a reference leads to; what stands beside it counts, too. */
function resolve(value) {
    if (!value?.$ref) return value ?? {};
    const { $ref, ...own } = value;
    const steps = $ref.slice(2).split("/").map((s) => s.replaceAll("~1", "/").replaceAll("~0", "~"));
    const target = resolve(steps.reduce((place, step) => place[step], openapi));
    return { ...target, ...own, description: sentences(own.description, target.description) };
}

/** A schema with all that it is made of in one. */
function merged(schema) {
    const own = resolve(schema);
    const choices = (own.anyOf ?? own.oneOf ?? []).map(merged);
    const some = choices.filter((choice) => choice.type !== "null");
    if (some.length === 1) {
        const type = [some[0].type ?? "any", choices.length > 1 && "null"].flat().filter(Boolean);
        return { ...own, ...some[0], type, description: sentences(own.description, some[0].description) };
    }
    return (own.allOf ?? []).map(merged).reduce(mergedPair, own);
}

function mergedPair(own, base) {
    const properties = { ...base.properties };
    for (const [name, schema] of Object.entries(own.properties ?? {})) {
        properties[name] = { ...resolve(properties[name]), ...schema };
    }
    const required = [...(base.required ?? []), ...(own.required ?? [])];
    return { ...base, ...own, properties, required };
}

/** The type that only a value tells. */
function typeOf(value) {
    if (value === undefined) return "any";
    return typeof value === "string" && value[0] === "\u0000" ? "number" : typeof value;
}

function typeName(schema) {
    const choices = schema.anyOf ?? schema.oneOf;
    if (choices) return choices.map((choice) => typeName(merged(choice))).join(" or ");
    const types = [schema.type ?? typeOf(schema.const ?? schema.enum?.[0])].flat();
    const names = types.map((type) =>
        (type === "array" && schema.items ? `list of ${typeName(merged(schema.items))}` : type));
    return names.join(" or ") + (schema.format ? ` (${schema.format})` : "");
}

/** What a value must fulfil, in words. */
function rules(schema) {
    const { minimum: least, maximum: most } = schema;
    return [
        schema.const !== undefined && `always ${plain(schema.const)}`,
        schema.enum && `one of ${schema.enum.map(plain).join(", ")}`,
        least && most && `from ${plain(least)} to ${plain(most)}`,
        least && !most && `at least ${plain(least)}`,
        most && !least && `at most ${plain(most)}`,
        schema.not?.const !== undefined && `not ${plain(schema.not.const)}`,
        schema.minLength && `at least ${plain(schema.minLength)} characters`,
        schema.maxLength && `at most ${plain(schema.maxLength)} characters`,
        schema.maxItems && `at most ${plain(schema.maxItems)} items`,
        schema.minProperties && `at least ${plain(schema.minProperties)} field`,
        schema.additionalProperties === false && "no other field",
        schema.default !== undefined && `default: ${plain(schema.default)}`,
        schema.pattern && `pattern: ${schema.pattern}`,
    ].filter(Boolean);
}

/** The fields of an object, and of the objects in it: a.b for an object's, a[].b for a list's. */
function fieldsOf(schema, before = "") {
    return Object.entries(schema.properties ?? {}).flatMap(([name, value]) => {
        const field = merged(value);
        const [items, path] = [field.items && merged(field.items), before + name];
        const row = { name: path, required: schema.required?.includes(name), schema: field };
        return [row, ...fieldsOf(field, `${path}.`), ...(items ? fieldsOf(items, `${path}[].`) : [])];
    });
}

/** The examples of a media type or a parameter: pairs of a name and a value. */
function examplesOf({ example, examples = {} }) {
    if (example !== undefined) return [["", example]];
    return Object.entries(examples).map(([name, shown]) => [name, resolve(shown).value]);
}

const contentOf = (value) => Object.entries(value.content ?? {})[0] ?? [];

const operations = Object.entries(openapi.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
        const operation = item[method];
        const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
        const scopes = (operation.security ?? openapi.security ?? []).flatMap((one) => Object.values(one).flat());
        const guarded = scopes.length > 0;
        return { ...operation, path, method: method.toUpperCase(), parameters, scopes, guarded };
    }));

/** What all of the lists have in common. */
const common = (lists) => lists.reduce((kept, list) => kept.filter((one) => list.includes(one)));
const answers = operations.flatMap((operation) => Object.values(operation.responses).map(resolve));
const commonHeaders = common(answers.map((answer) => Object.keys(answer.headers ?? {})));
const commonAnswers = common(operations.map((operation) =>
    Object.entries(operation.responses).map(([status, { $ref }]) => `${status} ${$ref}`)));
const commonParameters = common(operations.map(({ parameters }) => parameters.map(({ name }) => name)));
const documentedHeaders = [...new Set(answers.flatMap((answer) => Object.keys(answer.headers ?? {})))];
