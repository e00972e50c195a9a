() => {
  /* Who loaded an adapter: a secret that this browser keeps, and a tab where the browser keeps nothing. */
  const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  try {
    if (!localStorage.getItem("lens-loader")) localStorage.setItem("lens-loader", fresh());
    return localStorage.getItem("lens-loader");
  } catch {
    return (window.lensLoader ??= fresh());
  }
}
