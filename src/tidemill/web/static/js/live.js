// One stream of events for the page. What changed is told to its parts at most four times a second.

const OFTEN = 250;

/** Kinds of events. */
export const KINDS = ["run", "task", "pipeline", "backfill", "branch", "stream"];

/** Begin to listen; says when the server is away, and when it is back the page catches up. */
export function live() {
  const from = document.body.dataset.events;
  if (!from) return;
  const bar = document.querySelector(".connection");
  /** @type {Set<string>} */ let changed = new Set();
  /** @type {number | undefined} */ let timer;
  let lost = false;
  const source = new EventSource(from);
  /** @param {string} kind */
  const note = (kind) => {
    changed.add(kind);
    timer ??= setTimeout(() => {
      timer = undefined;
      const told = changed;
      changed = new Set();
      document.dispatchEvent(new CustomEvent("tidemill:changed", { detail: told }));
    }, OFTEN);
  };
  source.onopen = () => {
    if (bar instanceof HTMLElement) bar.hidden = true;
    if (lost) KINDS.forEach(note);
    lost = false;
  };
  source.onerror = () => {
    lost = true;
    if (bar instanceof HTMLElement) bar.hidden = false;
  };
  for (const kind of KINDS) source.addEventListener(kind, () => note(kind));
  source.addEventListener("reset", () => KINDS.forEach(note));
  addEventListener("pagehide", () => source.close());
}
