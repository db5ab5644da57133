// The Lineage page: a table that is chosen in the graph opens its columns below it; of a column, its own page.

/** @param {string} name Ask the server for the columns of a table, as its own page has them. */
async function columnsOf(name) {
  const address = new URL("/lineage", location.href), place = document.getElementById("columns");
  address.searchParams.set("focus", name);
  const answer = await fetch(address);
  if (!answer.ok || !place) return;
  const made = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("columns");
  if (!made || document.getElementById("columns") !== place) return;
  place.replaceChildren(...made.childNodes);
  place.hidden = made.hidden;
}

document.addEventListener("tidemill:selected", (event) => {
  const graph = event.target instanceof Element ? event.target.closest("#lineage") : null;
  if (!graph || !(event instanceof CustomEvent)) return;
  const name = event.detail.task, chosen = graph.getAttribute("data-columns");
  if (chosen === null) void columnsOf(name);
  else if (name !== chosen) {
    const address = new URL(location.href);
    address.searchParams.set("column", name);
    location.assign(address);
  }
});
