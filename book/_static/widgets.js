// Between the widget bundle and this site; _config.yml loads it before the bundle, on the pages that have widgets.
// The bundle looks for its fonts below RequireJS's base, which is the page's folder unless told.
window.require = { baseUrl: new URL(".", document.currentScript.src).href };
// The bundle typesets through the Hub of MathJax 2, and the pages have MathJax 3.
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax) return;
  const typeset = (element) => MathJax.startup.promise.then(() => MathJax.typesetPromise([element]));
  MathJax.Hub = { Queue: ([, , element]) => { MathJax.startup.promise = typeset(element); } };
});
