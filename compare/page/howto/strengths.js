// Runs in gr.HTML's js_on_load: the slider, or a press on a rung, picks which answer is shown large.
const slider = () => element.querySelector('#lens-strength');
const show = index => {
  const rungs = [...element.querySelectorAll('[data-i]')], rung = rungs[index];
  if (!rung) return;
  rungs.forEach(r => r.setAttribute('aria-pressed', String(r === rung)));
  const strength = rung.querySelector('b').textContent, mark = rung.querySelector('small');
  slider().value = index;
  slider().setAttribute('aria-valuetext', `${strength}: ${rung.querySelector('.said').textContent}`);
  element.querySelector('[data-now]').textContent = strength;
  element.querySelector('[data-mark]').replaceChildren(...(mark ? [...mark.cloneNode(true).childNodes] : []));
  element.querySelector('.now').textContent = rung.querySelector('.said').textContent;
  element.querySelector('.now').dataset.side = strength === '0' ? 'base' : 'adapted';
};
element.addEventListener('input', event => { if (event.target === slider()) show(Number(event.target.value)); });
element.addEventListener('click', event => {
  const rung = event.target.closest('[data-i]');
  if (rung) show(Number(rung.dataset.i));
});
// New answers have come and the template was drawn again: keep the visitor's choice.
watch('value', () => show(Number(slider().value)));
show(Number(slider().value));
