// Runs in gr.HTML's js_on_load: the slider, play and the grid choose which checkpoint's answer is shown large and where
// the marker stands on the loss curve. `element` stays while its children are replaced; all text goes in as text.
const SEGMENT = 1400; // ms from one checkpoint to the next while playing
const find = (selector) => element.querySelector(selector);
const slider = () => find("#lens-step");
let strength = "1", playing = null, seen = null; // the chosen strength, the frame asked for, where the slider was

const along = (place) => { // the step at a place among the checkpoints
  const steps = JSON.parse(slider().dataset.steps), i = Math.min(Math.floor(place), steps.length - 2);
  return Math.round(steps[i] + (place - i) * (steps[i + 1] - steps[i]));
};
const height = (place) => { // [per cent from the top, loss] of the curve, between two of its points
  const points = JSON.parse(find(".plot").dataset.points);
  if (!points.length) return null;
  let i = points.findIndex((point) => point[0] >= place);
  if (i < 0) i = points.length - 1;
  const [b, a] = [points[i], points[Math.max(i - 1, 0)]], share = b[0] > a[0] ? (place - a[0]) / (b[0] - a[0]) : 0;
  const t = Math.min(Math.max(share, 0), 1);
  return [a[1] + t * (b[1] - a[1]), a[2] + t * (b[2] - a[2])];
};
const shown = (place) => {
  const i = Math.floor(place + 1e-6);
  return find(`[data-i="${i}"][data-strength="${i ? strength : "base"}"]`);
};
const place = (at) => {
  const last = Number(slider().max), where = `${(100 * at) / last}%`, loss = height(at);
  slider().value = at;
  for (const part of element.querySelectorAll(".rule, .marker")) part.style.left = where;
  const marker = find(".marker");
  if (marker && loss) marker.style.top = `${loss[0]}%`;
  find("[data-loss]").textContent = loss ? loss[1].toFixed(loss[1] < 1 ? 3 : 2) : "";
  find("[data-step]").textContent = along(at).toLocaleString("en");
};
const show = (at) => {
  seen = at;
  place(at);
  const chosen = shown(at);
  for (const cell of element.querySelectorAll(".cell")) {
    cell.setAttribute("aria-pressed", String(cell === chosen));
    cell.tabIndex = cell === chosen ? 0 : -1; // one stop for Tab, arrows go on from there
  }
  for (const radio of element.querySelectorAll("[name=lens-film]")) radio.checked = radio.value === strength;
  const said = chosen.querySelector(".said").textContent, now = find(".now");
  if (now.textContent !== said) now.textContent = said;
  now.dataset.side = chosen.dataset.i === "0" ? "base" : "adapted";
  find("[data-marks]").replaceChildren(...[...chosen.querySelector(".marks").children].map((m) => m.cloneNode(true)));
  slider().setAttribute("aria-valuetext", `${along(at)}: ${said}`);
};
const label = () => find("[data-play]").setAttribute("aria-pressed", String(playing !== null));
const stop = () => { cancelAnimationFrame(playing); playing = null; label(); };
const play = () => {
  const last = Number(slider().max), calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let from = Number(slider().value);
  if (from >= last) from = 0;
  let began = null;
  const frame = (now) => {
    began ??= now;
    const at = Math.min(from + (now - began) / SEGMENT, last);
    show(calm ? Math.floor(at) : at);
    if (at >= last || !element.isConnected) stop();
    else playing = requestAnimationFrame(frame);
  };
  playing = requestAnimationFrame(frame);
  label();
};
const choose = (cell) => {
  stop();
  if (cell.dataset.strength !== "base") strength = cell.dataset.strength;
  show(Number(cell.dataset.i));
};
element.addEventListener("input", (event) => {
  if (event.target === slider()) { stop(); show(Number(slider().value)); }
  else if (event.target.name === "lens-film") { strength = event.target.value; show(Number(slider().value)); }
});
element.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (cell) choose(cell);
  else if (event.target.closest("[data-play]")) playing === null ? play() : stop();
});
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
element.addEventListener("keydown", (event) => {
  const way = WAYS[event.key], cell = event.target.closest(".cell");
  if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target === slider()) { // from checkpoint to checkpoint
    const at = Number(slider().value), up = way[0] - way[1] > 0, next = up ? Math.floor(at + 1.001) : Math.ceil(at - 1.001);
    event.preventDefault();
    stop();
    show(Math.min(Math.max(next, 0), Number(slider().max)));
  } else if (cell) {
    const strengths = [...element.querySelectorAll("[name=lens-film]")].map((radio) => radio.value);
    const row = Math.min(Math.max(strengths.indexOf(strength) + way[1], 0), strengths.length - 1);
    event.preventDefault();
    strength = strengths[row];
    stop();
    show(Math.min(Math.max(Number(cell.dataset.i) + way[0], 0), Number(slider().max)));
    find('.cell[aria-pressed="true"]').focus();
  }
});
// New answers have come and the template was drawn again: keep the visitor's place.
watch("value", () => { show(seen ?? Number(slider().value)); label(); });
show(Number(slider().value));
