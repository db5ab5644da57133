// Makes the page anew from the server, in place: what is scrolled, open, focused or chosen stays.

/** Kinds of events that have come while the page was being made anew, or was hidden. */
let again = false, busy = false;

/** @type {Promise<any> | undefined} */ let fetched;

/** What morphs pages. It comes when the page is there: nothing needs it before, and a first paint is 20 ms sooner. */
function htmx() {
  fetched ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.htmxSrc ?? "";
    script.onload = () => done(/** @type {any} */ (window).htmx);
    script.onerror = () => { fetched = undefined; script.remove(); failed(new Error("The server does not answer.")); };
    document.head.append(script);
  });
  return fetched;
}

/**
 * Fetch a page and morph this one into it.
 * @param {string} address
 */
export async function renew(address = location.href) {
  if (busy) { again = true; return; }
  busy = true;
  try {
    await (await htmx()).ajax("GET", address, { source: "#main", target: "#main", select: "#main", swap: "outerMorph" });
  } finally {
    busy = false;
    if (again) { again = false; void renew(); }
  }
}

/**
 * Go to another choice on the same page: its address changes, and only what differs is drawn.
 * @param {Record<string, string | null>} changes
 */
export async function choose(changes) {
  const address = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) address.searchParams.delete(name);
    else address.searchParams.set(name, value);
  }
  history.pushState({}, "", address);
  await renew(address.href);
}

/** Follow the events that `#main` names, at most once a second; choices in grids and graphs change the address. */
export function renewing() {
  let last = 0;
  choosing();
  addEventListener("load", () => void htmx().catch(() => {}));
  /** @type {number | undefined} */ let timer;
  document.addEventListener("tidemill:changed", (event) => {
    const kinds = /** @type {CustomEvent<Set<string>>} */ (event).detail;
    const follows = (document.getElementById("main")?.dataset.follows ?? "").split(" ");
    if (!follows.some((kind) => kinds.has(kind)) || timer !== undefined || typing()) return;
    timer = setTimeout(() => { timer = undefined; last = Date.now(); void renew(); }, Math.max(0, last + 1000 - Date.now()));
  });
  document.addEventListener("tidemill:selected", (event) => {
    const { task, run } = /** @type {CustomEvent<{task: string | null, run: string | null}>} */ (event).detail;
    const drawn = event.target instanceof Element ? event.target.closest("[data-goes]") : null;
    if (!drawn) return;
    void choose({ ...(task === null ? {} : { task }), ...(run === null ? {} : { run }) });
  });
  addEventListener("popstate", () => void renew());
}

/** Boxes that choose the things of a list: their value says which. */
export function choices() {
  return /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll("input[data-choice]")]);
}

/** Boxes are matched by their place: what is chosen goes with the thing, where others have come before it. */
function choosing() {
  /** @type {Set<string>} */ let chosen = new Set();
  document.addEventListener("htmx:before:swap", () => {
    chosen = new Set(choices().filter((box) => box.checked).map((box) => box.value));
  });
  document.addEventListener("htmx:after:swap", () => {
    for (const box of choices()) box.checked = chosen.has(box.value) && !box.disabled;
  });
}

/** Whether somebody is filling in something that would be lost. */
function typing() {
  const at = document.activeElement;
  return document.querySelector("dialog[open]") !== null || (at instanceof HTMLTextAreaElement && at.value !== at.defaultValue);
}
