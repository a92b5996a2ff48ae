// The page works without this: it takes Airflow's theme, keeps what goes on up to date, and opens rows in place.
"use strict";

function airflow() {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
}

function groundIn(outer) {
  for (let each = window.frameElement; each; each = each.parentElement) {
    const color = outer.getComputedStyle(each).backgroundColor;
    if (color !== "rgba(0, 0, 0, 0)") return color;
  }
  return null;
}

function takeTheme() {
  const outer = airflow();
  if (!outer) return;
  const root = outer.document.documentElement;
  const take = () => {
    const theme = ["dark", "light"].find((name) => root.classList.contains(name));
    if (theme) document.documentElement.dataset.theme = theme;
    document.documentElement.style.setProperty("--ground", groundIn(outer));
  };
  take();
  new MutationObserver(take).observe(root, { attributeFilter: ["class"] });
}

async function load(address, selector) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  const found = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector(selector);
  return found && document.importNode(found, true);
}

async function showRows(details) {
  if (!details.open || details.dataset.shown) return;
  details.dataset.shown = "yes";
  const rows = await load(details.dataset.src, "[data-fragment], .problem").catch(() => null);
  if (!rows) return void delete details.dataset.shown;
  details.querySelectorAll(":scope > :not(summary)").forEach((each) => each.remove());
  details.append(rows);
  if (rows.querySelector("[data-again]")) {
    delete details.dataset.shown;
    setTimeout(() => showRows(details), 1500);
  }
}

function isBusy(main) {
  return document.hidden || main.querySelector("details[open]") || main.contains(document.activeElement);
}

async function keepUpToDate() {
  const main = document.querySelector("main");
  if (!main.hasAttribute("data-live")) return;
  if (!isBusy(main)) {
    const newer = await load(location.pathname, "main").catch(() => null);
    if (newer && !isBusy(main)) main.replaceWith(newer);
  }
  setTimeout(keepUpToDate, 3000);
}

takeTheme();
document.addEventListener("toggle", (event) => event.target.dataset?.src && showRows(event.target), true);
// Airflow's UI lets no frame open a window, but does so itself.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-outside]");
  const outer = airflow();
  if (!link || !outer) return;
  event.preventDefault();
  const copy = outer.document.createElement("a");
  Object.assign(copy, { href: link.href, target: "_blank", rel: "noopener noreferrer" });
  copy.click();
});
if (document.querySelector("main > * [data-again]")) setTimeout(() => location.reload(), 2000);
setTimeout(keepUpToDate, 3000);
