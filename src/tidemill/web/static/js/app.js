// What every page has: the theme, times in the reader's zone, events as they come, search, and keys.

import { actions } from "./actions.js";
import { live } from "./live.js";
import { renewing } from "./renew.js";
import { search } from "./search.js";

/** What draws an element is loaded where there is one. */
const DRAWN = {
  "run-grid": () => import("./grid.js"), "task-graph": () => import("./graph.js"),
  "gantt-chart": () => import("./gantt.js"), "task-log": () => import("./log.js"),
  "line-chart": () => import("./chart.js"), "sql-console": () => import("./sql.js"),
  "lag-charts": () => import("./lag.js"), "task-graph#lineage": () => import("./lineage.js"),
};

function drawing() {
  for (const [name, load] of Object.entries(DRAWN)) if (document.querySelector(name)) void load();
}

/** @param {ParentNode} part Write times as the reader's clock has them; the exact one stays in `datetime` and title. */
function times(part) {
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const near = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
  for (const element of part.querySelectorAll("time[datetime]")) {
    const at = new Date(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(at.getTime())) continue;
    element.setAttribute("title", `${day.format(at)}  (${at.toISOString()})`);
    element.textContent = element.hasAttribute("data-near") ? relative(near, at) : day.format(at);
  }
}

/**
 * @param {Intl.RelativeTimeFormat} format
 * @param {Date} at
 */
function relative(format, at) {
  const seconds = (at.getTime() - Date.now()) / 1000, size = Math.abs(seconds);
  if (size < 60) return format.format(Math.round(seconds), "second");
  if (size < 3600) return format.format(Math.round(seconds / 60), "minute");
  if (size < 86_400) return format.format(Math.round(seconds / 3600), "hour");
  return format.format(Math.round(seconds / 86_400), "day");
}

function theme() {
  const root = document.documentElement;
  document.querySelector("[data-theme-switch]")?.addEventListener("click", () => {
    const dark = getComputedStyle(root).colorScheme === "dark"
      || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("tidemill:theme", root.dataset.theme);
    document.dispatchEvent(new CustomEvent("tidemill:theme"));
  });
}

/** Dialogs open by `data-opens="id"` and close by `data-closes`. */
function dialogs() {
  document.addEventListener("click", (event) => {
    const from = event.target instanceof Element ? event.target : null;
    const opens = from?.closest("[data-opens]")?.getAttribute("data-opens");
    const dialog = opens ? document.getElementById(opens) : null;
    if (dialog instanceof HTMLDialogElement) dialog.showModal();
    if (from?.closest("[data-closes]")) from.closest("dialog")?.close();
  });
}

/** What is drawn asks again when something has happened to it. */
function refreshing() {
  document.addEventListener("tidemill:changed", (event) => {
    const kinds = /** @type {CustomEvent<Set<string>>} */ (event).detail;
    for (const element of document.querySelectorAll("[data-follows]:not(main)")) {
      const follows = (element.getAttribute("data-follows") ?? "").split(" ");
      if (follows.some((kind) => kinds.has(kind)) && "refresh" in element) {
        void /** @type {{refresh: () => unknown}} */ (/** @type {unknown} */ (element)).refresh();
      }
    }
  });
}

/** A filter of a grid or of a log: `data-filters="selector"` with the property that takes the text. */
function filters() {
  document.addEventListener("input", (event) => {
    const from = event.target;
    if (!(from instanceof HTMLInputElement || from instanceof HTMLSelectElement)) return;
    const [selector, property] = (from.dataset.filters ?? "").split("|");
    const drawn = selector ? document.querySelector(selector) : null;
    if (drawn) Object.assign(drawn, { [property]: from.value });
  });
}

/** Buttons beside a log go to a place of it: `data-log="start"`, "first" (error), "end". */
function places() {
  document.addEventListener("click", (event) => {
    const from = event.target instanceof Element ? event.target.closest("[data-log]") : null;
    const log = /** @type {any} */ (from ? document.querySelector("task-log") : null);
    if (log) void log[from?.getAttribute("data-log") ?? "end"]();
  });
}

drawing();
theme();
places();
times(document);
dialogs();
refreshing();
filters();
actions();
renewing();
search();
live();
document.addEventListener("htmx:after:swap", () => { drawing(); times(document); });
setInterval(() => times(document), 15_000);
