// Runs in gr.HTML's js_on_load of a hidden piece: its value, the query of what the visitor has set, becomes the page's
// address; where it is longer than an address can be, it stands in this tab's sessionStorage, and the address says so.
const longest = Number(element.querySelector("[data-longest]").dataset.longest);
const OURS = ["q", "i", "on", "n", "t", "p", "seed", "c", "s", "a", "kept"];
let waiting = 0, last = 0;
const write = () => {
  last = Date.now();
  const long = props.value.length > longest, others = new URLSearchParams(location.search);
  if (long) sessionStorage.setItem("lens-asked", props.value);
  else sessionStorage.removeItem("lens-asked");
  for (const name of OURS) others.delete(name);
  const all = [long ? "kept=1" : props.value, String(others)].filter(Boolean).join("&");
  history.replaceState(history.state, "", location.pathname + (all && `?${all}`) + location.hash);
};
watch("value", () => {
  clearTimeout(waiting);
  waiting = setTimeout(write, Math.max(0, last + 320 - Date.now()));  // Safari takes no more than 100 in 30 seconds
});
