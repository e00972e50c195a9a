// A line at the top of the page while something is wrong with what answers: asked of /health, in STATES' words.
// Asked every EVERY ms while the page is looked at, when it is looked at again, and soon after no answer came.
// Behind a proxy that was not named to it, the page may take another address for its own, and asks there in vain.
(() => {
  const EVERY = 12000, SOON = 3000, PATIENCE = 2;  // fetches that fail in a row before it is said
  const at = () => new URL("health", document.baseURI);
  let failed = 0, waiting = 0, closed = "";
  const line = () => {
    let found = document.getElementById("lens-notice");
    if (!found) {
      found = document.createElement("div");
      found.id = "lens-notice";
      found.className = "lens-own";
      found.setAttribute("role", "status");
      found.setAttribute("aria-live", "polite");
      document.body.prepend(found);
    }
    return found;
  };
  const say = (state, key) => {
    const found = line();
    if (found.dataset.state === state) return;
    found.dataset.state = state;
    found.innerHTML = key !== closed && STATES[state] || "";  // our own words, escaped where they were written
    const button = found.querySelector("button");
    if (button) button.onclick = () => { closed = key; found.innerHTML = ""; };
  };
  const look = async () => {
    try {
      const answer = await fetch(at(), { cache: "no-store", credentials: "same-origin" });
      if (!answer.headers.get("content-type")?.includes("json")) throw new Error("no word of the page's health");
      const { model_thread: thread } = await answer.json();
      failed = 0;
      say(thread.state, `${thread.state} ${thread.restarts}`);
    } catch {
      failed += 1;
      if (failed >= PATIENCE) say("away", "away");
    }
  };
  const again = async () => {
    clearTimeout(waiting);
    if (!document.hidden) await look();
    clearTimeout(waiting);
    waiting = setTimeout(again, failed ? SOON : EVERY);
  };
  const path = (url) => url.pathname.replace(/\/+$/, "");
  const begin = () => {
    const root = new URL(window.gradio_config?.root || "./", document.baseURI);
    line();
    if (root.hostname === location.hostname && path(root) === path(location)) {
      document.addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
      addEventListener("online", again);
      return again();
    }
    say("astray", "astray");
    line().querySelector("[data-here]").textContent = location.origin + path(location);
    line().querySelector("[data-root]").textContent = root.origin + path(root);
  };
  if (document.readyState === "complete") begin();
  else addEventListener("load", begin);  // what is asked first is the page itself
})();
