// Chinese or English, by ?lang=, by the visitor's earlier choice, else by the browser. Loaded in <head>.
// Light or dark, by ?__theme= or the system (both Gradio's), or by the visitor's earlier choice.
// Our own HTML holds both languages and CSS shows one; what Gradio draws is exchanged by the table LABELS.
(() => {
  const root = document.documentElement, back = Object.fromEntries(Object.entries(LABELS).map(([zh, en]) => [en, zh]));
  const remember = (name, value) => {
    try { return value ? localStorage.setItem(name, value) : localStorage.getItem(name); } catch { return null; }
  };
  const address = new URLSearchParams(location.search);
  let theme = address.has("__theme") ? null : remember("lens-theme");
  const dim = () => {  // Gradio sets the class when it starts, and when the system's choice changes
    if (theme && document.body.classList.contains("dark") !== (theme === "dark")) document.body.classList.toggle("dark");
  };
  const asked = address.get("lang") || remember("lens-lang") || navigator.language || "zh";
  const other = (text) => {
    const word = text.trim(), found = (root.dataset.lang === "en" ? LABELS : back)[word];
    return found && found !== word ? text.replace(word, found) : null;
  };
  const exchange = (node) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const found = other(node.data);
      if (found && !node.parentElement?.closest(".lens-own")) node.data = found;
    } else if (node.nodeType === Node.ELEMENT_NODE && !node.matches(".lens-own, textarea, script, style")) {
      for (const name of ["aria-label", "placeholder", "title"]) {
        const found = node.hasAttribute(name) && other(node.getAttribute(name));
        if (found) node.setAttribute(name, found);
      }
      node.childNodes.forEach(exchange);
    }
  };
  const speak = (language) => {
    root.dataset.lang = language.toLowerCase().startsWith("zh") ? "zh" : "en";
    root.lang = root.dataset.lang === "zh" ? "zh-CN" : "en";
    if (document.body) exchange(document.body);
    for (const button of document.querySelectorAll("[data-speak]"))
      button.setAttribute("aria-pressed", button.dataset.speak === root.dataset.lang);
  };
  speak(asked);
  const watch = () => {
    speak(root.dataset.lang);
    dim();
    new MutationObserver(dim).observe(document.body, { attributeFilter: ["class"] });
    new MutationObserver((changes) => {
      for (const change of changes) {
        if (change.target.parentElement?.closest(".lens-own")) continue;
        change.addedNodes.forEach(exchange);
        if (change.type === "characterData") exchange(change.target);  // Gradio moves tabs in and out of its menu so
        if (change.type === "attributes" && change.target.nodeType === 1) {
          const found = other(change.target.getAttribute(change.attributeName) || "");
          if (found) change.target.setAttribute(change.attributeName, found);
        }
      }
      for (const button of document.querySelectorAll("[data-speak]:not([aria-pressed])")) speak(root.dataset.lang);
    }).observe(document.body, { childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: ["aria-label", "placeholder"] });
  };
  if (document.body) watch();
  else document.addEventListener("DOMContentLoaded", watch);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-speak], [data-dim]");
    if (button?.dataset.speak) { speak(button.dataset.speak); remember("lens-lang", root.dataset.lang); }
    else if (button) { remember("lens-theme", theme = document.body.classList.contains("dark") ? "light" : "dark"); dim(); }
  });
})();
