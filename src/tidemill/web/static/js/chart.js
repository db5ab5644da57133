// <line-chart>: lines over time by uPlot, from {times: seconds[], series: [{name, values, look?}]} in a script element.

import { colours, onTheme } from "./colours.js";

const PALETTE = ["--accent", "--retry", "--success", "--deferred", "--failed", "--waiting"];

export class LineChart extends HTMLElement {
  /** @type {any} */ #plot = null;
  /** @type {{times: number[], series: {name: string, values: (number | null)[], look?: "bound" | "mark"}[], unit?: string} | null} */ #data = null;

  connectedCallback() {
    new ResizeObserver(() => {
      if (this.#plot && this.clientWidth) this.#plot.setSize({ width: this.clientWidth, height: this.#height() });
    }).observe(this);
    onTheme(() => this.#draw());
    const given = this.querySelector('script[type="application/json"]');
    if (given) this.show(JSON.parse(given.textContent ?? "null"));
  }

  /** @param {any} data */
  show(data) {
    this.#data = data;
    const columns = [data.times, ...data.series.map((/** @type {any} */ one) => one.values)];
    if (this.#plot && this.#plot.series.length === columns.length) this.#plot.setData(columns);
    else this.#draw();
  }

  #height() {
    return Number(this.getAttribute("height") ?? 140);
  }

  #draw() {
    const data = this.#data, uPlot = /** @type {any} */ (window).uPlot;
    if (!data || !uPlot || !this.clientWidth) return;
    this.#plot?.destroy();
    const colour = colours();
    const axis = { stroke: colour.muted, grid: { stroke: colour.line, width: 1 }, ticks: { show: false }, size: 44 };
    const probe = (/** @type {string} */ name) => {
      this.style.color = `var(${name})`;
      const found = getComputedStyle(this).color;
      this.style.color = "";
      return found;
    };
    const options = {
      width: this.clientWidth, height: this.#height(), cursor: { drag: { x: false, y: false } },
      legend: { show: data.series.length > 1 },
      axes: [{ ...axis, size: 40 }, axis],
      series: [{}, ...data.series.map((one, at) => {
        // A bound is no value, and a mark no line: one is dashed, the other only points.
        if (one.look === "bound") return { label: one.name, stroke: colour.muted, width: 1, dash: [4, 4], points: { show: false } };
        const stroke = probe(one.look === "mark" ? "--failed" : PALETTE[at % PALETTE.length]);
        if (one.look === "mark") return { label: one.name, stroke, paths: () => null, points: { show: true, size: 11, fill: stroke } };
        return { label: one.name, stroke, width: 2, points: { show: data.times.length < 40 } };
      })],
    };
    this.#plot = new uPlot(options, [data.times, ...data.series.map((/** @type {any} */ one) => one.values)], this);
  }
}

customElements.define("line-chart", LineChart);
