// <task-graph src="/api/v1/pipelines/p/graph" states="/api/v1/runs/7">: what comes after what, as boxes and curves in an
// SVG that can be dragged and zoomed. Or src="/api/v1/streams/p.s", or with {nodes, edges} in a script element.
//
// Small graphs are laid out by dagre in a worker. Large ones get their columns at once, by the longest way to each node,
// and stay so: that is readable with 1,000 nodes and takes milliseconds. Layouts are kept by the graph's shape.

import { STATES, spoken } from "./colours.js";

/**
 * @typedef {{id: string, label?: string, kind?: string, state?: string, note?: string, rate?: string}} Node `rate`: below it
 * @typedef {{nodes: Node[], edges: [string, string, string?][]}} Graph  An edge may have a kind, which is its class.
 * @typedef {{at: Record<string, [number, number]>, width: number, height: number}} Layout
 */

const TALL = 30, MOST = 300, SMALLEST = 0.6, TALLEST = 520, NS = "http://www.w3.org/2000/svg";

export class TaskGraph extends HTMLElement {
  /** @type {Graph | null} */ #graph = null;
  /** @type {Map<string, SVGGElement>} */ #boxes = new Map();
  /** @type {SVGPathElement[]} */ #curves = [];
  /** @type {Layout | null} */ #layout = null;
  #svg = /** @type {SVGSVGElement} */ (document.createElementNS(NS, "svg"));
  #inner = /** @type {SVGGElement} */ (document.createElementNS(NS, "g"));
  #shape = "";
  #zoom = 1;
  #x = 0;
  #y = 0;
  /** @type {Set<string> | null} */ #lit = null;

  connectedCallback() {
    if (this.#svg.isConnected) return;
    this.#svg.setAttribute("role", "group");
    this.#svg.setAttribute("aria-label", "Graph of tasks. Tab moves from task to task, Enter opens one.");
    this.#svg.append(this.#inner);
    this.append(this.#svg);
    this.#svg.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.#svg.addEventListener("pointerdown", (event) => this.#drag(event));
    const given = this.querySelector('script[type="application/json"]');
    if (given) void this.show(JSON.parse(given.textContent ?? "null"));
    else void this.refresh();
  }

  /** Ask the server again; colours change in place, and the view stays. */
  async refresh() {
    const from = this.getAttribute("src");
    if (!from) return;
    const run = this.getAttribute("states"), headers = { Accept: "application/json" };
    const [answer, states] = await Promise.all([fetch(from, { headers }), run ? fetch(run, { headers }) : null]);
    if (!answer.ok) return;
    const found = await answer.json();
    await this.show(found.edges ? flowing(found) : drawn(found, states?.ok ? (await states.json()).tasks : []));
  }

  /** @param {Graph} graph */
  async show(graph) {
    const shape = JSON.stringify([graph.nodes.map((node) => node.id), graph.edges]);
    this.#graph = graph;
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#layout = await laidOut(graph, shape);
      if (shape !== this.#shape) return;
      this.fit(); // before there are elements: then reading the width costs nothing
      this.#draw();
      const focus = this.getAttribute("data-focus");
      if (focus !== null && graph.nodes.some((node) => node.id === focus)) this.focusOn(focus);
    }
    for (const node of graph.nodes) {
      const box = this.#boxes.get(node.id);
      if (!box) continue;
      box.setAttribute("class", `node ${node.state ?? ""} ${node.kind ?? ""}`);
      const rate = box.querySelector(".rate");
      if (rate) rate.textContent = node.rate ?? "";
      box.setAttribute("aria-label", `${node.label ?? node.id}${node.state ? `, ${spoken(node.state)}` : ""}`);
    }
    this.#light();
  }

  /** Show all of it. */
  fit() {
    const layout = this.#layout;
    if (!layout) return;
    // Never smaller than can be read: what does not fit is dragged into sight.
    const wide = this.#svg.clientWidth || 800;
    this.#zoom = Math.max(SMALLEST, Math.min(1, wide / layout.width, TALLEST / layout.height));
    const tall = Math.max(140, Math.min(TALLEST, layout.height * this.#zoom));
    this.#svg.style.height = `${tall}px`;
    this.#x = Math.max(0, (wide - layout.width * this.#zoom) / 2);
    this.#y = Math.max(0, (tall - layout.height * this.#zoom) / 2);
    this.#move();
  }

  /**
   * Go to a node, and dim what is neither above nor below it; null: dim nothing.
   * @param {string | null} id
   */
  focusOn(id) {
    const graph = this.#graph, layout = this.#layout;
    if (!graph || !layout) return;
    this.#lit = id === null ? null : related(graph, id);
    if (id !== null && layout.at[id]) {
      this.#zoom = Math.max(this.#zoom, 0.9);
      this.#x = this.#svg.clientWidth / 2 - layout.at[id][0] * this.#zoom;
      this.#y = this.#svg.clientHeight / 2 - layout.at[id][1] * this.#zoom;
      this.#move();
    }
    this.#light();
  }

  #light() {
    const graph = this.#graph, lit = this.#lit;
    if (!graph) return;
    for (const [id, box] of this.#boxes) box.classList.toggle("dim", lit !== null && !lit.has(id));
    graph.edges.forEach(([from, to], at) => {
      this.#curves[at]?.classList.toggle("dim", lit !== null && !(lit.has(from) && lit.has(to)));
    });
  }

  #draw() {
    const graph = this.#graph, layout = this.#layout;
    if (!graph || !layout) return;
    const parts = document.createDocumentFragment();
    /** @type {(() => void)[]} */ const unnamed = [];
    this.#boxes.clear();
    this.#curves = graph.edges.map(([from, to, kind]) => {
      const curve = /** @type {SVGPathElement} */ (document.createElementNS(NS, "path"));
      const [x, y] = layout.at[from], [u, v] = layout.at[to];
      const a = x + wide(label(graph, from)) / 2, b = u - wide(label(graph, to)) / 2, middle = (a + b) / 2;
      curve.setAttribute("d", `M${a},${y}C${middle},${y} ${middle},${v} ${b},${v}`);
      curve.setAttribute("class", kind ? `edge ${kind}` : "edge");
      parts.append(curve);
      return curve;
    });
    for (const node of graph.nodes) {
      const box = /** @type {SVGGElement} */ (document.createElementNS(NS, "g"));
      const [x, y] = layout.at[node.id], text = node.label ?? node.id, width = wide(text);
      box.setAttribute("transform", `translate(${x - width / 2},${y - TALL / 2})`);
      box.setAttribute("tabindex", "0");
      box.setAttribute("role", "button");
      const shape = document.createElementNS(NS, "rect"), side = document.createElementNS(NS, "rect");
      for (const [name, value] of Object.entries({ width, height: TALL, rx: 6, class: "box" })) {
        shape.setAttribute(name, String(value));
      }
      for (const [name, value] of Object.entries({ width: 5, height: TALL, rx: 2.5, class: "mark" })) {
        side.setAttribute(name, String(value));
      }
      box.append(shape, side);
      if (node.rate !== undefined) {
        const rate = document.createElementNS(NS, "text");
        for (const [name, value] of Object.entries({ x: 4, y: TALL + 12, class: "rate" })) rate.setAttribute(name, String(value));
        box.append(rate);
      }
      const named = () => {
        const words = document.createElementNS(NS, "text"), title = document.createElementNS(NS, "title");
        words.setAttribute("x", "14");
        words.setAttribute("y", String(TALL / 2 + 4.5));
        words.textContent = text.length > 34 ? `${text.slice(0, 33)}…` : text;
        title.textContent = node.note ? `${text}\n${node.note}` : text;
        box.append(words, title);
      };
      if (graph.nodes.length <= MOST || this.#inSight(x, y)) named();
      else unnamed.push(named);
      const chosen = () => {
        this.focusOn(node.id);
        this.dispatchEvent(new CustomEvent("tidemill:selected", { bubbles: true, detail: { task: node.id, run: null } }));
      };
      box.addEventListener("click", chosen);
      box.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); chosen(); }
      });
      this.#boxes.set(node.id, box);
      parts.append(box);
    }
    this.#inner.replaceChildren(parts);
    // Texts are what takes long to lay out: those that are out of sight come when there is nothing else to do.
    const more = () => {
      for (const named of unnamed.splice(0, 100)) named();
      if (unnamed.length && layout === this.#layout) setTimeout(more, 50);
    };
    if (unnamed.length) setTimeout(more, 200);
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  #inSight(x, y) {
    const across = x * this.#zoom + this.#x, down = y * this.#zoom + this.#y;
    return across > -200 && across < innerWidth && down > -TALL && down < TALLEST + TALL;
  }

  #move() {
    this.#inner.setAttribute("transform", `translate(${this.#x},${this.#y}) scale(${this.#zoom})`);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey && !event.shiftKey && Math.abs(event.deltaY) < 4) return;
    event.preventDefault();
    const box = this.#svg.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const zoom = Math.min(2.5, Math.max(0.08, this.#zoom * Math.exp(-event.deltaY / 400)));
    this.#x = x - ((x - this.#x) * zoom) / this.#zoom;
    this.#y = y - ((y - this.#y) * zoom) / this.#zoom;
    this.#zoom = zoom;
    this.#move();
  }

  /** @param {PointerEvent} event */
  #drag(event) {
    if (event.target instanceof Element && event.target.closest(".node")) return;
    const [x, y] = [event.clientX - this.#x, event.clientY - this.#y];
    this.#svg.setPointerCapture(event.pointerId);
    /** @param {PointerEvent} moved */
    const follow = (moved) => { this.#x = moved.clientX - x; this.#y = moved.clientY - y; this.#move(); };
    this.#svg.addEventListener("pointermove", follow);
    this.#svg.addEventListener("pointerup", (up) => {
      this.#svg.removeEventListener("pointermove", follow);
      if (Math.hypot(up.clientX - event.clientX, up.clientY - event.clientY) < 4) this.focusOn(null);
    }, { once: true });
  }
}

/**
 * The graph of an answer of the API, with the worst state of each task's instances.
 * @param {{nodes: {id: string, upstream: string[], operator: string, doc: string}[]}} answer
 * @param {{task: string, state: string}[]} tasks
 * @returns {Graph}
 */
function drawn(answer, tasks) {
  /** @type {Map<string, string>} */ const states = new Map();
  for (const { task, state } of tasks) {
    const known = states.get(task);
    if (known === undefined || STATES.indexOf(state) < STATES.indexOf(known)) states.set(task, state);
  }
  return {
    nodes: answer.nodes.map((node) => ({
      id: node.id, state: states.get(node.id) ?? "none", note: [node.operator, node.doc].filter(Boolean).join("\n"),
    })),
    edges: answer.nodes.flatMap((node) => node.upstream.map((up) => /** @type {[string, string]} */ ([up, node.id]))),
  };
}

/**
 * The topology of a stream; below sources, exchanges and sinks, how much goes through them now.
 * @param {{nodes: {node: number, name: string, kind: string, verb: string | null, writes: string | null, count: number,
 *   rate: number}[], edges: {from: number, to: number}[]}} answer
 * @returns {Graph}
 */
function flowing(answer) {
  const said = (/** @type {number} */ amount) => amount.toLocaleString("en", { maximumFractionDigits: amount < 10 ? 1 : 0 });
  return {
    nodes: answer.nodes.map((node) => ({
      id: String(node.node), label: node.name, kind: node.kind, note: node.verb ?? node.kind,
      rate: node.kind === "step" && !node.writes ? undefined : `${said(node.rate)} a second, ${said(node.count)} in all`,
    })),
    edges: answer.edges.map((edge) => /** @type {[string, string]} */ ([String(edge.from), String(edge.to)])),
  };
}

/** @param {string} text */
function wide(text) {
  return Math.min(text.length, 34) * 7.1 + 28;
}

/**
 * @param {Graph} graph
 * @param {string} id
 */
function label(graph, id) {
  return names(graph).get(id) ?? id;
}

/** @type {WeakMap<Graph, Map<string, string>>} */
const NAMES = new WeakMap();

/** @param {Graph} graph */
function names(graph) {
  const known = NAMES.get(graph) ?? new Map(graph.nodes.map((node) => [node.id, node.label ?? node.id]));
  NAMES.set(graph, known);
  return known;
}

/**
 * A node with all above and below it.
 * @param {Graph} graph
 * @param {string} id
 */
function related(graph, id) {
  const found = new Set([id]);
  for (const [from, to] of [[0, 1], [1, 0]]) {
    /** @type {Map<string, string[]>} */
    const next = new Map();
    for (const edge of graph.edges) next.set(edge[from], [...(next.get(edge[from]) ?? []), edge[to]]);
    const waiting = [id];
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      for (const other of next.get(at) ?? []) {
        if (!found.has(other)) { found.add(other); waiting.push(other); }
      }
    }
  }
  return found;
}

/**
 * @param {Graph} graph
 * @param {string} shape
 * @returns {Promise<Layout>}
 */
async function laidOut(graph, shape) {
  if (graph.nodes.length > MOST) return byColumns(graph);
  const key = `tidemill:layout:${hashed(shape)}`;
  const kept = sessionStorage.getItem(key);
  if (kept) return JSON.parse(kept);
  const worker = new Worker(new URL("./layout.js", import.meta.url));
  /** @type {Layout} */
  const made = await new Promise((done, failed) => {
    worker.onmessage = (event) => done(event.data);
    worker.onerror = failed;
    const nodes = graph.nodes.map((node) => ({ id: node.id, width: wide(node.label ?? node.id) }));
    const below = graph.nodes.some((node) => node.rate !== undefined) ? 28 : 0; // that much more between two of them
    worker.postMessage({ nodes, edges: graph.edges, height: TALL + below });
  }).catch(() => byColumns(graph)).finally(() => worker.terminate());
  try { sessionStorage.setItem(key, JSON.stringify(made)); } catch { /* full: laid out again next time */ }
  return made;
}

/**
 * Columns by the longest way from a node without any above it; in each, by the mean place of those above.
 * @param {Graph} graph
 * @returns {Layout}
 */
function byColumns(graph) {
  /** @type {Map<string, string[]>} */ const above = new Map(graph.nodes.map((node) => [node.id, []]));
  /** @type {Map<string, string[]>} */ const below = new Map(graph.nodes.map((node) => [node.id, []]));
  for (const [from, to] of graph.edges) { above.get(to)?.push(from); below.get(from)?.push(to); }
  const waiting = new Map([...above].map(([id, ids]) => [id, ids.length]));
  const ready = [...waiting].filter(([, count]) => count === 0).map(([id]) => id);
  /** @type {Map<string, number>} */ const depth = new Map(ready.map((id) => [id, 0]));
  for (let at = 0; at < ready.length; at += 1) {
    for (const next of below.get(ready[at]) ?? []) {
      depth.set(next, Math.max(depth.get(next) ?? 0, (depth.get(ready[at]) ?? 0) + 1));
      waiting.set(next, (waiting.get(next) ?? 1) - 1);
      if (waiting.get(next) === 0) ready.push(next);
    }
  }
  /** @type {Node[][]} */ const columns = [];
  for (const node of graph.nodes) (columns[depth.get(node.id) ?? 0] ??= []).push(node);
  /** @type {Record<string, [number, number]>} */ const at = {};
  let x = 12, height = 0;
  for (const column of columns) {
    if (!column) continue;
    const width = Math.max(...column.map((node) => wide(node.label ?? node.id)));
    const place = new Map(column.map((node) => {
      const ups = (above.get(node.id) ?? []).map((id) => at[id]?.[1] ?? 0);
      return [node.id, ups.length ? ups.reduce((sum, y) => sum + y, 0) / ups.length : 0];
    }));
    column.sort((a, b) => (place.get(a.id) ?? 0) - (place.get(b.id) ?? 0));
    column.forEach((node, row) => { at[node.id] = [x + wide(node.label ?? node.id) / 2, 27 + row * (TALL + 8)]; });
    height = Math.max(height, 54 + column.length * (TALL + 8));
    x += width + 64;
  }
  return { at, width: x, height };
}

/** @param {string} text */
function hashed(text) {
  let made = 5381;
  for (let at = 0; at < text.length; at += 1) made = (Math.imul(made, 33) ^ text.charCodeAt(at)) >>> 0;
  return `${text.length}-${made.toString(36)}`;
}

customElements.define("task-graph", TaskGraph);
