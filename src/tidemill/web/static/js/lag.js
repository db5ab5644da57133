// <lag-charts data-from>: what waited in each partition of a stream, and beside it speed and state; live by events.

import { LineChart } from "./chart.js";

/**
 * @typedef {{times: number[], partitions: {topic: string, partition: number, lag: (number | null)[]}[], left_out: number,
 *   rate: number[], state_bytes: number[]}} History
 */

class LagCharts extends HTMLElement {
  /** @type {Map<string, LineChart>} */ #charts = new Map();
  /** @type {HTMLElement | null} */ #note = null;
  #busy = false;
  /** @param {Event} event */ #heard = (event) => {
    if (/** @type {CustomEvent<Set<string>>} */ (event).detail.has("stream")) void this.#load();
  };

  connectedCallback() {
    if (!this.#note) {
      this.#note = document.createElement("p");
      this.#note.className = "note";
      this.append(this.#note);
    }
    document.addEventListener("tidemill:changed", this.#heard);
    void this.#load();
  }

  disconnectedCallback() {
    document.removeEventListener("tidemill:changed", this.#heard);
  }

  async #load() {
    if (this.#busy) return;
    this.#busy = true;
    try {
      const answer = await fetch(this.dataset.from ?? "");
      if (answer.ok) this.#show(await answer.json());
    } catch { /* the server is away: the page says so, and what was known stays */ } finally {
      this.#busy = false;
    }
  }

  /** @param {History} found */
  #show(found) {
    if (!this.#note) return;
    const left = found.left_out ? ` ${found.left_out} more partitions are not drawn.` : "";
    this.#note.textContent = found.times.length < 2
      ? "Charts begin when the server has seen the stream for ten seconds."
      : `The last ${Math.max(1, Math.round((found.times[found.times.length - 1] - found.times[0]) / 60))} min, as this server remembers them.${left}`;
    if (found.times.length < 2) return;
    const topics = new Set(found.partitions.map((one) => one.topic));
    this.#draw("Messages that wait", found.times, found.partitions.map((one) => ({
      name: topics.size > 1 ? `${one.topic}[${one.partition}]` : `partition ${one.partition}`, values: one.lag,
    })), 200);
    this.#draw("Messages a second", found.times, [{ name: "messages a second", values: found.rate }], 110);
    this.#draw("State, KB", found.times, [{ name: "state", values: found.state_bytes.map((bytes) => bytes / 1000) }], 110);
  }

  /**
   * @param {string} title
   * @param {number[]} times
   * @param {{name: string, values: (number | null)[]}[]} series
   * @param {number} height
   */
  #draw(title, times, series, height) {
    let chart = this.#charts.get(title);
    if (!chart) {
      const heading = document.createElement("h2");
      heading.textContent = title;
      chart = /** @type {LineChart} */ (document.createElement("line-chart"));
      chart.setAttribute("height", String(height));
      chart.setAttribute("role", "img");
      this.append(heading, chart);
      this.#charts.set(title, chart);
    }
    const now = series.map((one) => `${one.name} ${one.values[one.values.length - 1] ?? "unknown"}`);
    chart.setAttribute("aria-label", `${title}; now ${now.slice(0, 12).join(", ")}`);
    chart.show({ times, series });
  }
}

customElements.define("lag-charts", LagCharts);
