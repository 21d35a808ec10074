// What everything on the page is drawn with: elements, numbers in words, tables, and canvases that fit their place.

/** An element with attributes and children; text stays text, whatever is in it. */
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in SVG. */
function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** Seconds, as exact as they mean something. */
function seconds(s) {
  if (s === 0) return "0 s";
  if (s < 0.001) return `${(s * 1e6).toFixed(0)} µs`;
  if (s < 1) return `${(s * 1e3).toFixed(s < 0.1 ? 1 : 0)} ms`;
  return `${s.toFixed(s < 100 ? 2 : 0)} s`;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n.toFixed(unit === 0 || n >= 100 ? 0 : n >= 10 ? 1 : 2)} ${units[unit]}`;
}

/** A number of four digits that matter. */
function short(x) {
  if (x === 0 || Number.isInteger(x) && Math.abs(x) < 1e6) return String(x);
  const size = Math.abs(x);
  return size >= 1e6 || size < 1e-3 ? x.toExponential(2) : String(Number(x.toPrecision(4)));
}

const count = (n, one, more) => `${n.toLocaleString("en")} ${n === 1 ? one : more || `${one}s`}`;

/** Colour of the k-th kind; those beyond the palette share its last. */
const colour = (k) => `var(--k${Math.min(k, 9)})`;

/** Buttons of which one is pressed; nothing where there is no choice. */
function choose(place, names, chosen, change) {
  place.replaceChildren();
  if (names.length < 2) return;
  names.forEach((name, i) => {
    place.append(el("button", {
      type: "button",
      "aria-pressed": String(i === chosen),
      onclick: () => {
        [...place.children].forEach((b, j) => b.setAttribute("aria-pressed", String(i === j)));
        change(i);
      },
    }, name));
  });
}

/**
 * A table. Columns are {title, number, show(row), sort(row)}; a column that sorts has a button in its head.
 * A total row comes last, whatever the order.
 */
function table(caption, columns, rows, total) {
  const body = el("tbody");
  const heads = columns.map((column) => el("th", { scope: "col", class: column.number ? "number" : null }));
  const cells = (row, extra) => el("tr", extra, columns.map((column, c) => {
    const shown = column.show(row);
    return el(c === 0 ? "th" : "td", { class: column.number ? "number" : null, scope: c === 0 ? "row" : null }, shown);
  }));
  const put = (list) => body.replaceChildren(...list.map((row) => cells(row)), ...(total ? [cells(total, { class: "total" })] : []));
  columns.forEach((column, c) => {
    if (!column.sort) return heads[c].append(column.title);
    heads[c].append(el("button", {
      type: "button",
      onclick: () => {
        const down = heads[c].getAttribute("aria-sort") !== "descending";
        heads.forEach((head) => head.removeAttribute("aria-sort"));
        heads[c].setAttribute("aria-sort", down ? "descending" : "ascending");
        const order = (a, b) => {
          const [x, y] = [column.sort(a), column.sort(b)];
          return typeof x === "string" ? x.localeCompare(y) : x - y;
        };
        put([...rows].sort((a, b) => (down ? order(b, a) : order(a, b))));
      },
    }, column.title));
  });
  put(rows);
  return el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body);
}

/** Bars of stacked parts, one a row: rows are {name, parts: [{k, value, title}], second: [...] | undefined}. */
function bars(label, rows, say) {
  const [left, right, width] = [110, rows.some((row) => row.second) ? 120 : 80, 1000];
  const thick = rows.length > 12 ? 15 : 22;
  const step = thick + (rows.some((row) => row.second) ? 15 : 7);
  const most = Math.max(...rows.flatMap((row) => [row.parts, row.second || []].map((parts) => sum(parts.map((p) => p.value)))), 1e-12);
  const scale = (width - left - right) / most;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${rows.length * step + 4}`, role: "img", "aria-label": label });
  rows.forEach((row, r) => {
    const y = r * step + 2;
    picture.append(svg("text", { x: left - 10, y: y + thick * 0.75, "text-anchor": "end" }, row.name));
    const lay = (parts, top, height, opacity) => {
      let x = left;
      for (const part of parts) {
        const wide = part.value * scale;
        if (wide > 0) {
          picture.append(svg("rect", { x, y: top, width: Math.max(wide - (wide > 3 ? 0.6 : 0), 0.3), height, fill: colour(part.k), opacity }, svg("title", {}, part.title)));
        }
        x += wide;
      }
      return x;
    };
    const end = lay(row.parts, y, thick, 1);
    picture.append(svg("text", { x: end + 8, y: y + thick * 0.75, class: "quiet" }, say(sum(row.parts.map((p) => p.value)))));
    if (row.second) {
      const end = lay(row.second, y + thick + 1, 6, 0.65);
      picture.append(svg("text", { x: end + 8, y: y + thick + 8, class: "quiet", style: "font-size:10px" }, `${say(sum(row.second.map((p) => p.value)))} measured`));
    }
  });
  return picture;
}

/** A canvas in the pixels of its screen; returns its context and size in CSS pixels. */
function canvas(node) {
  const [wide, high] = [node.clientWidth, node.clientHeight];
  const ratio = window.devicePixelRatio || 1;
  node.width = Math.round(wide * ratio);
  node.height = Math.round(high * ratio);
  const context = node.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, wide, high);
  context.font = "12px system-ui, sans-serif";
  return { context, wide, high };
}

/** Steps of 1, 2 or 5 that divide what there is into about so many. */
function ticks(most, about) {
  const raw = most / about;
  const power = 10 ** Math.floor(Math.log10(Math.max(raw, 1e-12)));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const list = [];
  for (let at = 0; at <= most * 1.0001; at += step) list.push(at);
  return list;
}
