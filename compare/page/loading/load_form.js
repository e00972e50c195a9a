// Runs in gr.HTML's js_on_load: takes an adapter off. `element` stays while its children are replaced.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-unload]");
  if (!button || button.disabled) return;
  button.disabled = true;  // for as long as a second press is likely; where it is refused the button stays
  setTimeout(() => { button.disabled = false; }, 1500);
  trigger("unload", { name: button.dataset.unload });
});
