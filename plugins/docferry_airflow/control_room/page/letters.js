// Dead letters: a list that shows neither documents nor ids, and documents for those who may see them, of which the ledger keeps who looked.
import { ask, el, part, table } from "./forms.js";

const OURS = { "X-Docferry": "1" };
const shownOf = (collection, documents) => documents.map((one) =>
  el("details", { open: documents.length === 1 }, el("summary", {}, `${collection} ${one.id}`), el("p", {}, one.message), el("pre", { tabindex: 0, role: "region", "aria-label": `Document of letter ${one.letter}` }, one.document)));

function save(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// A cell of a spreadsheet that begins so would be a formula.
const cell = (one) => `"${String(one).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
const csv = (head, rows) => [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");

// The section's content. `replay(letters)` opens the form that tries them again.
export function lettersOf(migration, count, strays, replay) {
  const said = el("p", { role: "status" }), place = el("div"), shown = el("div");
  const dag = `api/${part(`${migration}.dead_letters`)}/letters`;
  const picked = () => [...place.querySelectorAll("input:checked")].map((one) => ({ letter: one.value, collection: one.dataset.collection }));
  const failing = (act) => async () => {
    said.textContent = "";
    try { await act(); } catch (error) { said.textContent = error.message; }
  };
  const documents = async () => {
    const by = new Map();
    for (const one of picked()) by.set(one.collection, [...(by.get(one.collection) ?? []), one.letter]);
    if (!by.size) throw new Error("Choose letters first.");
    const found = [];
    for (const [collection, letters] of by) found.push(...(await ask(`${dag}/${part(collection)}`, "POST", { letters }, OURS)));
    return found;
  };
  const list = failing(async () => {
    const found = await ask(dag), head = ["Letter", "Collection", "Reason", "Field", "Since"];
    const rows = found.letters.map((one) => [one.letter, one.collection, one.reason, one.path, new Date(one.at_ms).toLocaleString()]);
    const pick = (one) => el("input", { type: "checkbox", value: one.letter, "data-collection": one.collection, "aria-label": `Choose letter ${one.letter}` });
    const back = found.back.map((one) => [one.letter, one.collection, one.reason, one.path, new Date(one.at_ms).toLocaleString()]);
    const old = found.strays.map((one) => [one.key, one.collection, one.operation, one.reached, new Date(one.at_ms).toLocaleString()]);
    const act = (word, on) => el("button", { type: "button", on: { click: failing(on) } }, word);
    shown.replaceChildren();
    place.replaceChildren(
      rows.length ? table(["Choose", ...head], rows.map((row, at) => [pick(found.letters[at]), ...row]), "Dead letters") : el("p", { class: "soft" }, "There is no dead letter."),
      rows.length ? el("div", { class: "buttons" },
        act("Replay ...", () => replay(picked().map((one) => one.letter))),
        act("Show documents", async () => shown.replaceChildren(...(await documents()).map((one) => shownOf(one.collection, [one])).flat())),
        act("Save documents", async () => save(`${migration}-dead-letters.jsonl`, "application/x-ndjson", (await documents()).map((one) => JSON.stringify(one)).join("\n"))),
        act("Save this list", () => save(`${migration}-dead-letters.csv`, "text/csv", csv(head, rows)))) : "",
      ...(back.length ? [el("h3", {}, "On the way back to MongoDB"), table(head, back, "Dead letters of the way back")] : []),
      ...(old.length ? [el("h3", {}, "Stray writes"), table(["Key", "Collection", "Operation", "Reached", "Since"], old, "Stray writes")] : []),
      shown);
  });
  return [
    el("p", { class: "soft" }, `${count.toLocaleString("en")} dead letters, ${strays.toLocaleString("en")} stray writes. The list shows neither documents nor ids; whoever shows or saves documents stands in the audit trail.`),
    el("div", { class: "buttons" }, el("button", { type: "button", on: { click: list } }, "List letters")), said, place,
  ];
}
