"use strict";
(() => {
  const EVERY = 5000, PATIENCE = 10000;
  const note = document.getElementById("stale");
  // Without the user name and password that the address may hold: fetch refuses those.
  const here = new URL(location.pathname + location.search, location.origin);
  let good = new Date(), asking = false;

  const say = (words) => {
    if (note.textContent !== words) note.textContent = words;
    note.hidden = !words;
  };

  const swap = (html) => {
    const next = new DOMParser().parseFromString(html, "text/html");
    const main = next.querySelector("main"), old = document.querySelector("main");
    if (!main) throw new Error("it is not the page");
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const focused = active?.getAttribute("href");
    const fold = [...old.querySelectorAll("summary")].indexOf(active);
    const unfolded = [...old.querySelectorAll("details")].some((details) => details.open);
    for (const details of main.querySelectorAll("details")) details.open = unfolded;
    old.replaceWith(document.adoptNode(main));
    if (focused) document.querySelector(`main a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    if (fold >= 0) document.querySelectorAll("main summary")[fold]?.focus({ preventScroll: true });
    document.title = next.title;
    const icon = 'link[rel="icon"]';
    const drawn = next.querySelector(icon)?.href;
    if (drawn) document.querySelector(icon)?.setAttribute("href", drawn);
  };

  const ask = async () => {
    if (asking || document.hidden) return;
    // To copy it. What is marked would be gone with the old page.
    if (getSelection().type === "Range") {
      say(`Not refreshed while text is marked: as of ${good.toLocaleTimeString()}.`);
      return;
    }
    asking = true;
    try {
      const answer = await fetch(here, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`it is answered ${answer.status}`);
      swap(await answer.text());
      good = new Date();
      say("");
    } catch (error) {
      const why = error.name === "Error" ? error.message : "the receiver does not answer";
      say(`Stale since ${good.toLocaleTimeString()}: ${why}. What follows was true then.`);
      if (!document.title.startsWith("Stale")) document.title = `Stale · ${document.title}`;
    } finally {
      asking = false;
    }
  };

  setInterval(ask, EVERY);
  document.addEventListener("visibilitychange", ask);
})();
