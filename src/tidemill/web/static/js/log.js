// <task-log src="/api/v1/runs/7/logs?task=t">: a stretch of a log, of which only the lines in sight are elements.
//
// A log of a million lines opens at its end, because that is where the error is, and follows while it grows. What lies
// before or after the stretch is loaded when one scrolls there. The server searches, always the whole log; a line that
// was found opens in its place.

const LINE = 20, OPEN = 500, TAIL = 2000, BEFORE = 300, NEAR = 40, WAIT = 1000, TYPED = 200, FOUND = 1000, MOST = 10_000;
// eslint-disable-next-line no-control-regex -- these are what is taken out
const ESCAPES = /\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007]*(?:\u0007|\u001b\\)|[\u0000-\u0008\u000b-\u001f\u007f]/g;
// Marks that turn the direction of text could make a line say what it does not.
const TURNS = /[\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const LONGEST = 4000;

/**
 * @typedef {{at: string, level: string, source: string, text: string, offset?: number}} Line
 * @typedef {{lines: Line[], begin: number, offset: number, ended: boolean, whole: boolean}} Page
 * @typedef {{level: string, text: string, offset: number | null}} Row What is shown: a message may have several.
 */

export class TaskLog extends HTMLElement {
  /** @type {Row[]} The stretch that is loaded. */ #rows = [];
  #begin = 0;
  #offset = 0;
  /** Whether the stretch reaches to the log's end. */ #last = true;
  /** @type {{rows: Row[], offset: number, whole: boolean} | null} What a search has found. */ #found = null;
  #level = "";
  #search = "";
  #ended = false;
  #following = true;
  /** The row to point at. */ #marked = -1;
  /** Answers to what was asked for before it grew are not wanted any more. */ #turn = 0;
  #busy = false;
  /** @type {number | undefined} */ #timer = undefined;
  /** @type {number | undefined} */ #typed = undefined;
  #space = document.createElement("div");
  #bar = document.createElement("div");
  #said = document.createElement("span");
  #back = document.createElement("button");
  /** @type {Map<number, HTMLElement>} */ #drawn = new Map();
  #asked = false;

  connectedCallback() {
    if (this.#space.isConnected) return;
    this.tabIndex = 0;
    this.setAttribute("role", "log");
    this.setAttribute("aria-label", "Log");
    this.#bar.className = "log-bar";
    this.#bar.hidden = true;
    this.#said.setAttribute("role", "status");
    this.#back.type = "button";
    this.#back.textContent = "Back to what was found";
    this.#back.addEventListener("click", () => void this.#tried(() => this.#look()));
    this.#bar.append(this.#said, this.#back);
    this.#space.className = "log-lines";
    this.append(this.#bar, this.#space);
    this.addEventListener("scroll", () => this.#scrolled());
    this.#space.addEventListener("click", (event) => this.#chosen(event));
    new ResizeObserver(() => this.#ask()).observe(this);
    void this.end();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    clearTimeout(this.#typed);
  }

  /** @param {string} level Show the lines of the whole log of this level or a louder one; empty: of all. */
  set level(level) { if (level !== this.#level) { this.#level = level; this.#soon(); } }

  /** @param {string} text Show the lines of the whole log that have it. */
  set search(text) { if (text !== this.#search) { this.#search = text; this.#soon(); } }

  /** @param {boolean} on Keep the newest line in sight. */
  set following(on) { this.#following = on; this.#ask(); }

  get following() { return this.#following; }

  /** Show the newest lines, and follow. */
  async end() {
    const turn = this.#begun();
    this.#following = true;
    try {
      const page = await this.#read("", { tail: OPEN });
      if (turn !== this.#turn) return;
      this.#stretch(page);
      this.#last = true;
      const nothing = page.ended && this.#rows.length === 0;
      this.classList.toggle("nothing", nothing);
      if (nothing) this.#tell("It has said nothing.");
      this.#follow();
    } catch {
      this.#timer = setTimeout(() => { if (turn === this.#turn) void this.end(); }, 2 * WAIT);
    }
  }

  /** Show the first lines. */
  start() { return this.#tried(() => this.#show(0, false)); }

  /** Show the first line of level ERROR or a louder one, in its place. */
  first() { return this.#tried(() => this.#first()); }

  async #first() {
    const turn = this.#begun();
    this.#tell("Looking for the first error …");
    for (let offset = 0, whole = false; !whole;) {
      const page = await this.#read("/lines", { level: "ERROR", limit: 1, offset });
      if (turn !== this.#turn) return;
      if (page.lines.length) return this.#show(page.lines[0].offset ?? 0, true);
      ({ offset, whole } = page);
    }
    this.#tell("No line has level ERROR or a louder one.");
    this.#follow();
  }

  /** @param {() => Promise<void>} act Say where the server is away. */
  async #tried(act) {
    try {
      await act();
    } catch {
      this.#tell("The server does not answer: try again.");
    }
  }

  /**
   * @param {string} what "" or "/lines"
   * @param {Record<string, number | string>} given
   * @returns {Promise<Page>}
   */
  async #read(what, given) {
    const from = new URL(this.getAttribute("src") ?? "", location.href);
    from.pathname += what;
    for (const [name, value] of Object.entries(given)) if (value !== "") from.searchParams.set(name, String(value));
    const answer = await fetch(from, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  /** Something else is to be shown. */
  #begun() {
    clearTimeout(this.#timer);
    this.#busy = false;
    this.#marked = -1;
    this.#bar.hidden = true;
    this.#turn += 1;
    return this.#turn;
  }

  /** @param {Page} page It is the stretch from now on. */
  #stretch(page) {
    this.#found = null;
    this.#rows = rows(page.lines);
    this.#begin = page.begin;
    this.#offset = page.offset;
    this.#ended = page.ended && page.lines.length === 0;
    this.#anew();
  }

  /**
   * Show a line in its place.
   * @param {number} offset
   * @param {boolean} pointed
   */
  async #show(offset, pointed) {
    const turn = this.#begun();
    this.#following = false;
    const [earlier, later] = await Promise.all([
      offset ? this.#read("", { before: offset, limit: BEFORE }) : null, this.#read("", { offset, limit: TAIL }),
    ]);
    if (turn !== this.#turn) return;
    this.#stretch(later);
    this.#begin = offset;
    this.#last = later.lines.length < TAIL;
    const above = earlier ? rows(earlier.lines) : [];
    if (earlier) {
      this.#rows = [...above, ...this.#rows];
      this.#begin = earlier.begin;
    }
    if (pointed) this.#marked = above.length;
    if (pointed && (this.#search || this.#level)) this.#tell("The line in its place.", true);
    this.#size();
    this.scrollTop = above.length * LINE - this.clientHeight / 3;
    this.#follow();
  }

  #soon() {
    clearTimeout(this.#typed);
    this.#typed = setTimeout(() => void (this.#search || this.#level ? this.#tried(() => this.#look()) : this.end()), TYPED);
  }

  /** Show the lines of the whole log that level and search leave. */
  async #look() {
    const turn = this.#begun();
    this.#following = false;
    this.#found = { rows: [], offset: 0, whole: false };
    this.scrollTop = 0;
    this.#anew();
    await this.#seek(turn);
    if (turn === this.#turn) this.#follow();
  }

  /**
   * Search on from where the search is, to the log's end or until there are many lines.
   * @param {number} turn
   */
  async #seek(turn) {
    const found = this.#found;
    if (!found) return;
    const room = found.rows.length + FOUND;
    do {
      const given = { text: this.#search, level: this.#level, offset: found.offset, limit: FOUND };
      const page = await this.#read("/lines", given);
      if (turn !== this.#turn) return;
      found.rows.push(...rows(page.lines));
      found.offset = page.offset;
      found.whole = page.whole;
      this.#ended = page.ended && page.whole && page.lines.length === 0;
      const many = `${found.rows.length.toLocaleString("en")} ${found.rows.length === 1 ? "line" : "lines"}`;
      this.#tell(found.whole ? `${many} found in the whole log` : `${many} found so far`);
      this.#ask();
    } while (!found.whole && found.rows.length < room);
  }

  #follow() {
    clearTimeout(this.#timer);
    if (this.#ended || !this.isConnected || !(this.#found ? this.#found.whole : this.#last)) return;
    const turn = this.#turn;
    this.#timer = setTimeout(async () => {
      try {
        if (this.#found) {
          if (this.#found.rows.length < MOST) await this.#seek(turn);
        } else {
          await this.#more(turn);
        }
      } catch { /* the server is away: asked again */ }
      if (turn === this.#turn) this.#follow();
    }, WAIT);
  }

  /** @param {number} turn Load what comes after the stretch. */
  async #more(turn) {
    const page = await this.#read("", { offset: this.#offset, limit: TAIL });
    if (turn !== this.#turn || this.#found) return;
    this.#rows.push(...rows(page.lines));
    this.#offset = page.offset;
    this.#last = page.lines.length < TAIL;
    // A run ends after its last line is written, so what comes with the end is all.
    this.#ended = page.ended && page.lines.length === 0;
    this.#ask();
  }

  /** @param {number} turn Load what comes before it; what is in sight stays there. */
  async #earlier(turn) {
    const page = await this.#read("", { before: this.#begin, limit: TAIL });
    if (turn !== this.#turn || this.#found) return;
    const added = rows(page.lines);
    this.#begin = page.lines.length ? page.begin : 0;
    this.#rows = [...added, ...this.#rows];
    if (this.#marked >= 0) this.#marked += added.length;
    const top = this.scrollTop + added.length * LINE;
    this.#anew();
    this.#size();
    this.scrollTop = top;
  }

  #scrolled() {
    this.#following = !this.#found && this.#last && this.scrollTop + this.clientHeight >= this.scrollHeight - LINE;
    this.#ask();
    const above = this.scrollTop / LINE, below = (this.scrollHeight - this.scrollTop - this.clientHeight) / LINE;
    const turn = this.#turn;
    if (this.#busy) return;
    const load = this.#found
      ? (below < NEAR && !this.#found.whole ? this.#seek(turn) : null)
      : above < NEAR && this.#begin > 0 ? this.#earlier(turn)
        : below < NEAR && !this.#last ? this.#more(turn) : null;
    if (!load) return;
    this.#busy = true;
    void load.catch(() => {}).finally(() => {
      if (turn !== this.#turn) return;
      this.#busy = false;
      this.#follow();
    });
  }

  /** @param {Event} event A found line opens in its place. */
  #chosen(event) {
    const row = event.target instanceof Element ? event.target.closest("[data-offset]") : null;
    if (row) void this.#tried(() => this.#show(Number(row.getAttribute("data-offset")), true));
  }

  /**
   * @param {string} text
   * @param {boolean} back Whether one can go back to what was found.
   */
  #tell(text, back = false) {
    this.#said.textContent = text;
    this.#back.hidden = !back;
    this.#bar.hidden = false;
  }

  get #shown() { return this.#found ? this.#found.rows : this.#rows; }

  /** All lines are drawn anew. */
  #anew() {
    this.#drawn.clear();
    this.#space.replaceChildren();
    this.#ask();
  }

  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => { this.#asked = false; this.#draw(); });
  }

  #size() {
    this.#space.style.height = `${Math.max(1, this.#shown.length) * LINE}px`;
  }

  #draw() {
    this.#size();
    if (this.#following) this.scrollTop = this.scrollHeight;
    const all = this.#shown;
    const first = Math.max(0, Math.floor(this.scrollTop / LINE) - 5);
    const last = Math.min(all.length, first + Math.ceil(this.clientHeight / LINE) + 10);
    // Those that stay are left alone, so that a selection, or the focus, stays.
    for (const [at, row] of this.#drawn) {
      if (at >= first && at < last) continue;
      row.remove();
      this.#drawn.delete(at);
    }
    for (let at = first; at < last; at += 1) {
      if (this.#drawn.has(at)) continue;
      const row = element(all[at]);
      if (at === this.#marked && !this.#found) row.classList.add("marked");
      row.style.top = `${at * LINE}px`;
      this.#drawn.set(at, row);
      this.#space.append(row);
    }
  }
}

/**
 * The rows of lines: one for each line of their texts.
 * @param {Line[]} lines
 * @returns {Row[]}
 */
function rows(lines) {
  /** @type {Row[]} */ const made = [];
  for (const line of lines) {
    const head = `${new Date(line.at).toTimeString().slice(0, 8)} ${line.level.padEnd(7)} `;
    line.text.split("\n").forEach((text, at) => {
      made.push({ level: line.level, text: (at ? " ".repeat(head.length) : head) + text, offset: line.offset ?? null });
    });
  }
  return made;
}

/** @param {Row} row One that was found is a button. */
function element(row) {
  const made = document.createElement(row.offset === null ? "div" : "button");
  if (made instanceof HTMLButtonElement) {
    made.type = "button";
    made.title = "Show it in its place";
    made.dataset.offset = String(row.offset);
  }
  made.className = `line ${row.level.toLowerCase()}`;
  made.textContent = harmless(row.text);
  return made;
}

/**
 * A line without what terminals obey, and short enough to draw.
 * @param {string} line
 */
export function harmless(line) {
  const cut = line.length > LONGEST ? `${line.slice(0, LONGEST)} … ${line.length - LONGEST} more characters` : line;
  return cut.replace(ESCAPES, "").replace(TURNS, "\ufffd");
}

customElements.define("task-log", TaskLog);
