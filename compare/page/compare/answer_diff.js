// What differs between two answers of the result, or of it and a run that was pinned; read after result.js, whose
// element and `server` it shares. Pinned runs and the two switches stay in this browser, the run in this tab alone.
const kept = (area, key, value) => {
  try {
    if (value === undefined) return window[area].getItem(key);
    return value === null ? window[area].removeItem(key) : window[area].setItem(key, value);
  } catch { return null; }
};
const readPinned = () => { try { return JSON.parse(kept("sessionStorage", "lens-pinned")); } catch { return null; } };
let pinned = readPinned(), picked = [null, null], comparing = 0;
const one = (selector) => element.querySelector(selector);
const isOn = (name) => element.hasAttribute(`data-${name}`);
const turn = (name, on) => {
  element.toggleAttribute(`data-${name}`, on);
  kept("localStorage", `lens-${name}`, on ? "1" : null);
};
for (const name of ["differ", "formatted"]) turn(name, Boolean(kept("localStorage", `lens-${name}`)));

const answered = () => [...element.querySelectorAll(".lens-col")].map((column) =>
  ({ name: column.dataset.name, text: column.querySelector(".lens-answer").dataset.text }));
const choices = () => [
  ...answered().map((column) => ({ ...column, key: `now ${column.name}`, shown: column.name })),
  ...(pinned?.columns ?? []).map((column) => ({ ...column, key: `pinned ${column.name}`, shown: `留着的 · pinned: ${column.name}` }))];
// What the visitor chose, as far as it is there; else a pinned answer and the same column's new one; else the first two.
const pair = (all) => {
  const last = pinned && answered().filter((a) => pinned.columns.some((p) => p.name === a.name)).pop()?.name;
  const usual = last === undefined || last === null ? all.map((c) => c.key) : [`pinned ${last}`, `now ${last}`];
  return picked.map((key, side) => all.find((c) => c.key === key) ?? all.find((c) => c.key === usual[side]) ?? all[side]);
};
const fill = (select, all, chosen) => {
  select.replaceChildren(...all.map((c) => new Option(c.shown, c.key, false, c.key === chosen.key)));
};
const compareTwo = async () => {
  const section = one(".lens-diff"), all = choices();
  if (!section) return;
  for (const name of ["differ", "formatted"]) one(`[data-action=${name}]`)?.setAttribute("aria-pressed", String(isOn(name)));
  if (one("[data-action=differ]")) one("[data-action=differ]").disabled = all.length < 2;
  section.hidden = !isOn("differ") || all.length < 2;
  one(".lens-pinned").hidden = !pinned;
  one(".lens-pinned q").textContent = pinned?.question ?? "";
  if (section.hidden || one('.lens-col[data-state="writing"]')) return;
  const two = pair(all), mine = ++comparing;
  two.forEach((chosen, side) => fill(one(`[data-pick="${side}"]`), all, chosen));
  let html = null;
  try { html = await server.differ(two.map((c) => c.text)); } catch { /* told below */ }
  if (mine !== comparing || !one(".lens-diff")) return;
  one(".lens-differences").innerHTML = html ?? "";
  one("[data-failed]").hidden = html !== null;
};
const pin = (run) => {
  pinned = run;
  picked = [null, null];
  kept("sessionStorage", "lens-pinned", run && JSON.stringify(run));
  if (run) turn("differ", true);
  compareTwo();
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]"), action = button?.dataset.action;
  if (action === "differ" || action === "formatted") { turn(action, !isOn(action)); compareTwo(); }
  else if (action === "pin") pin({ question: button.dataset.value, columns: answered() });
  else if (action === "unpin") pin(null);
  else if (action === "table") copy(button, button.dataset.value);
});
element.addEventListener("change", (event) => {
  if (!event.target.dataset.pick) return;
  picked[Number(event.target.dataset.pick)] = event.target.value;
  compareTwo();
});
watch("value", compareTwo);
compareTwo();
