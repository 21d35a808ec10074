// The page itself: reads the data and fills its sections.

const data = JSON.parse(byId("data").textContent);
const programs = data.programs.map(prepare);
const state = { program: 0, byTime: false, switches: false, template: null };
const current = () => programs[state.program];
const words = (program) => (program.block === 1 ? "one token" : `a block of ${program.block} tokens of the prompt`);
const code = (text) => el("span", { class: "site" }, text);

const chart = new LevelChart(byId("course"), byId("course-said"), data.top_level);
const detail = new LevelChart(byId("detail"), byId("detail-said"), data.top_level);
chart.pick = (run) => pickTemplate(run.section.template);

function head() {
  document.title = `${data.model} · Sotto plan`;
  byId("model").textContent = data.model;
  byId("digest").textContent = `plan ${data.digest}`;
  byId("insecure").hidden = !data.insecure;
  const decode = programs[0];
  const boots = (program) => sum(program.bootstraps.map((b) => b.count));
  const tile = (name, value, more) => el("div", {}, el("dt", {}, name), el("dd", {}, value, more ? el("small", {}, more) : null));
  const tiles = [
    tile("A token", seconds(decode.seconds), `by ${decode.cost_table}`),
    tile("Bootstraps a token", boots(decode), decode.bootstraps.map((b) => `${b.count} × ${b.kind.slots} ${b.kind.complex ? "complex" : "real"} slots`).join(", ")),
    tile("Evaluation keys", bytes(sum(data.keys.map((k) => k.bytes))), count(data.keys.length, "key")),
    tile("Server memory", bytes(data.peak_memory_bytes), `${bytes(data.plaintext_bytes)} more keep all plaintexts encoded`),
    tile("Context", count(data.capacity, "token"), `KV state ${bytes(decode.memory.states)}`),
    tile("Security", data.insecure ? "none" : `${data.security_bits} bits`, data.insecure ? "a test ring" : null),
  ];
  if (programs[1]) tiles.splice(1, 0, tile(`${programs[1].block} tokens of a prompt`, seconds(programs[1].seconds), `${boots(programs[1])} bootstraps`));
  byId("tiles").replaceChildren(...tiles);
  byId("header").replaceChildren(...data.header.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  byId("footer").textContent = `Made by sottoc ${data.compiler} from the plan alone${data.measured ? ", with times from a trace" : ""}. Nothing was fetched.`;
  choose(byId("programs"), programs.map((p) => p.course.name), 0, (i) => {
    state.program = i;
    state.template = null;
    showProgram();
  });
}

// Levels

function levels() {
  const program = current();
  const runs = program.sections.map((section) => ({ section, name: section.name, template: program.templates[section.template] }));
  byId("levels-lead").textContent = `Every ciphertext of ${words(program)}, at the height of its level, from where it is made to where it is read last. ` +
    `${count(program.templates.length, "template")} ${program.templates.length === 1 ? "makes" : "make"} ${count(runs.length, "section")}: layers that are alike run the same template.`;
  chart.show(program, runs, state.byTime);
  byId("template").replaceChildren(...program.templates.map((t, i) => el("option", { value: i }, `${t.name} (${t.runs})`)));
  const layer = program.sections[0] ? program.sections[0].template : 0;
  pickTemplate(state.template === null ? layer : state.template);
}

function pickTemplate(index) {
  const program = current();
  const template = program.templates[index];
  if (!template) return;
  state.template = index;
  byId("template").value = String(index);
  const section = program.sections.find((s) => s.template === index);
  const times = program.sections.filter((s) => s.template === index).length;
  byId("template-runs").textContent = times === 0
    ? `${count(template.ops.length, "operation")}, run ${template.runs}`
    : `${count(template.ops.length, "operation")}, run ${times === 1 ? "once" : `${times} times`} (${template.runs}), ${seconds(sum(section.seconds))} each`;
  detail.show(program, [{ section, name: template.name, template }], state.byTime);
  chart.picked = template.name;
  chart.draw();
  const place = byId("detail-table");
  place.querySelector("div").replaceChildren();
  if (place.open) operations();
}

function operations() {
  const program = current();
  const template = program.templates[state.template];
  const rows = template.ops.map((op, i) => ({ ...op, i, values: template.values.filter((v) => v.from === i) }));
  const columns = [
    { title: "#", number: true, show: (r) => r.i, sort: (r) => r.i },
    { title: "Operation", show: (r) => program.classes[r.kind], sort: (r) => program.classes[r.kind] },
    { title: "Site", show: (r) => code(program.siteNames[r.site]), sort: (r) => program.siteNames[r.site] },
    { title: "With", show: (r) => (r.entry ? code(r.entry) : "") },
    { title: "Level", number: true, show: (r) => r.values.map((v) => (v.degree > 1 ? `${v.level} (degree ${v.degree})` : v.level)).join(", ") },
    { title: "Range", number: true, show: (r) => r.values.map((v) => short(v.range)).join(", ") },
    { title: "Predicted", number: true, show: (r) => seconds(r.took), sort: (r) => r.took },
    { title: "Key switches", number: true, show: (r) => r.switches, sort: (r) => r.switches },
    { title: "Alive", number: true, show: (r) => bytes(r.alive), sort: (r) => r.alive },
  ];
  byId("detail-table").querySelector("div").replaceChildren(table(`Operations of ${template.name}`, columns, rows));
}

// Time

function time() {
  const program = current();
  const measured = measuredProgram(program);
  const by = (section) => (state.switches ? section.key_switches : section.seconds);
  const say = state.switches ? (n) => `${Math.round(n).toLocaleString("en")}` : seconds;
  const rows = program.sections.map((section, s) => ({
    name: section.name,
    parts: by(section).map((value, k) => ({ k, value, title: `${section.name}: ${program.classes[k]}, ${say(value)} in ${count(section.counts[k], "operation")}` })),
    second: measured && !state.switches ? measuredParts(program, measured.sections[s]) : undefined,
  }));
  const all = state.switches ? sum(program.sections.flatMap((s) => s.key_switches)) : program.seconds;
  byId("time-lead").textContent = `${state.switches ? `${say(all)} key switches` : seconds(all)} for ${words(program)}, by the cost table “${program.cost_table}”, where the KV state is ` +
    `${program.block === 1 ? "half full" : "empty"}. Key switches inside bootstraps are not counted.` + (measured ? " The thin bars are what the trace measured." : "");
  byId("time-bars").replaceChildren(bars(state.switches ? "Key switches by layer" : "Predicted seconds by layer", rows, say));
  const used = program.classes.map((name, k) => ({ name, k, all: sum(program.sections.map((s) => by(s)[k])) })).filter((c) => c.all > 0);
  byId("time-legend").replaceChildren(...used.map((c) => el("span", { class: "legend" }, el("i", { style: `background:${colour(c.k)}` }), `${c.name} ${say(c.all)}`)));
  const columns = [
    { title: "Layer", show: (s) => s.name },
    { title: "All", number: true, show: (s) => say(sum(by(s))), sort: (s) => sum(by(s)) },
    ...used.map((c) => ({ title: c.name, number: true, show: (s) => say(by(s)[c.k]), sort: (s) => by(s)[c.k] })),
  ];
  const add = (lists) => program.classes.map((_, k) => sum(lists.map((list) => list[k])));
  const total = { name: "all", seconds: add(program.sections.map((s) => s.seconds)), key_switches: add(program.sections.map((s) => s.key_switches)) };
  byId("time-table").replaceChildren(table(state.switches ? "Key switches" : "Predicted seconds", columns, program.sections, total));
  byId("time-measured").replaceChildren(...(measured ? measuredTable(measured) : []));
}

const measuredProgram = (program) => data.measured && data.measured.programs.find((p) => p.name === program.course.name);
const measuredParts = (program, section) => section && section.classes.map((c) => ({
  k: Math.max(program.classes.indexOf(c.class), 0), value: c.measured, title: `${section.name}: ${c.class}, ${seconds(c.measured)} measured`,
}));

/** What was measured beside what was predicted for the same operations. */
function measuredTable(measured) {
  const ratio = (c) => (c.predicted > 0 ? (c.normalized === null ? c.measured : c.normalized) / c.predicted : NaN);
  const times = (r) => (Number.isNaN(r) ? "–" : `${r.toFixed(2)} ×`);
  const columns = (first, name) => [
    { title: first, show: name, sort: name },
    { title: "Times", number: true, show: (c) => Math.round(c.count), sort: (c) => c.count },
    { title: "Measured", number: true, show: (c) => seconds(c.measured), sort: (c) => c.measured },
    { title: "At the table’s speed", number: true, show: (c) => (c.normalized === null ? "–" : seconds(c.normalized)), sort: (c) => c.normalized || 0 },
    { title: "Predicted", number: true, show: (c) => seconds(c.predicted), sort: (c) => c.predicted },
    { title: "Ratio", number: true, show: (c) => times(ratio(c)), sort: (c) => ratio(c) || 0 },
  ];
  const stick = data.measured.yardstick;
  const said = `The mean of ${count(measured.runs, "run")}, ${seconds(measured.seconds)} each.` +
    (stick ? ` A transform took ${(stick * 1e3).toFixed(4)} ms, and ${(data.measured.table_yardstick * 1e3).toFixed(4)} ms when the prices were measured.` : "");
  const rows = measured.sections.map((section) => ({ ...section.total, section: section.name }));
  return [
    el("h3", {}, "Measured and predicted"),
    el("p", { class: "quiet" }, said),
    el("div", { class: "scroll" }, table("By kind of operation", columns("Operation", (c) => c.class), measured.classes, measured.total)),
    el("div", { class: "scroll" }, table("By layer", columns("Layer", (c) => c.section || "all"), rows, measured.total)),
  ];
}

// Ranges

/** How much of a bound what was seen takes, from its middle. */
function used(range) {
  const middle = (range.bound[0] + range.bound[1]) / 2;
  const half = (range.bound[1] - range.bound[0]) / 2;
  return half > 0 ? Math.max(Math.abs(range.seen[0] - middle), Math.abs(range.seen[1] - middle)) / half : 1;
}

function layersOf([first, many], site) {
  if (!site.includes("{i}")) return "";
  return many > 1 ? `${first} to ${first + many - 1}` : String(first);
}

function ranges() {
  const rows = data.ranges.map((r) => ({ ...r, used: used(r) }));
  const track = (r) => {
    const [lo, hi] = r.bound;
    const part = (x) => Math.min(100, Math.max(0, ((x - lo) / Math.max(hi - lo, 1e-300)) * 100));
    const [from, to] = r.seen.map(part);
    return el("span", { class: "track" }, el("i", { class: r.used > 1 ? "over" : null, style: `left:${from}%;width:${to - from}%` }));
  };
  const columns = [
    { title: "Site", show: (r) => code(r.site), sort: (r) => r.site },
    { title: "Layers", number: true, show: (r) => layersOf(r.layers, r.site), sort: (r) => r.layers[0] },
    { title: "Seen within the bound", show: track },
    { title: "Used", number: true, show: (r) => el("span", { class: r.used > 1 ? "over" : null }, `${(r.used * 100).toFixed(0)} %`), sort: (r) => r.used },
    { title: "Seen", number: true, show: (r) => r.seen.map(short).join(" to ") },
    { title: "Bound", number: true, show: (r) => r.bound.map(short).join(" to ") },
  ];
  const show = () => {
    const asked = byId("ranges-find").value.trim().toLowerCase();
    const found = rows.filter((r) => r.site.toLowerCase().includes(asked));
    byId("ranges-count").textContent = `${found.length} of ${rows.length}`;
    byId("ranges-table").replaceChildren(table("Ranges over the calibration data", columns, found));
  };
  byId("ranges-find").addEventListener("input", show);
  show();
}

// Memory

function memory() {
  const program = current();
  const m = program.memory;
  const parts = [
    ["evaluation keys", m.keys], ["KV state at capacity", m.states], ["bootstraps’ transforms", m.transforms],
    ["ciphertexts and buffers, at most", m.live], ["the largest encoded matrix", m.matrix], ["pool of freed buffers", m.pool],
  ];
  const peak = sum(parts.map(([, n]) => n));
  byId("memory-lead").textContent = `The server needs ${bytes(peak)} for ${words(program)}; what more it has keeps plaintexts encoded, up to ${bytes(m.plaintexts)}.`;
  const rows = parts.map(([name, value], k) => ({ name, k, value }));
  const columns = [
    { title: "What", show: (r) => (r.k === undefined ? r.name : el("span", { class: "legend" }, el("i", { style: `background:${colour(r.k)}` }), r.name)) },
    { title: "Bytes", number: true, show: (r) => bytes(r.value) },
    { title: "Share", number: true, show: (r) => `${((100 * r.value) / peak).toFixed(1)} %` },
  ];
  byId("memory-parts").replaceChildren(
    bars("What the memory is made of", [{ name: "at the peak", parts: rows.map((r) => ({ k: r.k, value: r.value, title: `${r.name}: ${bytes(r.value)}` })) }], bytes),
    el("div", { class: "scroll" }, table("", columns, rows, { name: "all", value: peak })),
  );
  alive();
}

function alive() {
  const node = byId("alive");
  node.setAttribute("aria-label", "Bytes of ciphertexts and working buffers along the run");
  byId("alive-said").textContent = drawAlive(node, current(), state.byTime);
}

// Keys

function keys() {
  const all = sum(data.keys.map((k) => k.bytes));
  byId("keys-lead").textContent = `${count(data.keys.length, "key")} of ${bytes(all)} together, each made up to the highest level that uses it.`;
  const columns = [
    { title: "Key", show: (k) => k.name, sort: (k) => k.name },
    { title: "Galois element", number: true, show: (k) => (k.element === null ? "" : k.element), sort: (k) => k.element || 0 },
    { title: "Level", number: true, show: (k) => k.level, sort: (k) => k.level },
    { title: "Bytes", number: true, show: (k) => bytes(k.bytes), sort: (k) => k.bytes },
  ];
  const levels = [...new Set(data.keys.map((k) => k.level))].sort((a, b) => b - a);
  const rows = levels.map((level) => {
    const here = data.keys.filter((k) => k.level === level);
    const value = sum(here.map((k) => k.bytes));
    return { name: `level ${level}`, parts: [{ k: 1, value, title: `${count(here.length, "key")} up to level ${level}: ${bytes(value)}` }] };
  });
  byId("keys-levels").replaceChildren(bars("Bytes of keys by their highest level", rows, bytes));
  byId("keys-table").replaceChildren(table("Every key", columns, data.keys));
}

// Choices

function choices() {
  const program = current();
  const { decisions } = program;
  byId("choices-lead").textContent = `What the search took at each site, and how much more the best program with each alternative would cost. ` +
    `The search was ${program.saturated ? "exhausted" : "stopped by its budget"}.`;
  const most = Math.max(1, ...decisions.flatMap((d) => d.rejected.map((r) => r.extra_nanos)));
  byId("choices-list").replaceChildren(...decisions.map((d) => {
    const each = d.site.includes("{i}") ? " a layer" : "";
    const rejected = d.rejected.map((r) => el("li", {},
      el("span", {}, r.what, el("span", { class: "track" }, el("i", { style: `width:${(100 * r.extra_nanos) / most}%` }))),
      el("span", { class: "extra" }, `+${seconds(r.extra_nanos / 1e9)}${each}`)));
    return el("div", { class: "choice" }, code(d.site), el("div", {},
      el("span", { class: "taken" }, d.chosen),
      rejected.length ? el("ul", {}, rejected) : el("p", { class: "quiet" }, "nothing else was weighed")));
  }));
  if (!decisions.length) byId("choices-list").replaceChildren(el("p", { class: "quiet" }, "The plan has no record of choices."));
}

// Sites

function sites() {
  const most = Math.max(...data.sites.map((s) => s.cost.seconds), 1e-12);
  const operations = (s) => el("details", {}, el("summary", {}, count(s.cost.count, "operation")),
    el("ul", {}, s.operations.map((o) => el("li", {}, `${o.count} ${o.op} at level ${o.level} in ${o.template}`))));
  const columns = [
    { title: "Site", show: (s) => code(s.cost.name), sort: (s) => s.cost.name },
    { title: "A token", number: true, show: (s) => seconds(s.cost.seconds), sort: (s) => s.cost.seconds },
    { title: "Beside the dearest", show: (s) => el("span", { class: "track" }, el("i", { style: `left:0;width:${(100 * s.cost.seconds) / most}%` })) },
    { title: "Operations", show: operations, sort: (s) => s.cost.count },
  ];
  const rows = [...data.sites].sort((a, b) => b.cost.seconds - a.cost.seconds);
  byId("sites-table").replaceChildren(table("Predicted cost of every site", columns, rows));
  const fits = [
    { title: "Site", show: (a) => code(a.site), sort: (a) => a.site },
    { title: "Function", show: (a) => a.function },
    { title: "Interval", number: true, show: (a) => a.interval.map(short).join(" to ") },
    { title: "Degree", number: true, show: (a) => a.degree, sort: (a) => a.degree },
    { title: "Largest error", number: true, show: (a) => a.error.toExponential(1), sort: (a) => a.error },
  ];
  byId("approximations").replaceChildren(table("Polynomials that stand for functions", fits, data.approximations));
}

function showProgram() {
  levels();
  time();
  memory();
  choices();
}

function charts() {
  chart.draw();
  detail.draw();
  alive();
}

head();
choose(byId("axis"), ["by operation", "by predicted time"], 0, (i) => {
  state.byTime = i === 1;
  levels();
  alive();
});
choose(byId("measure"), ["seconds", "key switches"], 0, (i) => {
  state.switches = i === 1;
  time();
});
byId("template").addEventListener("change", (event) => pickTemplate(Number(event.target.value)));
byId("detail-table").addEventListener("toggle", () => {
  if (byId("detail-table").open) operations();
});
showProgram();
ranges();
keys();
sites();
window.addEventListener("resize", charts);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", charts);
