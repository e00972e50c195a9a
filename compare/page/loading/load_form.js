// Runs in gr.HTML's js_on_load: takes an adapter off. `element` stays while its children are replaced.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-unload]");
  if (!button || button.disabled) return;
  button.disabled = true;  // the next drawing brings another one, or none
  trigger("unload", { name: button.dataset.unload });
});
