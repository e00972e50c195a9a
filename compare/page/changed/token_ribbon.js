// Runs in gr.HTML's js_on_load: the closer look at one token of the ribbons, by hover, tap or arrow keys, where
// an answer is turned, and the switches of colour and scale. `element` stays while its children are replaced; all text goes in as text.
const SIDES = { base: ["原模型", "base"], adapted: ["适配后", "adapted"] };
const WHOSE = { ...SIDES, crossed: ["改道后", "crossed"] };
const CLASSES = { unshifted: ["没变", "unshifted"], marginal: ["略变", "marginal"], shifted: ["变了", "shifted"] };
const make = (tag, name, ...children) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
};
const both = (zh, en) => {
  const spans = [make("span", "lang-zh", zh), make("span", "lang-en", en)];
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
const bar = ([text, share, chosen, end, id], side, own) => {
  const word = make("span", end ? "end" : "", visible(text)), parts = [word, make("b", "", percent(share))];
  const row = make("li", "");
  if (end || (chosen && own)) row.append(...parts);  // what was written anyway, or an end, after which nothing comes
  else {
    const button = make("button", "force", ...parts), [zh, en] = SIDES[side];
    Object.assign(button, { type: "button", title: `写“${visible(text)}”，由${zh}接着写 · Write this; the ${en} model goes on` });
    Object.assign(button.dataset, { id, by: side });
    row.append(button);
  }
  row.style.setProperty("--p", share);
  if (chosen) { row.dataset.chosen = ""; word.prepend(make("i", "", "✓ ")); }
  return row;
};
const model = (side, token, writer) => {
  const view = token[side], list = make("ol", "", ...view.top.map((c) => bar(c, side, side === writer)));
  if (!view.top.some((c) => c[2])) {  // what was written is not among the five
    const row = bar([token.text, view.p, 1, token.end, token.id], side, side === writer);
    row.classList.add("beyond");
    list.append(row);
  }
  const place = make("p", "fine", both(`这个 token 排第 ${view.rank}`, `this token ranks ${view.rank}`));
  const box = make("div", "model", make("h4", "", both(...SIDES[side])), place, list);
  box.dataset.side = side;
  return box;
};
const onwards = (writer, token) => {  // the button by which the other model goes on
  const other = writer === "base" ? "adapted" : "base", [zh, en] = SIDES[other];
  const button = make("button", "onwards", both(`${token.end ? "先别停" : "从这里起"}，换${zh}写`,
    token.end ? `Don’t stop: let the ${en} model go on` : `Let the ${en} model go on from here`));
  Object.assign(button, { type: "button" }).dataset.by = other;
  return button;
};
const inside = () => {  // the button by which this token is looked at layer by layer
  const button = make("button", "onwards", both("一层一层看这个 token", "This token, layer by layer"));
  Object.assign(button, { type: "button" }).dataset.inside = "";
  return button;
};
let seen = null;  // the token looked at: all of its ribbon, its index, and of which side's answer it is or was turned
const look = (chip, spoken) => {
  const ribbon = chip.closest(".ribbon"), side = ribbon.closest("[data-side]").dataset.side;
  const token = tokens(ribbon)[Number(chip.dataset.i)], number = Number(chip.dataset.i) + 1;
  const writer = ribbon.closest("article").dataset.by || side, turned = ribbon.closest(".crossing");
  seen = { all: tokens(ribbon), at: number - 1, of: turned ? turned.dataset.of : side, again: Boolean(turned) };
  for (const other of element.querySelectorAll(".ribbon [aria-current]")) other.removeAttribute("aria-current");
  for (const other of ribbon.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  chip.setAttribute("aria-current", "true");
  chip.tabIndex = 0;
  const written = make("strong", token.end ? "end" : "", visible(token.text));
  const badge = make("span", "badge", both(...CLASSES[token.class]));
  badge.dataset.class = token.class;
  const whose = both(`${WHOSE[side][0]}的第 ${number} 个 token`, `token ${number} of the ${WHOSE[side][1]} answer`);
  const facts = make("p", "fine facts", make("span", "", "KL ", make("b", "", Number(token.kl.toPrecision(2)).toString()), " nat"),
    make("span", "", both("想停", "wants to stop"), " ", percent(token.base.end), " → ", make("b", "", percent(token.adapted.end))));
  const head = make("header", "", written, badge, make("p", "fine", whose));
  element.querySelector(".look").replaceChildren(head,
    make("div", "models", model("base", token, writer), model("adapted", token, writer)), facts,
    make("div", "go", onwards(writer, token), ...(element.querySelector(".shift[data-inside]") ? [inside()] : [])));
  if (spoken) element.querySelector(".spoken").textContent = Object.entries(SIDES).map(([name, [zh, en]]) =>
    `${zh} ${en}: #${token[name].rank}, ${percent(token[name].p)}; ${visible(token[name].top[0][0])} ${percent(token[name].top[0][1])}`).join(". ");
  for (const plot of element.querySelectorAll(".plot")) {
    const total = Number(plot.dataset.tokens);
    plot.classList.toggle("at", plot.dataset.side === side);
    plot.style.setProperty("--at", total > 1 ? (number - 1) / (total - 1) : .5);
  }
};
const chipOf = (event) => event.target.closest?.(".ribbon button");
let pinned = false;  // by a click, so that the mouse can reach the closer look; another click or Escape lets go
const pin = (to) => { pinned = to; element.querySelector(".look")?.toggleAttribute("data-pinned", to); };
element.addEventListener("pointerover", (event) => {
  if (event.pointerType === "mouse" && !pinned && chipOf(event)) look(chipOf(event));
});
element.addEventListener("focusin", (event) => { if (chipOf(event)) look(chipOf(event), true); });
element.addEventListener("click", (event) => {
  const chip = chipOf(event), turn = event.target.closest?.(".look [data-by]");
  if (chip) { pin(!(pinned && chip.dataset.pinned)); mark(chip); look(chip, true); }
  else if (turn) cross(turn);
  else if (event.target.closest?.(".look [data-inside]")) {
    trigger("inside", { ...JSON.parse(element.querySelector(".shift").dataset.asked), ids: seen.all.map((token) => token.id), at: seen.at });
    document.querySelector("#changed-layers")?.scrollIntoView({ block: "start" });
  }
  else if (event.target.closest?.("[data-close]")) { close(); trigger("halt"); }
});
const mark = (chip) => {  // which one a second click lets go of
  for (const other of element.querySelectorAll("[data-pinned]:not(.look)")) delete other.dataset.pinned;
  if (pinned) chip.dataset.pinned = "1";
};
const close = () => {
  for (const place of element.querySelectorAll(".crossing")) { place.hidden = true; place.replaceChildren(); }
  for (const chip of element.querySelectorAll("[data-turn]")) delete chip.dataset.turn;
};
let unseen = false;  // a place was opened, and nothing drawn in it yet
const cross = ({ dataset: { id, by } }) => {  // a token is forced where there is an id, else the one looked at stays
  const { all, at, of, again } = seen, stays = id === undefined && !all[at].end;
  const ids = all.slice(0, at + stays).map((token) => token.id), kept = ids.length;
  if (id !== undefined) ids.push(Number(id));
  const place = element.querySelector(`.crossing[data-of="${of}"]`);
  if (!again) {
    close();
    place.previousElementSibling.querySelector(`[data-i="${kept}"]`)?.setAttribute("data-turn", "");
  }
  place.hidden = false;
  unseen = true;
  trigger("cross", { ...JSON.parse(element.querySelector(".shift").dataset.asked), ids, kept, by,
    asked_at: performance.now() });
};
element.addEventListener("crossed", (event) => {  // turned_answer.js has drawn
  const place = event.target, first = place.querySelector(".ribbon button");
  if (first) first.tabIndex = 0;
  // On a narrow page the closer look lies over the lower part.
  if (unseen) place.scrollIntoView({ block: matchMedia("(max-width: 980px)").matches ? "start" : "nearest" });
  unseen = false;
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape") pin(false);
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
  pinned = false;
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
