// Runs in gr.HTML's js_on_load: more questions, and what was open stays open when the table is drawn again.
const open = new Set();
element.addEventListener("toggle", (event) => {
  const index = event.target.dataset.index;
  if (event.target.open) open.add(index); else open.delete(index);
}, true);
element.addEventListener("click", (event) => {
  const more = event.target.closest("[data-more]");
  if (more) trigger("more", { shown: Number(more.dataset.more) });
});
watch("value", () => {
  for (const one of element.querySelectorAll("details")) one.open = open.has(one.dataset.index);
});
