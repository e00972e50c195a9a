// Runs in gr.HTML's js_on_load: measures on a press, shows what a cell says on hover, focus or tap, and moves by arrow
// keys; a second press on a cell follows its link. All texts are drawn by answer_map.html.jinja.
let pressed;  // the cell that a press has opened; hover and focus open cells too, of which nobody expects a new window
const show = (cell) => {
  if (cell !== pressed) pressed = null;
  for (const other of element.querySelectorAll("[data-part]")) other.toggleAttribute("data-on", other.dataset.part === cell.dataset.part);
  for (const other of cell.closest("table").querySelectorAll("[data-part]")) other.tabIndex = other === cell ? 0 : -1;
  for (const about of element.querySelectorAll("[data-about]")) about.hidden = about.dataset.about !== cell.dataset.part;
  const { side } = cell.closest("[data-side]").dataset;
  for (const onwards of element.querySelectorAll("[data-of]")) onwards.hidden = onwards.dataset.of !== side;
};
const press = (cell) => {
  const again = cell === pressed;
  show(cell);
  pressed = cell;
  if (again) element.querySelector("[data-about]:not([hidden]) [data-of]:not([hidden]) a")?.click();
};
const cellOf = (event) => event.target.closest?.("[data-part]");
element.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse" && cellOf(event)) show(cellOf(event)); });
element.addEventListener("focusin", (event) => { if (cellOf(event)) show(cellOf(event)); });
element.addEventListener("click", (event) => {
  const measure = event.target.closest("[data-measure]");
  if (cellOf(event)) press(cellOf(event));
  if (measure) {
    measure.disabled = true;
    measure.setAttribute("aria-busy", "true");
    trigger("measure", JSON.parse(measure.dataset.measure));
  }
});
element.addEventListener("keydown", (event) => {
  const cell = cellOf(event), step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  if (cell && event.key === "Enter" && event.repeat) event.preventDefault();  // held down it is one press
  if (!cell || !step) return;
  event.preventDefault();
  const place = cell.closest("td"), row = place.parentElement;
  const rows = [...row.parentElement.children], to = rows[rows.indexOf(row) + step[0]];
  to?.children[place.cellIndex + step[1]]?.querySelector("[data-part]")?.focus();
});
const begin = () => {  // one cell of each map can be reached by Tab
  for (const grid of element.querySelectorAll("table")) {
    const first = grid.querySelector("[data-part]");
    if (first) first.tabIndex = 0;
  }
};
watch("value", begin);
begin();
