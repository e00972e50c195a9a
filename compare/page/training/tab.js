// Runs in gr.HTML's js_on_load: Stop and Resume of the training shown. `element` stays while its children are replaced.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.disabled) return;
  button.disabled = true; // the next drawing brings another one
  trigger(button.dataset.do === "stop" ? "stop" : "resume");
});
