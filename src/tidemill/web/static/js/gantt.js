// <gantt-chart>: when each task ran, from {begin, end, bars: [{id, state, start, end}]} (seconds) in a script element.

import { spoken } from "./colours.js";
import { span } from "./grid.js";

const NS = "http://www.w3.org/2000/svg", ROW = 22, NAMES = 190;

export class GanttChart extends HTMLElement {
  /** A page that is made anew has the script element as it is now, and not what was drawn. */
  #drawn = () => {
    const given = this.querySelector('script[type="application/json"]');
    if (given) this.show(JSON.parse(given.textContent ?? "null"));
  };

  connectedCallback() {
    this.#drawn();
    document.addEventListener("htmx:after:swap", this.#drawn);
  }

  disconnectedCallback() {
    document.removeEventListener("htmx:after:swap", this.#drawn);
  }

  /** @param {{begin: number, end: number, bars: {id: string, state: string, start: number, end: number}[]}} data */
  show(data) {
    const wide = 900, scale = (wide - NAMES - 60) / Math.max(0.001, data.end - data.begin);
    const svg = document.createElementNS(NS, "svg");
    svg.setAttribute("viewBox", `0 0 ${wide} ${data.bars.length * ROW + 26}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", data.bars.map((bar) => (
      `${bar.id}: ${spoken(bar.state)}, ${span(bar.end - bar.start)}, from ${span(bar.start - data.begin)} on`
    )).join("; "));
    for (let step = 0; step <= 4; step += 1) {
      const x = NAMES + ((wide - NAMES - 60) * step) / 4;
      put(svg, "line", { x1: x, x2: x, y1: 20, y2: data.bars.length * ROW + 22, class: "rule" });
      put(svg, "text", { x, y: 12, class: "when" }).textContent = span(((data.end - data.begin) * step) / 4);
    }
    data.bars.forEach((bar, at) => {
      const y = 24 + at * ROW, x = NAMES + (bar.start - data.begin) * scale;
      put(svg, "text", { x: 0, y: y + 13 }).textContent = bar.id.length > 27 ? `${bar.id.slice(0, 26)}…` : bar.id;
      const width = Math.max(2, (bar.end - bar.start) * scale);
      put(svg, "rect", { x, y: y + 2, width, height: ROW - 7, rx: 3, class: `bar ${bar.state}` });
      put(svg, "text", { x: x + width + 6, y: y + 13, class: "when" }).textContent = span(bar.end - bar.start);
    });
    this.querySelector("svg")?.remove();
    this.append(svg);
  }
}

/**
 * @param {Element} into
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 */
function put(into, name, attributes) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  into.append(made);
  return made;
}

customElements.define("gantt-chart", GanttChart);
