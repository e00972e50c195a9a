// Runs in gr.HTML's js_on_load: takes an adapter off, and lets the link to it keep what the visitor has set.
// `element` stays while its children are replaced.
element.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-column]"), asked = new URLSearchParams(location.search);
  if (!link || !asked.has("q")) return;  // nothing is set that the link has not
  const listed = asked.get("c") ?? new URLSearchParams(link.search).get("c"), all = listed.split(";").filter(Boolean);
  if (!all.includes(link.dataset.column)) all.push(link.dataset.column);
  asked.set("c", all.join(";"));
  link.search = asked;
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-unload]");
  if (!button || button.disabled) return;
  button.disabled = true;  // for as long as a second press is likely; where it is refused the button stays
  setTimeout(() => { button.disabled = false; }, 1500);
  trigger("take_off", { name: button.dataset.unload });
});
