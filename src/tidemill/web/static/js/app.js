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

/** @type {Intl.DateTimeFormat | undefined} Made where there is a use for it: it takes 15 ms. */ let clock;

/** @param {Date} at As the reader's clock has it. */
function local(at) {
  clock ??= new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  return clock.format(at);
}

/** @param {ParentNode} part Write times as the reader's clock has them; those that are told from now, as of now. */
function times(part) {
  for (const element of part.querySelectorAll("time[datetime]")) {
    const at = new Date(element.getAttribute("datetime") ?? "");
    if (Number.isNaN(at.getTime())) continue;
    const text = element.hasAttribute("data-near") ? near((at.getTime() - Date.now()) / 1000) : local(at);
    if (element.textContent !== text) element.textContent = text;
  }
}

/** A time's exact one is its title, from when somebody points at it. */
function exact() {
  document.addEventListener("pointerover", (event) => {
    const element = event.target instanceof Element ? event.target.closest("time[datetime]") : null;
    const at = new Date(element?.getAttribute("datetime") ?? "");
    if (element && !Number.isNaN(at.getTime())) element.setAttribute("title", `${local(at)}  (${at.toISOString()})`);
  });
}

/**
 * Seconds from now as the server says them, so that nothing moves when a page has come: `near` in words.py.
 * @param {number} seconds
 */
function near(seconds) {
  const size = Math.abs(seconds);
  const [count, unit] = size < 60 ? [Math.floor(size), "s"] : size < 3600 ? [Math.floor(size / 60), "min"]
    : size < 172_800 ? [Math.floor(size / 3600), "h"] : [Math.floor(size / 86_400), "days"];
  return seconds > 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
}

function theme() {
  const root = document.documentElement;
  document.querySelector("[data-theme-switch]")?.addEventListener("click", () => {
    const dark = getComputedStyle(root).colorScheme === "dark"
      || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "light" : "dark";
    // A cookie, which the server reads: the page comes in its theme, and nothing has to run before it is drawn.
    document.cookie = `tidemill_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
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

/**
 * A filter of a grid or of a log: `data-filters="selector|property"`; what is typed is in the address, by the field's name.
 * @param {Element} field
 */
function filter(field) {
  if (!(field instanceof HTMLInputElement || field instanceof HTMLSelectElement)) return;
  const [selector, property] = (field.dataset.filters ?? "").split("|");
  const drawn = selector ? document.querySelector(selector) : null;
  if (drawn) void customElements.whenDefined(drawn.localName).then(() => { Object.assign(drawn, { [property]: field.value }); });
}

function filters() {
  document.querySelectorAll("[data-filters]").forEach(filter);
}

function filtering() {
  document.addEventListener("input", (event) => {
    const field = event.target;
    if (!(field instanceof HTMLInputElement || field instanceof HTMLSelectElement) || !field.dataset.filters) return;
    filter(field);
    const address = new URL(location.href);
    if (field.value) address.searchParams.set(field.name, field.value);
    else address.searchParams.delete(field.name);
    history.replaceState({}, "", address);
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
exact();
dialogs();
refreshing();
filtering();
filters();
actions();
renewing();
search();
live();
document.addEventListener("htmx:after:swap", () => { drawing(); filters(); times(document); });
setInterval(() => times(document), 15_000);
