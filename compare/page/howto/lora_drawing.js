// Runs in gr.HTML's js_on_load: moves the picture and the figures of lora_drawing.html.jinja with rank, modules and step.
const box = element.querySelector('.explorer');
const put = (name, text) => box.querySelectorAll(`[data-n="${name}"]`).forEach(e => { e.textContent = text; });
const human = size => {
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (size < 999.5) return `${Number(size.toPrecision(3))} ${unit}`;
    size /= 1000;
  }
  return `${Number(size.toPrecision(3))} TB`;
};
const thicken = r => {
  const thick = Math.min(30, Math.max(1.5, r * Number(box.dataset.thick)));
  const a = box.querySelector('rect[data-n="a"]'), b = box.querySelector('rect[data-n="b"]');
  a.setAttribute('y', 140 - thick); a.setAttribute('height', thick);
  box.querySelector('[data-n=x-a]').setAttribute('d', `M174 44C174 76 300 64 300 ${134 - thick}`);
  b.setAttribute('x', 252 - thick); b.setAttribute('width', thick);
};
const draw = () => {
  const rank = box.querySelector('#lens-rank'), r = Number(rank.value);
  const base = Number(box.dataset.base), wide = Number(box.dataset.in);
  let each = 0;
  box.querySelectorAll('input[name=module]:checked').forEach(m => { each += Number(m.dataset.each); });
  const trainable = r * each, share = trainable / (base + trainable);
  rank.setAttribute('aria-valuetext', `r = ${r}`);
  put('rank', r); put('r', r); put('a-size', `${r}×${wide}`); put('b-size', `${box.dataset.out}×${r}`);
  put('trainable', trainable.toLocaleString('en-US'));
  put('share', `${(100 * share).toFixed(2)}%`);
  put('file', human(4 * trainable)); put('train', human(2 * base + 16 * trainable));
  box.querySelector('[data-n=bar]').style.width = `${100 * share}%`;
  thicken(r);
};
element.addEventListener('input', event => {
  if (event.target.name === 'lens-step') box.querySelector('figure').dataset.step = event.target.value;
  else draw();
});
