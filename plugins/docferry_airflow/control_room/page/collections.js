// Collections: how far each load is, the ranges of ids in which it goes, and what the last validation found.
import { airflowLink, ask, el, part, table } from "./forms.js";

const place = el("div", { "aria-live": "polite" }); // stays when the section around it is drawn anew
const count = (one) => one.toLocaleString("en");

export function closeRanges() {
  place.replaceChildren();
}

// `mapped`: a range is an instance of that task. Who holds a chunk is named by the task that loads it, or else by its process.
const TASK = /airflow (\S+) (\S+) (\S+)\[(\d+)\] try/;
function holder(by) {
  const [, dag, run, task, index] = by.match(TASK) ?? [];
  return dag ? airflowLink(`dags/${part(dag)}/runs/${part(run)}/tasks/${part(task)}/mapped/${index}`, `${task}[${index}]`) : by;
}

export async function showRanges(migration, collection) {
  try {
    const found = await ask(`api/${part(`${migration}.playbook`)}/chunks/${part(collection)}`);
    const [dag, run] = found.run.split(" "), mapped = `dags/${part(dag)}/runs/${part(run ?? "")}/tasks/${part(found.task)}/mapped`;
    const rows = found.ranges.map((one) => [one.label, one.state, `${count(one.read)} of about ${count(one.expected)}`, one.letters, holder(one.by)]);
    const more = found.chunks > rows.length ? `, of which the first ${count(rows.length)} are shown` : "";
    place.replaceChildren(
      el("h3", { tabindex: -1 }, `Chunk ranges of ${collection}`),
      el("p", {}, `${count(found.done)} of ${count(found.chunks)} are done${more}. `, dag === `${migration}.backfill` ? airflowLink(mapped, "The tasks that load them") : found.run ? `Loaded by ${found.run}.` : ""),
      rows.length ? table(["Ids", "State", "Documents", "Dead letters", "At work"], rows, `Chunk ranges of ${collection}`) : "",
      el("div", { class: "buttons" }, el("button", { type: "button", on: { click: () => showRanges(migration, collection) } }, "Look again"), el("button", { type: "button", on: { click: closeRanges } }, "Close")));
    place.firstChild.focus();
  } catch (error) {
    place.replaceChildren(el("p", { role: "status" }, error.message));
  }
}

const wrong = (one) => one.missing + one.different + one.extra + one.unaccounted;

export function collectionsOf(room, ago) {
  const rows = room.collections.map((one) => [
    el("button", { type: "button", class: "plain", "aria-label": `Chunk ranges of ${one.collection}`, on: { click: () => showRanges(room.migration, one.collection) } }, one.collection), one.state,
    !one.counted ? "not counted yet" : `${count(one.documents)}${one.state === "complete" ? "" : ` of ${count(one.expected)}`}`, one.items,
    `${one.chunks_done} of ${one.chunks}`, `${count(Math.round(one.rate))}/s`, one.left_s === null ? "" : ago(one.left_s), one.letters,
    one.compared ? `${count(one.compared.documents)} compared, ${wrong(one.compared)} wrong` : "never",
  ]);
  return [table(["Collection", "Load", "Documents", "Items", "Chunks", "Rate", "Left", "Dead letters", "Last validation"], rows, "Collections"), place];
}

const FOUND = { Documents: "documents", Items: "items", Missing: "missing", Different: "different", Extra: "extra", "Unaccounted for": "unaccounted", "Not judged": "pending", "Cannot be stored": "unstorable" };

// `run`: the latest of the DAG `validate`, which need not be what made the report.
export function reportOf(room, run) {
  const { validation } = room, compared = room.collections.filter((one) => one.compared);
  if (!validation) return el("p", { class: "soft" }, "There has been no full validation.");
  const rows = compared.map((one) => [one.collection, ...Object.values(FOUND).map((name) => one.compared[name])]);
  return [
    el("p", {}, `Report ${validation.digest.slice(0, 12)} of ${new Date(room.at_ms - 1000 * validation.age_s).toLocaleString()}: ${validation.verdict}${validation.equal ? `, ${validation.equal}` : ""}. `,
      run ? airflowLink(`dags/${part(run.dag_id)}/runs/${part(run.dag_run_id)}/tasks/compare_every_document`, "The latest run of the DAG validate") : ""),
    table(["Collection", ...Object.keys(FOUND)], rows, "Last report"),
  ];
}
