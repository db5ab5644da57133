// The colours of states, as the style sheet has them for the theme that is shown.

/** States in the order in which a summary names them, worst first. */
export const STATES = [
  "failed", "upstream_failed", "up_for_retry", "running", "publishing", "deferred", "up_for_reschedule", "queued",
  "scheduled", "success", "skipped", "cancelled", "none",
];

/** @type {Record<string, string>} State -> custom property. */
const PROPERTY = {
  success: "--success", failed: "--failed", running: "--running", publishing: "--running", queued: "--waiting",
  scheduled: "--waiting", up_for_retry: "--retry", up_for_reschedule: "--retry", deferred: "--deferred",
  skipped: "--skipped", cancelled: "--skipped", upstream_failed: "--upstream", none: "--none",
};

/**
 * Colours for drawing. Canvases ask again when the theme changes; see `onTheme`.
 * `light-dark()` is resolved only where a colour is used, so each is read off an element.
 * @returns {{state: (name: string) => string, text: string, muted: string, line: string, card: string, hover: string,
 *   accent: string}}
 */
export function colours() {
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  /** @param {string} name */
  const read = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const states = Object.fromEntries(Object.entries(PROPERTY).map(([state, name]) => [state, read(name)]));
  const made = {
    /** @param {string} name */
    state: (name) => states[name] ?? states.none,
    text: read("--text"), muted: read("--muted"), line: read("--line"), card: read("--card"), hover: read("--hover"),
    accent: read("--accent"),
  };
  probe.remove();
  return made;
}

/**
 * Call `changed` whenever the theme does.
 * @param {() => void} changed
 */
export function onTheme(changed) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  document.addEventListener("tidemill:theme", changed);
}

/**
 * A state as people say it.
 * @param {string} state
 */
export function spoken(state) {
  return state === "none" ? "not run" : state.replaceAll("_", " ");
}
