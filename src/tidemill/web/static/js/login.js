// Sends the login as JSON, which no other site's form can, and goes on to the page that was asked for.

const form = /** @type {HTMLFormElement} */ (document.getElementById("login"));
const said = /** @type {HTMLElement} */ (form.querySelector("[role=alert]"));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = new FormData(form);
  said.textContent = "";
  try {
    const answer = await fetch("/login", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user: data.get("user"), password: data.get("password") }),
    });
    if (answer.ok) location.href = next();
    else said.textContent = (await answer.json()).detail;
  } catch {
    said.textContent = "The server does not answer.";
  }
});

/** The page that was asked for: only one of this server. */
function next() {
  const asked = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return asked.origin === location.origin ? asked.pathname + asked.search : "/";
}
