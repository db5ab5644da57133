// <sql-console>: a query, its first rows, and the tables that it may name. The query is in the address.
//
// It runs when somebody says so, never by itself: a link from elsewhere shows a query and runs nothing. Leaving, Stop, and
// the next Run end the one that runs: the server ends a query whose asker has gone.

/** @typedef {{name: string, type: string}} Column */
/** @typedef {{columns: Column[], rows: unknown[][], more: boolean, seconds: number}} Result */
/** @typedef {{title?: string, detail?: string, where?: string, hint?: string}} Problem */

const NUMBERS = /^(u?int|float|double|decimal|halffloat)/;

export class SqlConsole extends HTMLElement {
  /** @type {AbortController | undefined} */ #running = undefined;
  /** @type {number | undefined} */ #clock = undefined;

  connectedCallback() {
    if (this.dataset.ready) return;
    this.dataset.ready = "yes";
    this.#form.addEventListener("submit", (event) => { event.preventDefault(); void this.#run(); });
    this.#sql.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#form.addEventListener("input", () => this.#link());
    this.querySelector("[data-stops]")?.addEventListener("click", () => this.#running?.abort());
    for (const one of this.querySelectorAll("details[data-table]")) {
      one.addEventListener("toggle", () => void this.#columns(/** @type {HTMLDetailsElement} */ (one)));
    }
    addEventListener("popstate", () => {
      const asked = new URL(location.href).searchParams;
      for (const name of ["sql", "branch", "at"]) this.#field(name).value = asked.get(name) ?? (name === "branch" ? "main" : "");
      this.#link();
    });
    addEventListener("pagehide", () => this.#running?.abort());
    this.#link();
  }

  get #form() { return /** @type {HTMLFormElement} */ (this.querySelector("form")); }
  get #sql() { return /** @type {HTMLTextAreaElement} */ (this.querySelector("textarea")); }
  get #result() { return /** @type {HTMLElement} */ (this.querySelector(".result")); }

  /** @param {string} name */
  #field(name) {
    return /** @type {HTMLInputElement | HTMLTextAreaElement} */ (this.#form.elements.namedItem(name));
  }

  /** What is asked, as the address and the API have it. */
  #asked() {
    const found = new URLSearchParams();
    for (const name of ["sql", "branch", "at"]) {
      const value = name === "sql" ? this.#field(name).value : this.#field(name).value.trim();
      if (value && !(name === "branch" && value === "main")) found.set(name, value);
    }
    return found;
  }

  /** Files are of the query as it stands. */
  #link() {
    for (const one of this.querySelectorAll("a[data-form]")) {
      const asked = this.#asked();
      asked.set("format", one.getAttribute("data-form") ?? "csv");
      if (asked.get("sql")?.trim()) one.setAttribute("href", `/api/v1/query/file?${asked}`);
      else one.removeAttribute("href");
    }
  }

  async #run() {
    this.#running?.abort();
    const mine = new AbortController();
    this.#running = mine;
    const asked = this.#asked();
    if (location.search !== `?${asked}`) history.pushState({}, "", `${location.pathname}?${asked}`);
    asked.set("limit", this.dataset.rows ?? "1000");
    this.#busy(true);
    try {
      const answer = await fetch(`/api/v1/query?${asked}`, { signal: mine.signal });
      const said = await answer.json();
      if (mine.signal.aborted) return;
      this.#show(...(answer.ok ? table(said) : problem(said)));
    } catch {
      if (this.#running !== mine) return;
      this.#show(paragraph(mine.signal.aborted ? "Stopped." : "The server does not answer.", "note"));
    } finally {
      if (this.#running === mine) { this.#running = undefined; this.#busy(false); }
    }
  }

  /** @param {boolean} yes */
  #busy(yes) {
    const stop = this.querySelector("[data-stops]");
    if (stop instanceof HTMLButtonElement) stop.disabled = !yes;
    this.#result.setAttribute("aria-busy", String(yes));
    clearInterval(this.#clock);
    if (!yes) return;
    const began = Date.now(), told = paragraph("Running", "note");
    this.#show(told);
    this.#clock = setInterval(() => { told.textContent = `Running, ${Math.round((Date.now() - began) / 1000)} s`; }, 1000);
  }

  /** @param {Node[]} parts */
  #show(...parts) { this.#result.replaceChildren(...parts); }

  /**
   * The columns of a table, when it is opened for the first time.
   * @param {HTMLDetailsElement} one
   */
  async #columns(one) {
    const name = one.dataset.table ?? "";
    if (!one.open || one.dataset.read) return;
    one.dataset.read = "yes";
    one.append(this.#insertion(quoted(name), "the table's name"));
    try {
      const branch = new URLSearchParams({ branch: this.#field("branch").value.trim() || "main" });
      const answer = await fetch(`/api/v1/tables/${encodeURIComponent(name)}?${branch}`);
      const said = await answer.json();
      if (!answer.ok) throw new Error(said.detail);
      for (const column of /** @type {Column[]} */ (said.schema)) one.append(this.#insertion(quoted(column.name), column.type));
    } catch (error) {
      one.append(paragraph(error instanceof Error ? error.message : String(error), "field-error"));
    }
  }

  /**
   * A button that puts a name where one is writing.
   * @param {string} text
   * @param {string} note
   */
  #insertion(text, note) {
    const made = document.createElement("button"), beside = document.createElement("small");
    made.type = "button";
    beside.textContent = note;
    made.append(text, beside);
    made.addEventListener("click", () => {
      this.#sql.setRangeText(text, this.#sql.selectionStart, this.#sql.selectionEnd, "end");
      this.#sql.focus();
      this.#link();
    });
    return made;
  }
}

/** @param {string} name A name as SQL has it: quoted where it must be. */
function quoted(name) {
  return name.split(".").map((part) => (/^[a-z_][a-z0-9_]*$/.test(part) ? part : `"${part.replaceAll('"', '""')}"`)).join(".");
}

/**
 * @param {string} text
 * @param {string} kind
 */
function paragraph(text, kind) {
  const made = document.createElement("p");
  made.className = kind;
  made.textContent = text;
  return made;
}

/** @param {Problem} said */
function problem(said) {
  const made = document.createElement("div");
  made.className = "error";
  made.setAttribute("role", "alert");
  const lines = [said.detail ?? said.title, said.where && `at: ${said.where}`, said.hint && `try: ${said.hint}`];
  made.textContent = lines.filter(Boolean).join("\n");
  return [made];
}

/** @param {Result} said */
function table(said) {
  const count = `${said.rows.length.toLocaleString()} row${said.rows.length === 1 ? "" : "s"}`;
  const told = paragraph(`${said.more ? `The first ${count}: there are more` : count}, ${said.seconds} s`, "note");
  told.setAttribute("role", "status");
  const around = document.createElement("div"), made = document.createElement("table");
  around.className = "scroll";
  around.tabIndex = 0;
  around.setAttribute("role", "region");
  around.setAttribute("aria-label", "Rows");
  made.className = "rows";
  const head = made.createTHead().insertRow();
  for (const column of said.columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = column.name;
    cell.title = column.type;
    if (NUMBERS.test(column.type)) cell.className = "number";
    head.append(cell);
  }
  const body = made.createTBody(), numbers = said.columns.map((column) => NUMBERS.test(column.type));
  for (const row of said.rows) {
    const line = body.insertRow();
    row.forEach((value, at) => {
      const cell = line.insertCell();
      if (numbers[at]) cell.className = "number";
      if (value === null) cell.classList.add("nothing");
      cell.textContent = value === null ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value);
    });
  }
  around.append(made);
  return [told, around];
}

customElements.define("sql-console", SqlConsole);
