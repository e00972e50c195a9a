// Runs in gr.HTML's js_on_load: Stop, Resume, Download and Delete of the training shown. `element` stays while its children are replaced.
const KNOWN = ["stop", "resume", "pack", "remove"];
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.disabled) return;
  const what = KNOWN.find((name) => name === button.dataset.do);
  if (!what || (what === "remove" && !confirm(button.dataset.sure))) return;
  if (what !== "pack") button.disabled = true; // the next drawing brings another one
  trigger(what);
});
