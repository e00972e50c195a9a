// Runs in gr.HTML's js_on_load: a click on a chip makes its question the value and sends `pick`.
element.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-question]");
  if (chip) { props.value = chip.dataset.question; trigger("pick"); }
});
