// The control room: asks the ledger (by this app) and Airflow (by its own API) every three seconds, and shows what they say.
import { chartsOf } from "./charts.js";
import { closeRanges, collectionsOf, reportOf, showRanges } from "./collections.js";
import { airflowLink, ask, el, evidence, part, startForm, table } from "./forms.js";
import { lettersOf } from "./letters.js";

const EVERY_MS = 3000;
const HISTORY_MS = 60_000; // points are of five minutes
const AIRFLOW = "../api/v2/";
const ONCE = "once", SERVES = "serves", ALWAYS = "always";
// In the playbook's order. SERVES: it changes who serves, so the migration's name is typed. ALWAYS: it runs while it is switched on.
const PHASES = [
  ["provision", ONCE], ["backfill", ONCE], ["replicate", ALWAYS], ["validate", ONCE], ["dual_write", SERVES], ["flip_reads", SERVES],
  ["stop_mongo_writes", SERVES], ["reverse", ALWAYS], ["rollback", SERVES], ["finalize", SERVES],
];
// What mends: no phase, and a dry run until a person says otherwise.
const MENDING = ["health", "clients", "dead_letters", "repair", "load_again", "points", "purge"].map((phase) => [phase, ONCE]);
const LIST_MS = 30_000; // migrations come and go with files
const PAGE = 100; // Airflow gives no more at once
const COLOURS = { success: "good", running: "warn", queued: "warn", failed: "bad" };
const histories = new Map(); // migration -> { at, history }
let span = "fine";
const drawn = new Map(); // section -> what it was drawn from: a form that is open is not drawn anew
// The address may name a migration, a section of its page, and a collection: #shop/letters, #shop/collections/users
let [chosen, wanted, ranges = ""] = `${location.hash.slice(1)}/`.split("/").map(decodeURIComponent);
let known = [], listed = 0;
let opened = null, openedIn = null;

const main = document.getElementById("room");
const trouble = document.getElementById("trouble");

// --- what is shown ---------------------------------------------------------------------------------------------------

function ago(seconds) {
  if (seconds === null || seconds === undefined) return "never";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}

const card = (title, value, tone, ...more) => el("div", { class: "card" }, el("h3", {}, title), el("b", { class: tone }, value), ...more.map((one) => (one instanceof Node ? one : el("p", { class: "soft" }, one))));

function following(room) {
  const back = room.leads.leader === "DynamoDB";
  const state = back ? room.reverse : room.replication;
  const name = back ? "Replication to MongoDB" : "Replication to DynamoDB";
  if (!state) return card(name, "has not begun", "idle");
  const lag = !state.fresh || state.lag_s === null || state.lag_s === undefined ? "lag unknown" : `${Math.round(state.lag_s)} s behind`;
  const notes = [state.ended && !state.fresh ? `its last run ended: ${state.ended}` : `noted ${ago(state.noted_s)} ago`];
  if (state.waits) notes.push(`waits: MongoDB ${state.waits}`);
  if (state.oplog_left_s !== undefined) notes.push(`the oplog holds its position for ${ago(state.oplog_left_s)} more`);
  if (state.in_danger) notes.push("HALF OF ITS WINDOW IS USED UP");
  const tone = !state.fresh ? "bad" : state.in_danger || state.lag_s > 60 ? "bad" : state.lag_s > 10 ? "warn" : "good";
  return card(name, lag, tone, ...notes);
}

function cards(room) {
  const { leads, validation, application: app, collections, spent } = room;
  const letters = collections.reduce((sum, one) => sum + one.letters, 0);
  const back = leads.ways_back.length ? `the way back: ${leads.ways_back.join(", ")}` : "";
  const held = leads.hold_left_s === null ? "" : leads.hold_left_s < 0 ? `writes wait, overdue for ${ago(-leads.hold_left_s)}` : `writes wait, for ${ago(leads.hold_left_s)} more at most`;
  return el("div", { class: "cards" },
    card("Leads", leads.leader, held ? "warn" : "", `${leads.mode}, epoch ${leads.epoch}`, held || back),
    following(room),
    validation
      ? card("Last validation", validation.verdict, validation.verdict === "EQUAL" ? (validation.fresh ? "good" : "warn") : "bad", `${ago(validation.age_s)} ago${validation.fresh ? "" : ": too old for an approval"}`, `report ${validation.digest.slice(0, 12)}`)
      : card("Last validation", "none yet", "idle"),
    card("Dead letters", letters.toLocaleString("en"), letters ? "bad" : "good", room.strays ? `${room.strays} stray writes to the database that led before` : "no stray writes"),
    card("The application", app.live === 1 ? "1 process" : `${app.live} processes`, app.live ? "" : "idle", Object.entries(app.by_mode).map(([mode, count]) => `${count} in ${mode}`).join(", ") || "none follows the mode",
      `compared reads: ${app.reads_equal.toLocaleString("en")} equal, ${app.reads_different.toLocaleString("en")} different`),
    card("Consumed so far", `${spent.usd.toFixed(2)} USD`, "", `${Math.round(spent.write_units).toLocaleString("en")} write units, ${Math.round(spent.read_units).toLocaleString("en")} read units by docferry's flows`, spent.book));
}

// --- what a person can do --------------------------------------------------------------------------------------------

// `given`: values of parameters, in place of the DAG's own.
async function open(migration, phase, kind, place, button, given = {}) {
  const dag = `${migration}.${phase}`;
  const close = () => { opened = null; place.replaceChildren(); button.focus(); };
  openedIn?.replaceChildren();
  [opened, openedIn] = [dag, place]; // before it is asked for: drawn anew meanwhile, the place would be gone
  try {
    const details = await ask(`${AIRFLOW}dags/${part(dag)}/details`);
    const start = async (conf) => {
      if (details.is_paused) await ask(`${AIRFLOW}dags/${part(dag)}?update_mask=is_paused`, "PATCH", { is_paused: false });
      const run = await ask(`${AIRFLOW}dags/${part(dag)}/dagRuns`, "POST", { logical_date: null, conf });
      setTimeout(() => { if (opened === dag) opened = null; }, 2 * EVERY_MS); // long enough to be read; then the phase's state is shown
      return `Started: ${run.dag_run_id}`;
    };
    const params = Object.fromEntries(Object.entries(details.params ?? {}).map(([name, one]) => [name, name in given ? { ...one, value: given[name] } : one]));
    place.replaceChildren(startForm({ dag, params, confirm: kind === SERVES ? migration : "", start, close }));
    place.querySelector("input, select, button")?.focus();
  } catch (error) {
    if (opened === dag) opened = null;
    place.replaceChildren(el("p", { role: "status" }, error.message));
  }
}

async function turn(dag, place) {
  try {
    await ask(`${AIRFLOW}dags/${part(dag.dag_id)}?update_mask=is_paused`, "PATCH", { is_paused: !dag.is_paused });
    await refresh();
  } catch (error) {
    place.replaceChildren(el("p", { role: "status" }, `Not switched: ${error.message}`));
  }
}

function buttonOf(migration, phase, kind, dag, place) {
  const name = phase.replaceAll("_", " ");
  const [word, act] = kind === ALWAYS ? [dag.is_paused ? "Switch on" : "Switch off", () => turn(dag, place)] : ["Start ...", () => open(migration, phase, kind, place, button)];
  const button = el("button", { type: "button", "aria-label": `${word} ${name}`, on: { click: act } }, word);
  return button;
}

function phasesOf(migration, dags, runs, phases) {
  return el("ol", { class: "phases" }, phases.filter(([phase]) => dags.has(`${migration}.${phase}`)).map(([phase, kind]) => {
    const dag = dags.get(`${migration}.${phase}`), run = runs.find((one) => one.dag_id === dag.dag_id), place = el("div");
    const when = run ? `${run.state}${run.end_date ? `, ended ${new Date(run.end_date).toLocaleString()}` : run.start_date ? `, since ${new Date(run.start_date).toLocaleString()}` : ""}` : "not run yet";
    return el("li", { class: "phase" }, el("header", {}, el("h3", {}, phase.replaceAll("_", " ")), buttonOf(migration, phase, kind, dag, place)),
      el("p", { class: "soft" }, dag.description ?? ""), el("p", {}, airflowLink(`dags/${part(dag.dag_id)}${run ? `/runs/${part(run.dag_run_id)}` : ""}`, el("span", { class: `state ${COLOURS[run?.state] ?? "idle"}` }, when)), dag.is_paused && run ? " (switched off)" : ""), place);
  }));
}

function requestsOf(requests) {
  return requests.map((one) => {
    const task = one.task_instance, why = el("textarea", { id: `why-${task.id}`, rows: 2 }), said = el("p", { role: "status" });
    const answer = (option) => async () => {
      try {
        await ask(`${AIRFLOW}dags/${part(task.dag_id)}/dagRuns/${part(task.dag_run_id)}/taskInstances/${part(task.task_id)}/${task.map_index}/hitlDetails`, "PATCH", { chosen_options: [option], params_input: { why: why.value } });
        said.textContent = `Answered: ${option}`;
      } catch (error) { said.textContent = `Not answered: ${error.message}`; }
    };
    return el("section", { class: "request", "aria-label": one.subject }, el("h3", {}, airflowLink(`dags/${part(task.dag_id)}/runs/${part(task.dag_run_id)}/tasks/${part(task.task_id)}/required_actions`, one.subject)), evidence(one.body ?? ""),
      el("label", { for: why.id }, "Why (kept with the approval)", why),
      el("div", { class: "buttons" }, one.options.map((option) => el("button", { type: "button", class: option === "Approve" ? "main" : null, on: { click: answer(option) } }, option))), said);
  });
}

// --- drawing ---------------------------------------------------------------------------------------------------------

const PHASED = ["phases", "mending", "letters"];

function section(id, title, from, make) {
  const now = JSON.stringify(from);
  let place = document.getElementById(id);
  if (!place) main.append((place = el("section", { id, "aria-labelledby": `${id}-title` })));
  if (drawn.get(id) === now || place.querySelector("form, textarea")?.contains(document.activeElement) || (PHASED.includes(id) && opened)) return;
  drawn.set(id, now);
  place.replaceChildren(el("h2", { id: `${id}-title` }, title), ...[make()].flat());
}

function draw(room, dags, runs, requests) {
  const phases = [chosen, [...dags.values()].map((one) => one.is_paused), runs.map((one) => [one.dag_run_id, one.state])];
  if (!room.provisioned) {
    section("now", "Now", room.migration, () => el("p", {}, "Nothing has been provisioned yet: the tables and the ledger are made by the phase provision."));
    section("phases", "Phases", phases, () => phasesOf(room.migration, dags, runs, PHASES));
    return;
  }
  const audit = room.audit.map((one) => [new Date(one.at_ms).toLocaleString(), one.what, one.by, one.why]);
  section("requests", "Waiting for an answer", requests, () => (requests.length ? requestsOf(requests) : el("p", { class: "soft" }, "No phase waits for an approval.")));
  section("now", "Now", { ...room, audit: 0 }, () => cards(room));
  section("phases", "Phases", phases, () => phasesOf(room.migration, dags, runs, PHASES));
  const history = histories.get(room.migration)?.history;
  if (history) section("history", "Over time", [history, span], () => [spans(), chartsOf(history, span)]);
  section("mending", "Look and mend", phases, () => phasesOf(room.migration, dags, runs, MENDING));
  section("collections", "Collections", room.collections, () => collectionsOf(room, ago));
  const validated = runs.find((one) => one.dag_id === `${room.migration}.validate`);
  section("report", "Last report", [room.validation?.digest, room.collections.map((one) => one.compared), validated?.dag_run_id], () => reportOf(room, validated));
  section("unserved", "Calls that DynamoDB could not answer", room.unserved, () => (room.unserved.length ? table(["Call", "Times", "Instead"], room.unserved.map((one) => [one.shape, one.calls, one.instead]), "Unserved calls") : el("p", { class: "soft" }, "None was counted.")));
  const letters = room.collections.reduce((sum, one) => sum + one.letters, 0);
  section("letters", "Dead letters", [letters, room.strays], () => {
    const place = el("div");
    const replay = (chosen_) => open(room.migration, "dead_letters", ONCE, place, document.querySelector("#letters button"), { action: "replay_letters", letters: chosen_ });
    return [...lettersOf(room.migration, letters, room.strays, replay), place];
  });
  section("audit", "Who did what", room.audit, () => (audit.length ? table(["When", "What", "By", "Why"], audit, "Audit trail") : el("p", { class: "soft" }, "Nothing has changed yet.")));
}

function spans() {
  const turnTo = (one) => () => { span = one; refresh(); };
  const button = (one, word) => el("button", { type: "button", "aria-pressed": span === one ? "true" : "false", on: { click: turnTo(one) } }, word);
  return el("div", { class: "buttons" }, button("fine", "Last day"), button("coarse", "30 days"));
}

async function historyOf(name) {
  const known_ = histories.get(name);
  if (known_ && Date.now() - known_.at < HISTORY_MS) return;
  const history = await ask(`api/${part(`${name}.playbook`)}/history`);
  histories.set(name, { at: Date.now(), history });
}

function choose(name) {
  chosen = name;
  opened = null;
  location.hash = part(name);
  closeRanges();
  drawn.clear();
  main.replaceChildren();
  menu();
  refresh();
}

function menu() {
  const buttons = known.map((name) => el("button", { type: "button", "aria-current": name === chosen ? "page" : null, on: { click: () => choose(name) } }, name));
  document.getElementById("migrations").replaceChildren(...buttons);
  document.getElementById("title").textContent = chosen ? `Migration ${chosen}` : "Migrations";
}

async function dagsTagged(tag) {
  const found = [];
  for (;;) {
    const { dags, total_entries: total } = await ask(`${AIRFLOW}dags?tags=docferry&tags=${part(tag)}&tags_match_mode=all&limit=${PAGE}&offset=${found.length}&order_by=dag_id`);
    found.push(...dags);
    if (!dags.length || found.length >= total) return found;
  }
}

let asked = 0;
async function refresh() {
  const turn = ++asked;
  try {
    if (Date.now() - listed > LIST_MS) {
      known = (await dagsTagged("playbook")).map((one) => one.dag_id).filter((one) => one.endsWith(".playbook")).map((one) => one.slice(0, -".playbook".length));
      listed = known.length ? Date.now() : 0;
    }
    if (!known.includes(chosen)) chosen = known[0] ?? "";
    menu();
    if (!chosen) throw new Error("Airflow shows you no migration: its file is refused (see the DAG import errors), or you may not see its DAGs");
    const name = chosen;
    const own = new Map((await dagsTagged(name)).filter((one) => one.dag_id.startsWith(`${name}.`)).map((one) => [one.dag_id, one]));
    const [room, runs, hitl] = await Promise.all([
      ask(`api/${part(`${name}.playbook`)}`),
      ask(`${AIRFLOW}dags/~/dagRuns/list`, "POST", { dag_ids: [...own.keys()], order_by: "-run_after", page_limit: 100 }),
      ask(`${AIRFLOW}dags/~/dagRuns/~/hitlDetails?response_received=false&state=awaiting_input&limit=100`),
    ]);
    if (room.provisioned) await historyOf(name);
    if (turn !== asked) return;
    draw(room, own, runs.dag_runs, hitl.hitl_details.filter((one) => own.has(one.task_instance.dag_id)));
    document.getElementById("updated").textContent = `as of ${new Date(room.at_ms).toLocaleTimeString()}`;
    trouble.hidden = true;
    if (wanted) document.getElementById(wanted)?.scrollIntoView();
    if (wanted && ranges) showRanges(name, ranges);
    wanted = "";
  } catch (error) {
    if (turn !== asked) return;
    trouble.textContent = `What is shown may be old: ${error.message}`;
    trouble.hidden = false;
  }
  main.setAttribute("aria-busy", "false");
}

async function forever() {
  await refresh();
  setTimeout(forever, EVERY_MS);
}
forever();
