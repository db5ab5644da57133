// What buttons and forms do: they ask the API what would happen, show that, and do it when it is confirmed.
//
// data-post: the address. data-body: JSON of it; a form's fields are added by their names. data-does-at-once: no preview.

import { KINDS } from "./live.js";
import { choices, choose } from "./renew.js";

/** Lists in an answer that say what it is about, and how they are called. */
const LISTS = {
  tasks: "task", names: "pipeline", intervals: "interval", run_ids: "run", offsets: "letter", tables: "table",
  views: "view", runs: "run", positions: "partition", cleared: "emptied topic", stores: "removed state",
};

/** Make buttons and forms work, those that come later too. */
export function actions() {
  document.addEventListener("click", (event) => {
    const from = event.target instanceof Element ? event.target.closest("button[data-post]") : null;
    if (from instanceof HTMLButtonElement) void act(from, parsed(from), from.dataset.title ?? from.textContent ?? "");
  });
  document.addEventListener("change", (event) => {
    const all = event.target;
    if (!(all instanceof HTMLInputElement) || !("choosesAll" in all.dataset)) return;
    for (const box of choices()) if (!box.disabled) box.checked = all.checked;
  });
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || !form.dataset.post) return;
    event.preventDefault();
    try {
      void act(form, { ...parsed(form), ...fields(form) }, form.dataset.title ?? "");
    } catch (error) {
      toast(String(error instanceof Error ? error.message : error), true);
    }
  });
}

/** @param {HTMLElement} element */
function parsed(element) {
  const chosen = element.dataset.chosen;
  const body = JSON.parse(element.dataset.body ?? "{}");
  if (chosen) body[chosen] = choices().filter((box) => box.checked).map((box) => Number(box.value));
  return body;
}

/**
 * A form's fields as the API wants them: `data-as` says whether text is a number, a list, lines, JSON.
 * @param {HTMLFormElement} form
 */
export function fields(form) {
  /** @type {Record<string, any>} */ const found = {};
  for (const field of form.elements) {
    if (!(field instanceof HTMLInputElement || field instanceof HTMLSelectElement || field instanceof HTMLTextAreaElement)) continue;
    if (!field.name || field.disabled) continue;
    const boxed = field instanceof HTMLInputElement && field.type === "checkbox";
    if (!boxed && field.value === "") continue;
    const several = field instanceof HTMLSelectElement && field.multiple;
    const value = several ? Array.from(field.selectedOptions, (option) => option.value)
      : boxed ? /** @type {HTMLInputElement} */ (field).checked : typed(field.value, field.dataset.as, field.name);
    const [first, second] = field.name.split(".");
    if (second) (found[first] ??= {})[second] = value;
    else found[first] = value;
  }
  return found;
}

/**
 * @param {string} text
 * @param {string | undefined} as
 * @param {string} name
 */
function typed(text, as, name) {
  if (as === "number") return Number(text);
  if (as === "lines") return text.split("\n").filter((line) => line.trim());
  if (as === "list") return text.split(",").map((part) => part.trim()).filter(Boolean);
  if (as !== "json") return text;
  try { return JSON.parse(text); } catch { throw new Error(`${name} is no JSON: ${text.slice(0, 60)}`); }
}

/**
 * @param {HTMLElement} from
 * @param {any} body
 * @param {string} title
 */
async function act(from, body, title) {
  const address = from.dataset.post ?? "";
  if (!("doesAtOnce" in from.dataset)) {
    const would = await post(`${address}?dry_run=true`, body);
    if (!would || !(await confirmed(title.trim(), would))) return;
  }
  const done = await post(address, body);
  if (!done) return;
  from.closest("dialog")?.close();
  const left = Array.isArray(done.refused) ? done.refused.length : 0;
  toast(`${title.trim()}: done${left ? `, ${left} left out` : ""}`);
  document.dispatchEvent(new CustomEvent("tidemill:changed", { detail: new Set(KINDS) }));
  if (from.dataset.then) { location.href = from.dataset.then; return; }
  // What was done again goes on as another attempt: that is what one wants to see now.
  if (done.new_run_id) void choose({ run: String(done.new_run_id) });
  else if (done.run?.run_id && location.pathname.startsWith("/pipelines/")) void choose({ run: String(done.run.run_id), task: null });
  else if (done.run?.run_id) location.href = `/pipelines/${encodeURIComponent(done.run.pipeline)}?run=${done.run.run_id}`;
}

/**
 * @param {string} address
 * @param {any} body
 */
async function post(address, body) {
  try {
    const headers = { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() };
    const csrf = document.querySelector("meta[name=csrf]")?.getAttribute("content");
    const answer = await fetch(address, {
      method: "POST", body: JSON.stringify(body), headers: csrf ? { ...headers, "X-CSRF-Token": csrf } : headers,
    });
    const said = await answer.json();
    if (answer.ok) return said;
    const where = said.where && `At: ${said.where}.`, hint = said.hint && `Try: ${said.hint}`;
    toast([`${said.title}.`, said.detail, where, hint].filter(Boolean).join(" "), true);
  } catch {
    toast("The server does not answer. Nothing is known to have been done.", true);
  }
  return null;
}

/**
 * Show what would be done; true: the reader wants it.
 * @param {string} title
 * @param {any} would
 * @returns {Promise<boolean>}
 */
function confirmed(title, would) {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("doing"));
  const heading = /** @type {HTMLElement} */ (dialog.querySelector("h2"));
  const text = /** @type {HTMLElement} */ (dialog.querySelector(".doing-text"));
  const does = /** @type {HTMLButtonElement} */ (dialog.querySelector("[data-does]"));
  heading.textContent = title;
  text.replaceChildren(...told(would));
  does.textContent = title;
  dialog.showModal();
  does.focus();
  return new Promise((done) => {
    let wanted = false;
    does.onclick = () => { wanted = true; dialog.close(); };
    dialog.onclose = () => done(wanted);
  });
}

/** @param {any} would */
function told(would) {
  const made = [];
  if (would.running) made.push(paragraph("It is running now, and will be refused: pause it first."));
  if (would.why) made.push(paragraph(would.why));
  if (would.when) made.push(paragraph(`for ${would.when}`));
  for (const [name, noun] of Object.entries(LISTS)) {
    const items = would[name];
    if (!Array.isArray(items) || items.length === 0) continue;
    made.push(paragraph(`${items.length} ${noun}${items.length === 1 ? "" : "s"}:`));
    made.push(listed(items.map(spelled)));
  }
  if (Array.isArray(would.refused) && would.refused.length) {
    made.push(paragraph(`${would.refused.length} left out:`));
    made.push(listed(would.refused.map((/** @type {any} */ one) => String(one.error))));
  }
  if (made.length === 0) made.push(paragraph("Nothing else changes."));
  return made;
}

/** @param {string[]} texts */
function listed(texts) {
  const list = document.createElement("ul");
  for (const text of texts.slice(0, 100)) {
    const row = document.createElement("li");
    row.textContent = text;
    list.append(row);
  }
  if (texts.length > 100) list.append(`… ${texts.length - 100} more`);
  return list;
}

/** @param {any} item */
function spelled(item) {
  if (typeof item !== "object" || item === null) return String(item);
  if (item.direction) return moved(item);
  if (item.table) return `${item.table}: ${item.change}`;
  return Object.entries(item).filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => `${name} ${Array.isArray(value) ? value.join(", ") : value}`).join("; ");
}

/**
 * From which offset to which a partition of a stream would go.
 * @param {{topic: string, partition: number, before: number | null, offset: number | null, messages: number, direction: string}} item
 */
function moved(item) {
  const from = item.before === null ? "its beginning" : item.before, to = item.offset === null ? "its table" : item.offset;
  const what = item.direction === "none" ? "no message" : `${item.messages} messages ${item.direction}`;
  return `${item.topic}[${item.partition}]: from ${from} to ${to}, ${what}`;
}

/** @param {string} text */
function paragraph(text) {
  const made = document.createElement("p");
  made.textContent = text;
  return made;
}

/**
 * Say something for a while.
 * @param {string} text
 * @param {boolean} bad
 */
export function toast(text, bad = false) {
  const made = document.createElement("div");
  made.className = bad ? "toast bad" : "toast";
  made.textContent = text;
  document.querySelector(".toasts")?.append(made);
  setTimeout(() => made.remove(), bad ? 12_000 : 4_000);
}
