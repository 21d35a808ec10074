// Levels along a run: ciphertexts as lines over time at the height of their level, bootstraps as arrows.

/** Rows of the data by name: what `OpRow` and `ValueRow` of the compiler say. */
const opOf = ([kind, site, took, switches, alive, ciphertexts, entry]) => ({ kind, site, took, switches, alive, ciphertexts, entry });
const valueOf = ([level, degree, from, to, range]) => ({ level, degree, from, to, range });

/** A program made ready to draw: every template's operations with their places on either axis. */
function prepare(program) {
  const templates = program.course.templates.map((template) => {
    const ops = template.ops.map(opOf);
    const values = lanes(template.values.map(valueOf));
    return { ...template, ops, values };
  });
  const boot = program.course.classes.indexOf("bootstrap");
  const loop = program.course.classes.indexOf("sum_groups");
  return { ...program, templates, boot, loop, sections: program.course.sections, classes: program.course.classes, siteNames: program.course.sites };
}

/** Gives ciphertexts that live at one level at once a lane each, so that none is drawn over another. */
function lanes(values) {
  const ends = new Map();
  for (const value of [...values].sort((a, b) => a.from - b.from)) {
    const taken = ends.get(value.level) || ends.set(value.level, []).get(value.level);
    const free = taken.findIndex((end) => end <= value.from);
    value.lane = free < 0 ? taken.length : free;
    taken[value.lane] = value.to;
  }
  return values;
}

/** The part of a layer that a site belongs to: `mlp` of `layers.{i}.mlp.up_proj`. */
const partOf = (site) => site.replace(/^layers\.\{i\}\./, "").split(".")[0];

/**
 * Where a template's operations begin, by time or by number; the last entry is its end. A loop takes what is left of the section's
 * seconds when its other operations are paid.
 */
function places(program, template, section, byTime) {
  if (!byTime) return template.ops.map((_, i) => i).concat(template.ops.length);
  const own = template.ops.map((op) => (op.kind === program.loop ? 0 : op.took));
  const loops = template.ops.filter((op) => op.kind === program.loop).length;
  const body = section ? Math.max(sum(section.seconds) - sum(own), 0) : 0;
  let at = 0;
  const starts = template.ops.map((op, i) => {
    const start = at;
    at += own[i] + (op.kind === program.loop ? body / loops : 0);
    return start;
  });
  return starts.concat(at);
}

/** A chart of levels over one or several runs of templates. */
class LevelChart {
  constructor(node, said, top) {
    Object.assign(this, { node, said, top, runs: [], cursor: null, picked: null });
    node.addEventListener("pointermove", (event) => this.point(event.offsetX));
    node.addEventListener("pointerleave", () => this.rest());
    node.addEventListener("blur", () => this.rest());
    node.addEventListener("keydown", (event) => this.key(event));
    node.addEventListener("click", (event) => {
      this.point(event.offsetX);
      if (this.cursor && this.pick) this.pick(this.cursor.run);
    });
  }

  /** Shows runs: {template, section, name} of a program. */
  show(program, runs, byTime) {
    let at = 0;
    this.program = program;
    this.byTime = byTime;
    this.runs = runs.map((run) => {
      const starts = places(program, run.template, run.section, byTime);
      const placed = { ...run, at, starts, length: starts[starts.length - 1] };
      at += placed.length;
      return placed;
    });
    this.length = Math.max(at, 1e-9);
    this.cursor = null;
    this.node.setAttribute("aria-label", this.label());
    this.rest();
  }

  label() {
    const boots = sum(this.runs.map((run) => run.template.ops.filter((op) => op.kind === this.program.boot).length));
    return `Levels of ciphertexts over ${count(this.runs.length, "section")} with ${count(boots, "bootstrap")}; arrow keys go through the operations`;
  }

  x(at) {
    return this.left + (at / this.length) * (this.wide - this.left - 12);
  }

  y(level) {
    return this.head + ((this.top - level) / Math.max(this.top, 1)) * (this.high - this.head - 26);
  }

  draw() {
    const { context, wide, high } = canvas(this.node);
    Object.assign(this, { wide, high, left: 34, head: this.runs.length === 1 ? 34 : 26 });
    this.frame(context);
    for (const run of this.runs) this.run(context, run);
    this.mark(context);
  }

  frame(context) {
    context.textBaseline = "middle";
    context.strokeStyle = css("--faint");
    for (const level of ticks(this.top, 5)) {
      const y = Math.round(this.y(level)) + 0.5;
      context.beginPath();
      context.moveTo(this.left, y);
      context.lineTo(this.wide - 12, y);
      context.stroke();
      context.fillStyle = css("--quiet");
      context.textAlign = "right";
      context.fillText(String(level), this.left - 8, y);
    }
    context.textAlign = "center";
    const unit = (at) => (this.byTime ? seconds(at) : String(Math.round(at)));
    for (const at of ticks(this.length, Math.min(8, this.wide / 110))) {
      if (this.x(at) < this.wide - 40) context.fillText(unit(at), this.x(at), this.high - 9);
    }
    let named = -Infinity;
    if (this.runs.length === 1) return this.parts(context, this.runs[0]);
    this.runs.forEach((run, r) => {
      const [from, to] = [this.x(run.at), this.x(run.at + run.length)];
      if (r % 2 === 1) {
        context.fillStyle = css("--faint");
        context.globalAlpha = 0.55;
        context.fillRect(from, this.head - 6, to - from, this.high - this.head - 18);
        context.globalAlpha = 1;
      }
      const words = this.runs.length > 8 ? run.name.replace("layer ", "") : run.name;
      const half = context.measureText(words).width / 2;
      const middle = (from + to) / 2;
      if (middle - half > named + 6 && (to - from > 2 * half || this.runs.length > 8)) {
        context.fillStyle = css("--quiet");
        context.fillText(words, middle, 8);
        named = middle + half;
      }
    });
  }

  /** Bands of what a single template computes, part by part. */
  parts(context, run) {
    const names = run.template.ops.map((op) => partOf(this.program.siteNames[op.site]));
    const rows = [8, 21];
    const ends = [-Infinity, -Infinity];
    let begin = 0;
    let band = 0;
    names.forEach((name, i) => {
      if (i + 1 < names.length && names[i + 1] === name) return;
      const [from, to] = [this.x(run.starts[begin]), this.x(run.starts[i + 1])];
      if (band % 2 === 1) {
        context.fillStyle = css("--faint");
        context.globalAlpha = 0.55;
        context.fillRect(from, this.head - 6, to - from, this.high - this.head - 18);
        context.globalAlpha = 1;
      }
      const half = context.measureText(name).width / 2;
      const middle = Math.min(Math.max((from + to) / 2, this.left + half), this.wide - half - 4);
      const row = ends.findIndex((end) => middle - half > end + 8);
      if (row >= 0 && (to - from > 14 || half < 30)) {
        context.fillStyle = css("--quiet");
        context.fillText(name, middle, rows[row]);
        ends[row] = middle + half;
      }
      begin = i + 1;
      band += 1;
    });
  }

  /** The lives of a run's ciphertexts, and its bootstraps. */
  run(context, run) {
    const { ops, values } = run.template;
    const start = (op) => this.x(run.at + run.starts[Math.max(0, Math.min(op, ops.length))]);
    const end = (op) => this.x(run.at + run.starts[Math.max(0, Math.min(op + 1, ops.length))]);
    context.strokeStyle = css("--life");
    context.lineWidth = this.runs.length > 8 ? 1.2 : 2;
    const lane = this.runs.length > 8 ? 0 : 3;
    for (const value of values) {
      const [from, to] = [value.from < 0 ? start(0) : end(value.from), end(value.to)];
      context.beginPath();
      const y = this.y(value.level) - lane * Math.min(value.lane, 4);
      context.moveTo(from, y);
      context.lineTo(Math.max(to, from + 1.5), y);
      context.stroke();
    }
    const made = new Map(values.filter((value) => value.from >= 0).map((value) => [value.from, value.level]));
    const size = this.runs.length > 8 ? 4 : 6;
    ops.forEach((op, i) => {
      if (op.kind !== this.program.boot) return;
      const [x, y] = [end(i), this.y(made.get(i) || 0)];
      context.strokeStyle = context.fillStyle = css("--boot");
      context.lineWidth = 1.2;
      context.beginPath();
      context.moveTo(x, this.y(0));
      context.lineTo(x, y + size);
      context.globalAlpha = this.runs.length > 8 ? 0.3 : 0.8;
      context.stroke();
      context.globalAlpha = 1;
      context.beginPath();
      context.moveTo(x, y - size * 0.6);
      context.lineTo(x - size, y + size);
      context.lineTo(x + size, y + size);
      context.fill();
    });
    if (this.picked && this.picked === run.template.name) {
      context.strokeStyle = css("--accent");
      context.lineWidth = 2;
      const [from, to] = [this.x(run.at), this.x(run.at + run.length)];
      context.strokeRect(from + 1, this.head - 7, Math.max(to - from - 2, 2), this.high - this.head - 16);
    }
  }

  mark(context) {
    if (!this.cursor) return;
    const { run, op } = this.cursor;
    const [from, to] = [this.x(run.at + run.starts[op]), this.x(run.at + run.starts[op + 1])];
    context.fillStyle = css("--accent");
    context.globalAlpha = 0.22;
    context.fillRect(from, this.head - 6, Math.max(to - from, 2), this.high - this.head - 18);
    context.globalAlpha = 1;
  }

  point(x) {
    const at = ((x - this.left) / (this.wide - this.left - 12)) * this.length;
    const run = this.runs.find((run) => at >= run.at && at < run.at + run.length);
    if (!run) return this.rest();
    const next = run.starts.findIndex((start) => run.at + start > at);
    this.move(run, Math.max(0, (next < 0 ? run.template.ops.length : next) - 1));
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter" && this.cursor && this.pick) return this.pick(this.cursor.run);
    if (!step || !this.runs.length) return;
    event.preventDefault();
    if (!this.cursor) return this.move(this.runs[0], 0);
    let r = this.runs.indexOf(this.cursor.run);
    let op = this.cursor.op + step;
    if (op >= this.runs[r].template.ops.length) [r, op] = [r + 1, 0];
    if (op < 0) [r, op] = [r - 1, Infinity];
    const run = this.runs[r];
    if (run) this.move(run, Math.min(op, run.template.ops.length - 1));
  }

  move(run, op) {
    this.cursor = { run, op };
    this.said.textContent = this.tell(run, op);
    this.draw();
  }

  rest() {
    this.cursor = null;
    this.said.textContent = this.pick
      ? "Point at an operation, or use the arrow keys; click a section to see its template below."
      : "Point at an operation, or use the arrow keys.";
    this.draw();
  }

  /** An operation in words. */
  tell(run, index) {
    const { program } = this;
    const op = run.template.ops[index];
    const levels = run.template.values.filter((value) => value.from === index).map((value) => value.level);
    const read = run.template.values.filter((value) => value.to === index && value.from !== index).map((value) => value.level);
    const parts = [
      `${run.name}, operation ${index}: ${program.classes[op.kind]}${op.entry ? ` with ${op.entry}` : ""}`,
      program.siteNames[op.site],
      read.length && levels.length && read[0] !== levels[0] ? `last reads level ${read[0]}, gives ${levels.join(", ")}` : levels.length ? `gives level ${levels.join(", ")}` : null,
      op.kind === program.loop ? "a loop over the groups of cached tokens" : `${seconds(op.took)} predicted`,
      op.switches ? count(op.switches, "key switch", "key switches") : null,
      `${count(op.ciphertexts, "ciphertext")} alive, ${bytes(op.alive)}`,
    ];
    return parts.filter(Boolean).join(" · ");
  }
}

/** Bytes alive over a run of the program. */
function drawAlive(node, program, byTime) {
  const { context, wide, high } = canvas(node);
  const [left, head] = [70, 12];
  const runs = [];
  let length = 0;
  for (const section of program.sections) {
    const template = program.templates[section.template];
    const starts = places(program, template, section, byTime);
    runs.push({ at: length, starts, template, section });
    length += starts[starts.length - 1];
  }
  const most = Math.max(...runs.flatMap((run) => run.template.ops.map((op) => op.alive)), 1);
  const x = (at) => left + (at / Math.max(length, 1e-9)) * (wide - left - 12);
  const y = (n) => high - 24 - (n / most) * (high - 24 - head);
  context.textBaseline = "middle";
  const unit = 2 ** Math.floor(Math.log2(Math.max(most / 4, 1)));
  for (let n = 0; n <= most; n += unit) {
    context.strokeStyle = css("--faint");
    context.beginPath();
    context.moveTo(left, y(n));
    context.lineTo(wide - 12, y(n));
    context.stroke();
    context.fillStyle = css("--quiet");
    context.textAlign = "right";
    context.fillText(bytes(n), left - 8, y(n));
  }
  context.textAlign = "center";
  for (const at of ticks(length, Math.min(8, wide / 110))) {
    if (x(at) < wide - 40) context.fillText(byTime ? seconds(at) : String(Math.round(at)), x(at), high - 9);
  }
  context.beginPath();
  context.moveTo(x(0), y(0));
  let peak = { alive: -1 };
  for (const run of runs) {
    run.template.ops.forEach((op, i) => {
      const [from, to] = [x(run.at + run.starts[i]), x(run.at + run.starts[i + 1])];
      context.lineTo(from, y(op.alive));
      context.lineTo(to, y(op.alive));
      if (op.alive > peak.alive) peak = { alive: op.alive, op, run, middle: (from + to) / 2 };
    });
  }
  context.lineTo(x(length), y(0));
  context.closePath();
  context.fillStyle = css("--life");
  context.globalAlpha = 0.25;
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = css("--life");
  context.lineWidth = 1.2;
  context.stroke();
  if (!peak.op) return "";
  context.fillStyle = css("--boot");
  context.beginPath();
  context.arc(peak.middle, y(peak.alive), 4, 0, 7);
  context.fill();
  return `Most at ${peak.run.section.name}, ${program.classes[peak.op.kind]} at ${program.siteNames[peak.op.site]}: ${bytes(peak.alive)} in ${count(peak.op.ciphertexts, "ciphertext")} and the operation's own buffers.`;
}
