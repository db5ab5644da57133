// <run-grid src="/api/v1/pipelines/p/grid">: tasks down, runs across, a cell for each task of each run, on a canvas.
//
// 900 tasks of 25 runs are 22,500 cells: as elements they take a second to lay out, as strings and a canvas a few
// milliseconds, because only the rows in sight are drawn.

import { colours, onTheme, spoken } from "./colours.js";

/**
 * @typedef {{id: string, state: string, label: string, seconds: number | null, states: string}} Run
 * @typedef {{tasks: string[], runs: Run[], legend: Record<string, string>}} Grid of each run a letter for each task.
 */

const ROW = 20, CELL = 14, GAP = 3, TOP = 76, BAR = 48;

export class RunGrid extends HTMLElement {
  /** @type {Grid | null} */ #grid = null;
  #canvas = document.createElement("canvas");
  #view = document.createElement("div");
  #space = document.createElement("div");
  #said = document.createElement("div");
  #tip = document.createElement("div");
  #colours = colours();
  #row = -1;
  #column = -1;
  #left = 180;
  #asked = false;
  #only = "";
  /** @type {number[]} The rows that the filter leaves. */ #rows = [];

  connectedCallback() {
    if (this.#view.isConnected) return;
    this.#view.className = "grid-view";
    this.#view.tabIndex = 0;
    this.#view.setAttribute("role", "application");
    this.#view.setAttribute("aria-roledescription", "grid of runs and tasks");
    this.#view.setAttribute("aria-label", "Runs and tasks. Arrow keys move, Enter opens.");
    this.#said.className = "visually-hidden";
    this.#said.setAttribute("aria-live", "polite");
    this.#tip.className = "tip";
    this.#tip.hidden = true;
    this.#view.append(this.#canvas, this.#space);
    this.append(this.#view, this.#said, this.#tip);
    this.#view.addEventListener("scroll", () => this.#ask());
    this.#view.addEventListener("keydown", (event) => this.#pressed(event));
    this.#view.addEventListener("pointermove", (event) => this.#hovered(event));
    this.#view.addEventListener("pointerleave", () => { this.#tip.hidden = true; });
    this.#view.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.#ask()).observe(this);
    onTheme(() => { this.#colours = colours(); this.#ask(); });
    const given = this.querySelector('script[type="application/json"]');
    if (given) this.show(grid(JSON.parse(given.textContent ?? "null")));
    else void this.refresh();
  }

  /** Ask the server again; what is selected and how far is scrolled stays. */
  async refresh() {
    const from = this.getAttribute("src");
    if (!from) return;
    const answer = await fetch(from, { headers: { Accept: "application/json" } });
    if (answer.ok) this.show(grid(await answer.json()));
  }

  /** @param {Grid} grid */
  show(grid) {
    const first = this.#grid === null;
    this.#grid = grid;
    const pen = this.#pen();
    pen.font = font(this);
    const widest = grid.tasks.reduce((most, task) => Math.max(most, pen.measureText(task).width), 60);
    this.#left = Math.min(Math.ceil(widest) + 16, Math.max(120, this.clientWidth * 0.5));
    this.#filter();
    if (first) this.#view.scrollLeft = this.#view.scrollWidth;
  }

  /** @param {string} text Show only tasks whose names have it. */
  set only(text) {
    if (text.toLowerCase() === this.#only) return;
    this.#only = text.toLowerCase();
    this.#filter();
  }

  /**
   * Select a cell, as a link in the page does.
   * @param {string} task
   * @param {string} run
   */
  select(task, run) {
    const grid = this.#grid;
    if (!grid) return;
    this.#row = this.#rows.indexOf(grid.tasks.indexOf(task));
    this.#column = grid.runs.findIndex((one) => one.id === run);
    this.#reveal();
  }

  #filter() {
    const grid = this.#grid;
    if (!grid) return;
    this.#rows = [...grid.tasks.keys()].filter((at) => grid.tasks[at].toLowerCase().includes(this.#only));
    this.#space.style.height = `${TOP + this.#rows.length * ROW}px`;
    this.#space.style.width = `${this.#left + grid.runs.length * (CELL + GAP)}px`;
    this.#ask();
  }

  #pen() {
    const pen = this.#canvas.getContext("2d");
    if (!pen) throw new Error("no canvas");
    return pen;
  }

  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => { this.#asked = false; this.#draw(); });
  }

  #draw() {
    const grid = this.#grid;
    if (!grid) return;
    const width = this.#view.clientWidth, height = this.#view.clientHeight, sharp = devicePixelRatio;
    if (this.#canvas.width !== Math.round(width * sharp) || this.#canvas.height !== Math.round(height * sharp)) {
      this.#canvas.width = Math.round(width * sharp);
      this.#canvas.height = Math.round(height * sharp);
      this.#canvas.style.width = `${width}px`;
      this.#canvas.style.height = `${height}px`;
      this.#canvas.style.marginBottom = `-${height}px`; // it lies upon what is scrolled, and takes no room
    }
    const pen = this.#pen(), colour = this.#colours, across = this.#view.scrollLeft, down = this.#view.scrollTop;
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = font(this);
    pen.textBaseline = "middle";
    const first = Math.floor(down / ROW), last = Math.min(this.#rows.length, Math.ceil((down + height - TOP) / ROW));
    const begin = Math.max(0, Math.floor(across / (CELL + GAP)));
    for (let row = first; row < last; row += 1) {
      const at = this.#rows[row], top = TOP + row * ROW - down;
      if (row === this.#row) { pen.fillStyle = colour.hover; pen.fillRect(0, top, width, ROW); }
      for (let column = begin; column < grid.runs.length; column += 1) {
        const left = this.#left + column * (CELL + GAP) - across;
        if (left > width) break;
        if (left + CELL > this.#left) mark(pen, grid.legend[grid.runs[column].states[at]] ?? "none", left, top + 3, colour);
        if (row === this.#row && column === this.#column) {
          pen.strokeStyle = colour.accent;
          pen.lineWidth = 2;
          pen.strokeRect(left - 1, top + 2, CELL + 2, CELL + 2);
        }
      }
      pen.fillStyle = colour.card;
      pen.fillRect(0, top, this.#left - 6, ROW);
      pen.fillStyle = row === this.#row ? colour.accent : colour.text;
      pen.fillText(fitted(pen, grid.tasks[at], this.#left - 14), 0, top + ROW / 2);
    }
    pen.fillStyle = colour.card;
    pen.fillRect(0, 0, width, TOP);
    const longest = Math.max(1e-9, ...grid.runs.map((run) => run.seconds ?? 0));
    for (let column = begin; column < grid.runs.length; column += 1) {
      const run = grid.runs[column], left = this.#left + column * (CELL + GAP) - across;
      if (left > width) break;
      if (left + CELL <= this.#left) continue;
      const tall = Math.max(4, (BAR * (run.seconds ?? 0)) / longest);
      pen.fillStyle = colour.state(run.state);
      pen.globalAlpha = run.state === "success" ? 0.55 : 1;
      pen.fillRect(left, BAR + 8 - tall, CELL, tall);
      pen.globalAlpha = 1;
    }
    pen.fillStyle = colour.card;
    pen.fillRect(0, 0, this.#left - 6, TOP);
    pen.fillStyle = colour.muted;
    pen.fillText(`${this.#rows.length} tasks`, 0, TOP - 12);
    pen.fillText(span(longest), 0, 14);
    pen.strokeStyle = colour.line;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, TOP - 1.5);
    pen.lineTo(width, TOP - 1.5);
    pen.stroke();
  }

  /**
   * @param {PointerEvent | MouseEvent} event
   * @returns {[number, number]} row and column; -1: outside.
   */
  #cell(event) {
    const box = this.#view.getBoundingClientRect(), grid = this.#grid;
    const x = event.clientX - box.left, y = event.clientY - box.top;
    const column = Math.floor((x - this.#left + this.#view.scrollLeft) / (CELL + GAP));
    const row = Math.floor((y - TOP + this.#view.scrollTop) / ROW);
    const inside = grid && x >= this.#left && column < grid.runs.length;
    return [y < TOP ? -1 : row < this.#rows.length ? row : -1, inside ? column : -1];
  }

  /** @param {PointerEvent} event */
  #hovered(event) {
    const [row, column] = this.#cell(event), text = this.#text(row, column);
    this.#tip.hidden = text === "";
    this.#tip.textContent = text;
    this.#tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 280)}px`;
    this.#tip.style.top = `${event.clientY + 14}px`;
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  #text(row, column) {
    const grid = this.#grid;
    if (!grid || (row < 0 && column < 0)) return "";
    const run = grid.runs[column], task = row < 0 ? null : grid.tasks[this.#rows[row]];
    if (!run) return task ?? "";
    if (task === null) return `${run.label}: ${spoken(run.state)}${run.seconds === null ? "" : `, ${span(run.seconds)}`}`;
    return `${task}, ${run.label}: ${spoken(grid.legend[run.states[this.#rows[row]]] ?? "none")}`;
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    [this.#row, this.#column] = this.#cell(event);
    this.#open();
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const grid = this.#grid;
    if (!grid) return;
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (move) {
      if (this.#column < 0) this.#column = grid.runs.length - 1;
      this.#row = Math.max(0, Math.min(this.#rows.length - 1, this.#row + move[0]));
      this.#column = Math.max(0, Math.min(grid.runs.length - 1, this.#column + move[1]));
      this.#reveal();
    } else if (event.key === "Enter") {
      this.#open();
    } else {
      return;
    }
    event.preventDefault();
  }

  #reveal() {
    const top = this.#row * ROW, room = this.#view.clientHeight - TOP, left = this.#column * (CELL + GAP);
    if (top < this.#view.scrollTop) this.#view.scrollTop = top;
    if (top + ROW > this.#view.scrollTop + room) this.#view.scrollTop = top + ROW - room;
    const wide = this.#view.clientWidth - this.#left;
    if (left < this.#view.scrollLeft) this.#view.scrollLeft = left;
    if (left + CELL > this.#view.scrollLeft + wide) this.#view.scrollLeft = left + CELL - wide;
    this.#said.textContent = this.#text(this.#row, this.#column);
    this.#ask();
  }

  #open() {
    const grid = this.#grid;
    this.#ask();
    if (!grid || (this.#row < 0 && this.#column < 0)) return;
    const task = this.#row < 0 ? null : grid.tasks[this.#rows[this.#row]], run = grid.runs[this.#column]?.id ?? null;
    this.dispatchEvent(new CustomEvent("tidemill:selected", { bubbles: true, detail: { task, run } }));
  }
}

/**
 * The grid of an answer of the API, which lists the newest run first.
 * @param {{tasks: string[], legend: Record<string, string>, runs: {run_id: number, when: string, state: string,
 *   started_at: string | null, ended_at: string | null, states: string}[]}} answer
 * @returns {Grid}
 */
function grid(answer) {
  const runs = answer.runs.map((run) => ({
    id: String(run.run_id), state: run.state, label: run.when, states: run.states,
    seconds: run.started_at ? ((run.ended_at ? Date.parse(run.ended_at) : Date.now()) - Date.parse(run.started_at)) / 1000 : null,
  }));
  return { tasks: answer.tasks, legend: answer.legend, runs: runs.reverse() };
}

/**
 * A cell: its shape says what its colour says.
 * @param {CanvasRenderingContext2D} pen
 * @param {string} state
 * @param {number} left
 * @param {number} top
 * @param {ReturnType<typeof colours>} colour
 */
function mark(pen, state, left, top, colour) {
  pen.fillStyle = colour.state(state);
  if (state === "none") {
    pen.globalAlpha = 0.7;
    pen.fillRect(left + 4, top + 4, CELL - 8, CELL - 8);
    pen.globalAlpha = 1;
    return;
  }
  pen.beginPath();
  if (state === "failed") {
    pen.moveTo(left + CELL / 2, top);
    pen.lineTo(left + CELL, top + CELL / 2);
    pen.lineTo(left + CELL / 2, top + CELL);
    pen.lineTo(left, top + CELL / 2);
  } else if (["running", "queued", "scheduled", "up_for_retry", "deferred", "up_for_reschedule"].includes(state)) {
    pen.arc(left + CELL / 2, top + CELL / 2, CELL / 2 - 1, 0, 2 * Math.PI);
  } else {
    pen.roundRect(left, top, CELL, CELL, 3);
  }
  pen.fill();
}

/** @param {Element} element */
function font(element) {
  return `13px ${getComputedStyle(element).fontFamily}`;
}

/** @type {Map<string, string>} */
const CUT = new Map();

/**
 * Text cut to a width, with an ellipsis.
 * @param {CanvasRenderingContext2D} pen
 * @param {string} text
 * @param {number} width
 */
function fitted(pen, text, width) {
  const key = `${Math.round(width)} ${text}`, known = CUT.get(key);
  if (known !== undefined) return known;
  let made = text;
  if (pen.measureText(text).width > width) {
    let low = 0, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pen.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
      else high = middle - 1;
    }
    made = `${text.slice(0, low)}…`;
  }
  if (CUT.size > 20_000) CUT.clear();
  CUT.set(key, made);
  return made;
}

/**
 * Seconds as people say them.
 * @param {number} seconds
 */
export function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

customElements.define("run-grid", RunGrid);
