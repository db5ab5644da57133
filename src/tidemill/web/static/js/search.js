// Ctrl-K: search everything. Arrow keys choose, Enter goes there.

/** @typedef {{kind: string, name: string, pipeline: string | null, table: string | null}} Hit */

/** Make the keys work; the dialog is in the page already. */
export function search() {
  const dialog = document.getElementById("search");
  if (!(dialog instanceof HTMLDialogElement)) return;
  const input = /** @type {HTMLInputElement} */ (dialog.querySelector("input"));
  const list = /** @type {HTMLElement} */ (dialog.querySelector("[role=listbox]"));
  let chosen = 0;
  /** @type {AbortController | null} */ let asked = null;

  const choose = (/** @type {number} */ at) => {
    const found = [...list.querySelectorAll("[role=option]")];
    chosen = found.length ? (at + found.length) % found.length : 0;
    found.forEach((one, place) => one.setAttribute("aria-selected", String(place === chosen)));
    found[chosen]?.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", found[chosen]?.id ?? "");
  };
  const ask = async () => {
    asked?.abort();
    asked = new AbortController();
    const text = input.value.trim();
    if (!text) { list.replaceChildren(); return; }
    try {
      const answer = await fetch(`/api/v1/search?q=${encodeURIComponent(text)}`, { signal: asked.signal });
      if (!answer.ok) return;
      /** @type {{hits: Hit[]}} */
      const { hits } = await answer.json();
      list.replaceChildren(...hits.map((item, at) => {
        const row = document.createElement("a"), kind = document.createElement("small");
        row.id = `found-${at}`;
        row.setAttribute("role", "option");
        row.href = place(item);
        const of = item.table ?? (["task", "run", "batch"].includes(item.kind) ? item.pipeline : null);
        kind.textContent = of ? `${item.kind} of ${of}` : item.kind;
        row.append(item.name, kind);
        return row;
      }));
      if (!hits.length) list.append("Nothing is called so.");
      choose(0);
    } catch { /* a newer question is on its way */ }
  };
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      dialog.showModal();
      input.select();
    }
  });
  document.querySelector("[data-search]")?.addEventListener("click", () => { dialog.showModal(); input.select(); });
  input.addEventListener("input", () => void ask());
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter") {
      event.preventDefault();
      const found = list.querySelectorAll("[role=option]")[chosen];
      if (found instanceof HTMLAnchorElement) location.href = found.href;
    }
  });
}

/**
 * The page of what was found.
 * @param {Hit} item
 */
function place(item) {
  const name = encodeURIComponent(item.name), pipeline = encodeURIComponent(item.pipeline ?? "");
  switch (item.kind) {
    case "pipeline": return `/pipelines/${name}`;
    case "task": return `/pipelines/${pipeline}?task=${name}`;
    case "table": return `/data/${name}`;
    case "run": return `/pipelines/${pipeline}?run=${name}`;
    case "batch": return `/batches/${name}`;
    case "check": return `/quality?table=${encodeURIComponent(item.table ?? "")}&name=${name}`;
    case "topic": return `/topics/${name}`;
    case "stream": return `/streams/${name}`;
    default: return `/branches/${item.name.split("/").map(encodeURIComponent).join("/")}`;
  }
}
