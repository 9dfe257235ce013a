// Shows /openapi.json. No library, nothing from elsewhere; text is only ever set as text.
"use strict";

const METHODS = ["get", "post", "put", "delete"];
// As one meets them; what is not listed comes last.
const GROUPS = ["workflows", "runs", "commands", "approvals", "events", "artifacts", "health"];
const at = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
  return element;
}

// `code`, paragraphs and lists: as much Markdown as our descriptions use.
function prose(text) {
  const inline = (line) => line.split(/(`[^`]+`)/).map((part) =>
    part.startsWith("`") ? make("code", {}, part.slice(1, -1)) : part);
  return (text || "").split(/\n\n+/).filter(Boolean).map((block) => block.startsWith("* ")
    ? make("ul", {}, block.split(/\n?\* /).filter(Boolean).map((item) => make("li", {}, inline(item))))
    : make("p", {}, inline(block)));
}

const nameOf = (reference) => reference.split("/").pop();

function typeOf(schema) {
  if (!schema || Object.keys(schema).length === 0) return "any";
  if (schema.$ref) return nameOf(schema.$ref);
  const several = schema.oneOf || schema.anyOf || schema.allOf;
  if (several) return several.map(typeOf).join(schema.allOf ? " & " : " | ");
  if (schema.enum) return schema.enum.map((it) => JSON.stringify(it)).join(" | ");
  const types = [].concat(schema.type || "any");
  const named = types.map((type) => type === "array" ? `[${typeOf(schema.items)}]` : type).join(" | ");
  const bounds = [
    schema.format, schema.pattern && `/${schema.pattern}/`,
    schema.minimum !== undefined && `≥ ${schema.minimum}`, schema.maximum !== undefined && `≤ ${schema.maximum}`,
    schema.maxLength !== undefined && `up to ${schema.maxLength} characters`,
    schema.default !== undefined && `default ${JSON.stringify(schema.default)}`,
  ].filter(Boolean);
  return [named, ...bounds].join(", ");
}

function typeLink(schema) {
  const reference = schema && (schema.$ref || (schema.items && schema.items.$ref));
  const text = typeOf(schema);
  return make("span", { class: "type" }, reference ? make("a", { href: `#schema-${nameOf(reference)}` }, text) : text);
}

function rows(head, lines) {
  return make("table", {}, make("tr", {}, head.map((text) => make("th", {}, text))),
    lines.map((cells) => make("tr", {}, cells.map((cell) => make("td", {}, cell)))));
}

function parameters(operation) {
  const all = operation.parameters || [];
  if (all.length === 0) return [];
  return [make("h4", {}, "Parameters"), rows(["Name", "In", "Type", ""], all.map((it) => [
    [make("code", {}, it.name), it.required ? make("span", { class: "required" }, " required") : null],
    it.in, typeLink(it.schema), prose(it.description),
  ]))];
}

function body(operation) {
  if (!operation.requestBody) return [];
  return [make("h4", {}, "Body"), ...Object.entries(operation.requestBody.content).flatMap(([kind, content]) => {
    const example = content.example;
    const shown = typeof example === "string" ? example : JSON.stringify(example, null, 2);
    return [make("p", {}, make("code", {}, kind), " ", typeLink(content.schema)), example ? make("pre", {}, shown) : null];
  })];
}

function responses(operation) {
  const lines = Object.entries(operation.responses).map(([status, response]) => [
    make("code", {}, status),
    Object.entries(response.content || {}).map(([kind, content]) => make("div", {}, make("code", {}, kind), " ", typeLink(content.schema))),
    prose(response.description),
  ]);
  return [make("h4", {}, "Answers"), rows(["Status", "Content", ""], lines)];
}

function show(method, path, operation) {
  return make("details", { class: "operation", id: operation.operationId },
    make("summary", {}, make("span", { class: `method ${method}` }, method), make("span", { class: "path" }, path),
      make("span", { class: "short" }, operation.summary || "")),
    make("div", { class: "body" }, prose(operation.description), parameters(operation), body(operation), responses(operation)));
}

function showSchema(name, schema) {
  const required = new Set(schema.required || []);
  const parts = [schema, ...(schema.allOf || [])];
  const fields = parts.flatMap((part) => Object.entries(part.properties || {}));
  return make("details", { class: "operation", id: `schema-${name}` },
    make("summary", {}, make("span", { class: "path" }, name)),
    make("div", { class: "body" }, prose(schema.description), fields.length === 0 ? make("p", {}, typeLink(schema)) :
      rows(["Field", "Type", ""], fields.map(([field, it]) => [
        [make("code", {}, field), required.has(field) ? make("span", { class: "required" }, " required") : null],
        typeLink(it), prose(it.description)]))));
}

function render(api) {
  at("version").textContent = api.info.version;
  at("preface").replaceChildren(...prose(api.info.description));
  const groups = new Map(GROUPS.map((group) => [group, []]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((it) => item[it])) {
      const group = (item[method].tags || ["other"])[0];
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push([method, path, item[method]]);
    }
  }
  const shown = [...groups].flatMap(([group, all]) => [make("h2", {}, group), ...all.map((it) => show(...it))]);
  at("operations").replaceChildren(...shown);
  at("index").replaceChildren(...[...groups].map(([group, all]) => make("div", {}, make("h3", {}, group),
    all.map(([method, path, operation]) => make("a", { class: "entry", href: `#${operation.operationId}` },
      make("span", { class: `method ${method}` }, method), operation.summary || path)))));
  at("schemas").replaceChildren(...Object.entries(api.components.schemas).map((it) => showSchema(...it)));
  open();
}

// A link to an operation or a schema opens it.
function open() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) { target.open = true; target.scrollIntoView(); }
}

at("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase();
  const matches = (element) => element.textContent.toLowerCase().includes(words);
  for (const entry of document.querySelectorAll("nav .entry, #operations details")) entry.hidden = !matches(entry);
});
addEventListener("hashchange", open);
fetch("/openapi.json").then((answer) => answer.json()).then(render).catch((error) => {
  at("operations").textContent = `The description could not be loaded: ${error}`;
});
