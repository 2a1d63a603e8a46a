// Between the widget bundle and this site; _config.yml loads it before the bundle, on the pages that have widgets.
// The bundle looks for its fonts below RequireJS's base, which is the page's folder unless told.
window.require = { baseUrl: new URL(".", document.currentScript.src).href };
// The bundle typesets through the Hub of MathJax 2, and the pages have MathJax 3.
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax) return;
  const typeset = (element) => MathJax.startup.promise.then(() => MathJax.typesetPromise([element]));
  MathJax.Hub = { Queue: ([, , element]) => { MathJax.startup.promise = typeset(element); } };
});
// A slider is called what its label says and has the value that stands beside it, also for those who do not see either.
new MutationObserver(() => {
  for (const handle of document.querySelectorAll(".widget-slider .noUi-handle")) {
    const slider = handle.closest(".widget-slider");
    handle.setAttribute("aria-label", slider.querySelector(".widget-label").textContent);
    handle.setAttribute("aria-valuetext", slider.querySelector(".widget-readout").textContent);
  }
  letIn();
}).observe(document, { childList: true, subtree: true });
// The keyboard scrolls what it can reach: a picture that is wider than a phone lies in a box that scrolls.
function letIn() {
  for (const box of document.querySelectorAll(".widget-box")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}
addEventListener("resize", letIn);
// The pictures behind the controls are fetched when a reader first turns to one, so that none keeps the reader waiting.
document.addEventListener("focusin", function fetchAll({ target }) {
  if (!target.closest(".jupyter-widgets")) return;
  document.removeEventListener("focusin", fetchAll);
  const state = document.querySelector("script[type='application/vnd.jupyter.widget-state+json']").textContent;
  for (const [src] of state.matchAll(/[^"\\]+\.webp/g)) new Image().src = src;
});
