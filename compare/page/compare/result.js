// What the buttons in a result do; runs once, `element` stays while its children are patched in place.
// Sends nothing anywhere: copies, downloads and links are made from the attributes that result.html.jinja wrote.
const say = (button, done) => {
  const zh = document.documentElement.dataset.lang !== "en";
  button.dataset.said = done ? (zh ? "已复制" : "Copied") : (zh ? "无法复制" : "Cannot copy");
  setTimeout(() => delete button.dataset.said, 1600);
};
const copy = async (button, text) => {
  try {
    await navigator.clipboard.writeText(text);
    say(button, true);
  } catch {  // no clipboard outside https and localhost: the old way
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    say(button, document.execCommand("copy"));
    area.remove();
    button.focus();
  }
};
const download = (button) => {
  const url = URL.createObjectURL(new Blob([button.dataset.value], { type: "text/plain;charset=utf-8" }));
  Object.assign(document.createElement("a"), { href: url, download: button.dataset.name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};
// A rule of its own, as patching the columns would take a class off them.
const alone = document.head.appendChild(document.createElement("style"));
const focus = (index) => {
  if (element.dataset.focus === index) delete element.dataset.focus;
  else element.dataset.focus = index;
  press();
};
const press = () => {
  const index = element.dataset.focus;
  alone.textContent = index === undefined ? "" : `#result .lens-col:not([data-index="${Number(index)}"]) {display: none}`;
  for (const button of element.querySelectorAll('[data-action="focus"]'))
    button.setAttribute("aria-pressed", String(button.dataset.value === index));
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (!button) return;
  const { action, value } = button.dataset;
  if (action === "copy") copy(button, button.closest(".lens-col").querySelector(".lens-answer").dataset.text);
  else if (action === "link") copy(button, location.origin + location.pathname + value);
  else if (action === "download") download(button);
  else if (action === "focus") focus(value);
  else if (action === "remove") { delete element.dataset.focus; press(); trigger("dismiss", { index: Number(value) }); }
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && element.dataset.focus) focus(element.dataset.focus);
});
watch("value", () => {
  press();  // patching resets what only this script knows
  for (const answer of element.querySelectorAll('.lens-col[data-state="writing"] .lens-answer'))
    if (answer.scrollHeight - answer.scrollTop - answer.clientHeight < 120) answer.scrollTop = answer.scrollHeight;
});
