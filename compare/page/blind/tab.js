// Runs in gr.HTML's js_on_load: votes by button and key, another pair, the export. `element` stays while its children
// are replaced. Knows nothing of which side is which: that is on the server until the vote is kept.
const KEYS = { 1: "left", 2: "right", 3: "both", 4: "neither" };
const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "both", ArrowDown: "neither" };
const TYPES = { csv: "text/csv", jsonl: "application/x-ndjson", json: "application/json" };
const find = (selector) => element.querySelector(selector);
let sent = null, follow = false; // the ballot just voted on; does the focus go along to what comes next?

const vote = (choice) => {
  const ballot = find('.ballot[data-state="open"]');
  if (!ballot || sent === ballot.dataset.ballot) return;
  sent = ballot.dataset.ballot;
  follow = element.contains(document.activeElement);
  find(`[data-vote="${choice}"]`).setAttribute("aria-pressed", "true");
  trigger("vote", { choice, ballot: sent });
};
const another = () => {
  if (!find('.ballot:is([data-state="open"], [data-state="voted"], [data-state="problem"])')) return;
  follow = true;
  trigger("another");
};
const save = async (button) => {
  const kind = button.dataset.export;
  button.disabled = true;
  try {
    const text = await server.export(kind);
    const bom = kind === "csv" ? "\ufeff" : ""; // spreadsheets read UTF-8 only with it
    const url = URL.createObjectURL(new Blob([bom + text], { type: `${TYPES[kind]};charset=utf-8` }));
    Object.assign(document.createElement("a"), { href: url, download: `blind-votes.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  } finally {
    button.disabled = false;
  }
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-vote], [data-another], [data-export]");
  if (!button) return;
  if (button.dataset.vote) vote(button.dataset.vote);
  else if (button.dataset.export) save(button);
  else another();
});
const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]");
const pressed = (event) => {
  if (!element.isConnected) return document.removeEventListener("keydown", pressed);
  const away = element.offsetParent === null || typing(event.target); // another tab is in front, or text is written
  if (away || event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const arrow = event.target.closest?.(".choices") && ARROWS[event.key];
  const choice = KEYS[event.key] || arrow;
  if (choice) { event.preventDefault(); vote(choice); }
  else if (event.key.toLowerCase() === "n") another();
};
document.addEventListener("keydown", pressed);
watch("value", () => {
  const ballot = find(".ballot");
  if (ballot?.dataset.state === "open") sent = null;
  if (!follow || ballot?.dataset.state === "writing") return;
  follow = false;
  (ballot.dataset.state === "open" ? find(".choices") : find("[data-another]"))?.focus({ preventScroll: true });
});
