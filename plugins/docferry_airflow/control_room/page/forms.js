// Elements without markup (all text comes from a database, and is set as text), Airflow's API, and forms.

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined && one !== ""));
  return made;
}

export class Refused extends Error {}

// What Airflow or the control room answers. Throws Refused, in words for a person.
export async function ask(path, method = "GET", body = undefined, more = {}) {
  const headers = { Accept: "application/json", ...more, ...(body === undefined ? {} : { "Content-Type": "application/json" }) };
  let answer;
  try {
    answer = await fetch(new URL(path, document.baseURI), {
      method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused("the API server does not answer");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const told = await answer.json().catch(() => ({}));
  const why = typeof told.detail === "string" ? told.detail : JSON.stringify(told.detail ?? "");
  if (answer.status === 401) throw new Refused("you are not logged in to Airflow any more: load the page again");
  if (answer.status === 403) throw new Refused("you may not do this or see this in Airflow (403)");
  throw new Refused(`${answer.status}: ${why || answer.statusText}`);
}

export const part = encodeURIComponent;

// A link to one of Airflow's own pages. In Airflow's frame this page may not navigate the one around it; a link of that page's may.
export function airflowLink(path, ...children) {
  const href = new URL(`../${path}`, document.baseURI).href;
  const click = (event) => {
    if (window.parent === window) return;
    event.preventDefault();
    const link = window.parent.document.createElement("a");
    link.href = href;
    link.click();
  };
  return el("a", { href, on: { click } }, ...children);
}
const PARAM_KINDS = { boolean: "checkbox", integer: "number", number: "number" };

// One input for a parameter of a DAG, by its JSON schema.
function inputOf(name, param) {
  const schema = param.schema ?? {};
  const types = [schema.type].flat();
  const kind = PARAM_KINDS[types.find((one) => one !== "null")] ?? "text";
  const id = `param-${name}-${Math.random().toString(36).slice(2, 8)}`;
  const choices = types.includes("array") ? schema.items?.enum : schema.enum;
  if (choices) {
    const several = types.includes("array"), chosen = [param.value ?? []].flat();
    const options = choices.map((one, at) => el("option", { value: at, selected: chosen.includes(one) }, String(one)));
    const read = (node) => [...node.selectedOptions].map((one) => choices[one.value]); // of the schema's own types: numbers, too
    return { id, node: el("select", { id, multiple: several, size: several ? Math.min(4, options.length) : null }, options),
      read: (node) => (several ? read(node) : read(node)[0]) };
  }
  if (types.includes("array") && schema.items?.type === "string") {
    const node = el("textarea", { id, rows: 2 }, (param.value ?? []).join("\n"));
    return { id, node, read: (from) => from.value.split("\n").map((one) => one.trim()).filter(Boolean) };
  }
  const limits = kind === "number" ? { min: schema.minimum, max: schema.maximum, step: types.includes("integer") ? 1 : "any" } : {};
  const node = el("input", { id, type: kind, checked: kind === "checkbox" && param.value === true, ...limits,
    value: kind === "checkbox" ? undefined : typeof param.value === "object" ? JSON.stringify(param.value) ?? "" : param.value });
  if (param.value === null) node.value = "";
  const read = (from) => {
    if (kind === "checkbox") return from.checked;
    if (from.value === "" && types.includes("null")) return null;
    if (kind === "number") return Number(from.value);
    return types.includes("array") || types.includes("object") ? JSON.parse(from.value) : from.value;
  };
  return { id, node, read };
}

// The form that starts a phase: its parameters, and where leadership or data change, the migration's name typed in full.
export function startForm({ dag, params, confirm, start, close }) {
  const fields = Object.entries(params).map(([name, param]) => ({ name, param, ...inputOf(name, param) }));
  const own = fields.find((one) => one.name === "confirm"); // the DAG itself asks for the name
  const typed = confirm && !own ? el("input", { type: "text", autocomplete: "off", id: `confirm-${dag}` }) : null;
  const said = el("p", { role: "status" });
  const button = el("button", { type: "submit", class: confirm ? "harm" : "main" }, "Start");
  const dry = fields.find((one) => one.name === "dry_run");
  const needed = () => typed !== null && !dry?.node.checked;
  const look = () => { button.disabled = needed() && typed.value !== confirm; };
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const conf = Object.fromEntries(fields.map((one) => [one.name, one.read(one.node)]));
      said.textContent = await start(conf);
    } catch (error) {
      said.textContent = `Not started: ${error.message}`;
      look();
    }
  };
  const rows = fields.map(({ name, param, id, node }) =>
    el("label", { for: id, class: node.type === "checkbox" ? "flag" : null },
      ...(node.type === "checkbox" ? [node] : []),
      el("span", {}, param.schema?.title ?? name.replaceAll("_", " "), param.description ? el("span", { class: "soft" }, ` ${param.description}`) : ""),
      ...(node.type === "checkbox" ? [] : [node])));
  const form = el("form", { on: { submit, input: look }, "aria-label": `Start ${dag}` }, rows,
    typed ? el("label", { for: typed.id }, el("span", {}, `This changes who serves. To start it, type ${confirm}`), typed) : "",
    el("div", { class: "buttons" }, button, el("button", { type: "button", on: { click: close } }, "Close")), said);
  look();
  return form;
}

// Markdown as our own evidence uses it: paragraphs and tables. Anything else stays text.
export function evidence(text) {
  return text.split(/\n{2,}/).map((block) => {
    const lines = block.split("\n");
    if (!lines.every((line) => line.startsWith("|"))) return el("p", {}, block);
    const rows = lines.filter((line) => !/^[|\s:-]+$/.test(line)).map((line) => line.slice(1, -1).split("|").map((one) => one.trim()));
    return table(rows[0], rows.slice(1), `Evidence: ${rows[0][0]}`);
  });
}

// A table that a narrow window can scroll by keyboard. Columns whose cells are numbers are aligned.
export function table(head, rows, label) {
  const numeric = head.map((_, at) => rows.length > 0 && rows.every((row) => typeof row[at] === "number" || /^[\d,.\s%]+$/.test(String(row[at]?.textContent ?? row[at]))));
  const cell = (tag, one, at, more = {}) => el(tag, { class: numeric[at] ? "n" : null, ...more }, typeof one === "number" ? one.toLocaleString("en") : one ?? "");
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `${label}, as a table` },
    el("table", { class: head.length > 3 ? "many" : null }, el("thead", {}, el("tr", {}, head.map((one, at) => cell("th", one, at, { scope: "col" })))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((one, at) => cell("td", one, at)))))));
}
