// Runs in gr.HTML's js_on_load of a hidden piece: what turned_answer.py draws appears in the place that token_ribbon.js has opened
// beside the answer that was left. The drawing is escaped there; a place that is closed again gets nothing.
watch("value", () => {
  const place = document.querySelector("#changed-view .crossing:not([hidden])");
  if (!place) return;
  place.innerHTML = props.value;
  place.dispatchEvent(new Event("crossed", { bubbles: true }));
});
