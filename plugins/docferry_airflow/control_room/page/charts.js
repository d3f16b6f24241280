// Charts over time, as SVG. Each says in words what it shows, for who cannot see it.
import { el } from "./forms.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 300, HIGH = 80, GAPS = 2.5; // of viewBox; a gap is longer than so many steps
const STEP = { fine: 300, coarse: 3600 };

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Runs of points without a gap: what is not known is not drawn.
function runsOf(points, at, step) {
  const runs = [];
  let last = null;
  for (const point of points) {
    if (point[at] < 0) continue;
    if (last === null || point[0] - last > GAPS * step) runs.push([]);
    runs.at(-1).push([point[0], point[at]]);
    last = point[0];
  }
  return runs;
}

const time = (s, step) => (step === STEP.fine ? new Date(s * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : new Date(s * 1000).toLocaleDateString());

// One chart: `lines` are [name, index of the value in a point]; `said` writes a value with its unit.
function chart(title, points, step, lines, said) {
  const drawn = lines.map(([name, at]) => [name, runsOf(points, at, step)]);
  const all = drawn.flatMap(([, runs]) => runs.flat());
  if (!all.length) return el("figure", { class: "card" }, el("figcaption", {}, title), el("p", { class: "soft" }, "Nothing is known of this time."));
  const most = Math.max(1, ...all.map((one) => one[1])), from = Math.min(...all.map((one) => one[0])), to = Math.max(from + step, ...all.map((one) => one[0]));
  const place = ([at, value]) => `${((WIDE * (at - from)) / (to - from)).toFixed(1)},${(HIGH - 2 - ((HIGH - 4) * value) / most).toFixed(1)}`;
  const now = drawn.map(([name, runs]) => `${name} ${runs.length ? said(runs.at(-1).at(-1)[1]) : "not known"}`).join(", ");
  const paths = drawn.flatMap(([, runs], number) => runs.map((run) => svg("polyline", { class: `line${number}`, points: (run.length < 2 ? [run[0], [run[0][0] + step, run[0][1]]] : run).map(place).join(" ") })));
  const label = `${title}, from ${time(from, step)} to ${time(to, step)}: at most ${said(most)}; last: ${now}`;
  return el("figure", { class: "card" }, el("figcaption", {}, title),
    svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": label, class: "chart" }, ...paths),
    el("p", { class: "axis soft" }, el("span", {}, time(from, step)), el("span", {}, `at most ${said(most)}`), el("span", {}, time(to, step))),
    el("p", { class: "soft" }, drawn.map(([name, runs], number) => el("span", { class: "key" }, el("span", { class: `dot line${number}`, "aria-hidden": "true" }), `${name} ${runs.length ? said(runs.at(-1).at(-1)[1]) : "not known"}`))));
}

const long = (s) => (s >= 7200 ? `${Math.round(s / 360) / 10} h` : s >= 120 ? `${Math.round(s / 60)} min` : `${s} s`);
const usd = (value) => `${value.toFixed(value < 10 ? 3 : 2)} USD`;

// All charts of a migration's history, over the last day (`fine`) or thirty (`coarse`).
export function chartsOf(history, span) {
  const step = STEP[span], of = (name) => history.series[name]?.[span] ?? [];
  const { read_million: read, write_million: write, book } = history.prices;
  const money = of("spent").map(([at, reads, writes]) => [at, (reads * read + writes * write) / 1e6]);
  const forecast = of("forecast").at(-1);
  const made = [
    chart("Replication to DynamoDB: lag", of("forward"), step, [["behind", 1]], long),
    chart("Oplog: its position is held for", of("forward"), step, [["left", 2]], long),
    chart("Latency of reads, p95", of("reads"), step, [["MongoDB", 1], ["DynamoDB", 2]], (ms) => `${ms} ms`),
    chart("Consumed by docferry's flows", money, step, [["so far", 1]], usd),
  ];
  if (of("reverse").length) made.push(
    chart("Replication to MongoDB: lag", of("reverse"), step, [["behind", 1]], long),
    chart("Streams: their records are held for", of("reverse"), step, [["left", 2]], long));
  const beside = forecast ? `The loads have consumed ${usd((forecast[1] * write) / 1e6)}; ${usd((forecast[2] * write) / 1e6)} were forecast for the same work. ` : "";
  return el("div", {}, el("div", { class: "charts" }, made), el("p", { class: "soft" }, `${beside}Prices: ${book}.`));
}
