// Runs in gr.HTML's js_on_load: the closer look at one token of ribbon.py's ribbons, by hover, tap or arrow keys, and
// the switches of colour and scale. `element` stays while its children are replaced; all text goes in as text.
const SIDES = { base: ["原模型", "base"], adapted: ["适配后", "adapted"] };
const CLASSES = { unshifted: ["没变", "unshifted"], marginal: ["略变", "marginal"], shifted: ["变了", "shifted"] };
const make = (tag, name, ...children) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
};
const both = (zh, en) => {
  const spans = [make("span", "zh lang-zh", zh), make("span", "en lang-en", en)];
  spans[0].lang = "zh-CN"; spans[1].lang = "en";
  return make("span", "", ...spans);
};
const percent = (share) => share > 0 && share < 1e-6 ? "<0.0001%" : share >= .0995 ? `${Math.round(100 * share)}%`
  : `${Number(Number((100 * share).toPrecision(2)).toFixed(6))}%`;
const visible = (text) => text.replaceAll("\n", "⏎").replaceAll(" ", "␣") || "⋯";

let kept = { text: null, tokens: [] };  // the ribbon last read, so that its data are parsed once
const tokens = (ribbon) => {
  if (kept.text !== ribbon.dataset.tokens) kept = { text: ribbon.dataset.tokens, tokens: JSON.parse(ribbon.dataset.tokens) };
  return kept.tokens;
};
const bar = (text, share, chosen, end) => {
  const row = make("li", "", make("span", end ? "end" : "", visible(text)), make("b", "", percent(share)));
  row.style.setProperty("--p", share);
  if (chosen) { row.dataset.chosen = ""; row.firstChild.prepend(make("i", "", "✓ ")); }
  return row;
};
const model = (side, token) => {
  const view = token[side], list = make("ol", "", ...view.top.map((c) => bar(...c)));
  if (!view.top.some((c) => c[2])) {  // what was written is not among the five
    const row = bar(token.text, view.p, 1, token.end);
    row.classList.add("beyond");
    list.append(row);
  }
  const place = make("p", "fine", both(`这个 token 排第 ${view.rank}`, `this token ranks ${view.rank}`));
  const box = make("div", "model", make("h4", "", both(...SIDES[side])), place, list);
  box.dataset.side = side;
  return box;
};
const look = (chip, spoken) => {
  const ribbon = chip.closest(".ribbon"), side = ribbon.closest("[data-side]").dataset.side;
  const token = tokens(ribbon)[Number(chip.dataset.i)], number = Number(chip.dataset.i) + 1;
  for (const other of element.querySelectorAll(".ribbon [aria-current]")) other.removeAttribute("aria-current");
  for (const other of ribbon.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  chip.setAttribute("aria-current", "true");
  chip.tabIndex = 0;
  const written = make("strong", token.end ? "end" : "", visible(token.text));
  const badge = make("span", "badge", both(...CLASSES[token.class]));
  badge.dataset.class = token.class;
  const whose = both(`${SIDES[side][0]}的第 ${number} 个 token`, `token ${number} of the ${SIDES[side][1]} answer`);
  const facts = make("p", "fine facts", make("span", "", "KL ", make("b", "", Number(token.kl.toPrecision(2)).toString()), " nat"),
    make("span", "", both("想停", "wants to stop"), " ", percent(token.base.end), " → ", make("b", "", percent(token.adapted.end))));
  const head = make("header", "", written, badge, make("p", "fine", whose));
  element.querySelector(".look").replaceChildren(head,
    make("div", "models", model("base", token), model("adapted", token)), facts);
  if (spoken) element.querySelector(".spoken").textContent = Object.entries(SIDES).map(([name, [zh, en]]) =>
    `${zh} ${en}: #${token[name].rank}, ${percent(token[name].p)}; ${visible(token[name].top[0][0])} ${percent(token[name].top[0][1])}`).join(". ");
  for (const plot of element.querySelectorAll(".plot")) {
    const total = Number(plot.dataset.tokens);
    plot.classList.toggle("at", plot.dataset.side === side);
    plot.style.setProperty("--at", total > 1 ? (number - 1) / (total - 1) : .5);
  }
};
const chipOf = (event) => event.target.closest?.(".ribbon button");
element.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse" && chipOf(event)) look(chipOf(event)); });
element.addEventListener("focusin", (event) => { if (chipOf(event)) look(chipOf(event), true); });
element.addEventListener("click", (event) => { if (chipOf(event)) look(chipOf(event), true); });
element.addEventListener("keydown", (event) => {
  const chip = chipOf(event);
  if (!chip) return;
  const all = [...chip.closest(".ribbon").querySelectorAll("button")], at = Number(chip.dataset.i);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  all[Math.min(Math.max(next, 0), all.length - 1)].focus();
});
const along = (event) => {  // a curve: the token under the pointer
  const field = event.target.closest?.(".lines");
  if (!field) return;
  const box = field.getBoundingClientRect(), plot = field.closest(".plot"), last = Number(plot.dataset.tokens) - 1;
  const at = Math.round(last * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1));
  const chip = element.querySelector(`article[data-side="${plot.dataset.side}"] [data-i="${at}"]`);
  if (chip && !chip.hasAttribute("aria-current")) look(chip);
};
element.addEventListener("pointermove", along);
element.addEventListener("pointerdown", along);
element.addEventListener("change", (event) => {
  const kind = { "lens-colour": "colour", "lens-scale": "scale" }[event.target.name];
  if (kind) element.dataset[kind] = event.target.value;
});
const begin = () => {  // a new result: keep the visitor's switches, look at where the answers part
  for (const [name, kind] of [["lens-colour", "colour"], ["lens-scale", "scale"]])
    for (const radio of element.querySelectorAll(`[name="${name}"]`))
      if (element.dataset[kind]) radio.checked = radio.value === element.dataset[kind];
  for (const ribbon of element.querySelectorAll(".ribbon")) {
    const first = ribbon.querySelector("button");
    if (first) first.tabIndex = 0;
  }
  const parts = element.querySelector(".shift")?.dataset.parts || "0";
  const chip = element.querySelector(`article[data-side="adapted"] [data-i="${parts}"]`) || element.querySelector(".ribbon button");
  if (chip) look(chip);
};
watch("value", begin);
begin();
