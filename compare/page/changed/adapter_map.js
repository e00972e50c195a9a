// Runs in gr.HTML's js_on_load: a press on a layer's attention opens its heads, another press closes them.
const open = (layer) => {
  for (const button of element.querySelectorAll("[data-layer]"))
    button.setAttribute("aria-expanded", String(button.dataset.layer === layer));
  for (const panel of element.querySelectorAll("[data-heads]")) panel.hidden = panel.dataset.heads !== layer;
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-layer]");
  if (button) open(button.getAttribute("aria-expanded") === "true" ? null : button.dataset.layer);
});
