// Runs in gr.HTML's js_on_load: asks for a token's layers where the button is pressed. Nothing is drawn here.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-look]");
  if (!button) return;
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  trigger("inside", JSON.parse(button.dataset.look));
});
