// Runs in gr.HTML's js_on_load: the list of columns as fields to change. The value is the list as JSON, as AskedColumn
// (shared/column_list.py) reads it; every change makes it anew and sends `input`. The server sends `value` to set it,
// and tells by `server.loaded_adapters()` what is loaded at the moment.
const list = element.querySelector("ol"), blank = element.querySelector("template").content.firstElementChild;
const KEYS = ["name", "adapter", "strength", "prompt", "layers", "modules"], NONE = "";
let loaded = [], ready;
const rows = () => [...list.children];
const field = (row, key) => row.querySelector(`[data-key="${key}"]`);
const say = (zh, en) => {
  element.querySelector('[role="status"]').textContent = document.documentElement.dataset.lang === "en" ? en : zh;
};
const offer = (row) => {
  const select = field(row, "adapter"), chosen = select.value;
  const names = chosen && !loaded.includes(chosen) ? [...loaded, chosen] : loaded;  // what a link names stays
  select.replaceChildren(new Option("原模型 · base", NONE), ...names.map((name) => new Option(name, name)));
  select.value = chosen;
};
const read = (row) => {
  const column = Object.fromEntries(KEYS.map((key) => [key, field(row, key).value.trim()]));
  column.strength = Number(column.strength);
  return column.adapter === NONE ? { name: column.name, adapter: null, prompt: column.prompt } : column;
};
// Layers and modules in a column's name, as the server writes them: `0,3-5` for what was typed as "3-5, 0". What it
// would refuse stays as it is typed.
const shown = (layers) => {
  const typed = layers.split(",").map((text) => text.trim());
  if (!typed.every((text) => /^\d{1,4}(-\d{1,4})?$/.test(text))) return layers;
  const numbers = typed.flatMap((text) => {
    const [first, last = first] = text.split("-").map(Number);
    return Array.from({ length: Math.max(last - first + 1, 0) }, (_, i) => first + i);
  });
  const runs = [];
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    if (runs.at(-1)?.[1] === number - 1) runs.at(-1)[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => first === last ? first : `${first}-${last}`).join(",");
};
const part = ({ layers, modules }) => {
  const named = [...new Set(modules.split(",").map((name) => name.trim()).filter(Boolean))].join(",");
  const parts = [layers && `layers ${shown(layers)}`, named].filter(Boolean).join(", ");
  return parts && ` [${parts}]`;
};
// What follows from a row's fields: its number, what it is called unless it has a name, which fields it needs.
const settle = () => rows().forEach((row, i) => {
  const column = read(row), { adapter, strength, prompt } = column;
  if (adapter === null) field(row, "strength").value = 1;  // out of sight, and so no fault
  row.querySelector("[data-number]").textContent = i + 2;
  row.toggleAttribute("data-base", adapter === null);
  field(row, "name").placeholder =
    (adapter === null ? "base" : (strength === 1 ? adapter : `${adapter}@${strength}`) + part(column))
    + (prompt === "plain" ? ", plain prompt" : "");
  row.querySelector('[data-do="up"]').disabled = i === 0;
  row.querySelector('[data-do="down"]').disabled = i === list.children.length - 1;
});
const made = (column) => {
  const row = blank.cloneNode(true), all = { strength: 1, prompt: "chat", ...column };
  field(row, "adapter").add(new Option(all.adapter || NONE));
  for (const key of KEYS) field(row, key).value = all[key] ?? "";
  row.querySelector("details").open = Boolean(all.layers || all.modules);
  offer(row);
  return row;
};
const draw = () => {
  list.replaceChildren(...JSON.parse(props.value || "[]").map(made));
  settle();
};
const send = () => {
  settle();
  const wrong = element.querySelector("ol :invalid:not(fieldset)");
  if (wrong) return wrong.reportValidity();
  props.value = JSON.stringify(rows().map(read));
  trigger("input");
};
const place = (row) => {
  const at = rows().indexOf(row) + 2;
  say(`现在是第 ${at} 列`, `now column ${at}`);
};
const move = (row, up) => {
  const beside = up ? row.previousElementSibling : row.nextElementSibling;
  if (!beside) return;
  const held = row.contains(document.activeElement) ? document.activeElement : null;
  beside[up ? "before" : "after"](row);
  settle();
  (held?.disabled ? row.querySelector(".does button:enabled") : held)?.focus();
  place(row);
  send();
};
const remove = (row) => {
  const next = row.nextElementSibling || row.previousElementSibling;
  row.remove();
  (next?.querySelector('[data-do="remove"]') || element.querySelector("[data-add]")).focus();
  say("去掉了一列", "one column was removed");
  send();
};
const add = (row, after) => {
  after ? after.after(row) : list.append(row);
  field(row, "name").focus();
  settle();
  place(row);
  send();
};
// The base in plain text, or the first adapter at half its strength, if there is one. Both wait for what is loaded, so
// that columns come in the order in which they were added.
const fresh = async (kind) => {
  await ready;
  return kind === "plain" || !loaded.length ? { prompt: "plain" } : { adapter: loaded[0], strength: 0.5 };
};
element.addEventListener("click", async (event) => {
  const button = event.target.closest("button"), row = button?.closest("li"), action = button?.dataset.do;
  if (button?.dataset.add) add(made(await fresh(button.dataset.add)));
  else if (action === "copy") add(made({ ...read(row), name: "" }), row);
  else if (action === "remove") remove(row);
  else if (action) move(row, action === "up");
});
list.addEventListener("change", send);
list.addEventListener("keydown", (event) => {
  const up = event.key === "ArrowUp";
  if (!event.altKey || !(up || event.key === "ArrowDown")) return;
  event.preventDefault();
  move(event.target.closest("li"), up);
});
// The list captures the pointer, not the grip: a node that is moved loses it.
list.addEventListener("pointerdown", (event) => {
  const row = event.target.closest(".grip")?.closest("li"), before = rows().indexOf(row);
  if (!row) return;
  event.preventDefault();
  list.setPointerCapture(event.pointerId);
  row.toggleAttribute("data-held", true);
  const drag = ({ clientY: y }) => {
    const over = rows().find((other) => {
      const { top, bottom } = other.getBoundingClientRect();
      return other !== row && y > top && y < bottom;
    });
    if (over) over[rows().indexOf(over) < rows().indexOf(row) ? "before" : "after"](row);
  };
  list.addEventListener("pointermove", drag);
  list.addEventListener("lostpointercapture", () => {
    list.removeEventListener("pointermove", drag);
    row.toggleAttribute("data-held", false);
    if (rows().indexOf(row) !== before) { place(row); send(); }
  }, { once: true });
});
// A training adds adapters while the page is open: asked again whenever the list comes to be seen.
const refresh = async () => {
  loaded = await server.loaded_adapters().catch(() => loaded);
  rows().forEach(offer);
};
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) ready = refresh();
}).observe(element);
watch("value", draw);
draw();
ready = refresh();
