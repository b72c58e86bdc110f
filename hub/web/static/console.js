// What the pages do on top of links and forms: keys, live figures, "3 new". Without it everything still works.
(() => {
  "use strict";
  const $ = (css, root = document) => root.querySelector(css);
  const all = (css, root = document) => [...root.querySelectorAll(css)];
  const typing = e => /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName) || e.ctrlKey || e.metaKey || e.altKey;

  // ---- keys
  const rows = () => all("tr.msg");
  let at = -1;
  const go = step => {
    const list = rows();
    if (!list.length) { $(`[data-key=${step > 0 ? "j" : "k"}]`)?.click(); return; }
    list[at]?.classList.remove("at");
    at = Math.max(0, Math.min(list.length - 1, at + step));
    list[at].classList.add("at");
    $("a.open", list[at]).focus({ preventScroll: true });
    list[at].scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", e => {
    if (e.key === "Escape") {
      if (e.target.id === "q") e.target.blur();
      else $("[data-escape]")?.click();
      return;
    }
    if (typing(e)) return;
    if (e.key === "/") { const q = $("#q"); if (q) { e.preventDefault(); q.focus(); q.select(); } }
    else if (e.key === "j") go(1);
    else if (e.key === "k") go(-1);
    else if (e.key === "u") $("[data-up]")?.click();
  });
  document.addEventListener("dblclick", e => {
    const row = e.target.closest("tr.msg");
    if (row && !e.target.closest("a")) $("a.open", row).click();
  });

  $("#act #reason")?.focus();

  // ---- live: one question at a time, none while the page is hidden
  const every = (seconds, ask, sign) => {
    let timer = 0, failed = 0, paused = false;
    const word = sign && $("[data-word]", sign), fresh = word?.textContent;
    const told = (ok, time) => {
      if (!sign) return;
      sign.classList.toggle("live", ok && !paused);
      sign.classList.toggle("stale", !ok);
      word.textContent = ok ? fresh : sign.dataset.stale;
      if (ok && time) $("[data-at]", sign).textContent = time;
    };
    const turn = async () => {
      clearTimeout(timer);
      if (document.hidden || paused) return;
      try { told(true, await ask()); failed = 0; } catch (error) { if (error === "over") return; failed += 1; told(false); }
      timer = setTimeout(turn, 1000 * Math.min(60, seconds * 2 ** failed));
    };
    document.addEventListener("visibilitychange", turn);
    timer = setTimeout(turn, 1000 * seconds);
    told(true);
    return { pause: () => { paused = !paused; told(true); if (!paused) turn(); return paused; } };
  };
  const get = async (url, type) => {
    const answer = await fetch(url, { headers: { Accept: type }, credentials: "same-origin", cache: "no-store", redirect: "error" });
    if (answer.status === 401) { location.reload(); throw "over"; }
    if (!answer.ok) throw new Error(answer.status);
    return type.endsWith("json") ? answer.json() : new DOMParser().parseFromString(await answer.text(), "text/html");
  };
  const swap = (from, id) => {
    const next = from.getElementById(id), old = document.getElementById(id);
    if (!next || !old || old.innerHTML === next.innerHTML || old.contains(document.activeElement)) return;
    old.replaceWith(document.adoptNode(next));
  };

  const home = $("[data-swap]");
  if (home) every(Number(home.dataset.every), async () => {
    const page = await get(home.dataset.swap, "text/html");
    const time = $("[data-now]", page)?.textContent;
    swap(page, "live");
    return time;
  }, home);

  const parts = document.body.dataset.parts;
  if (parts) every(2, async () => {
    const page = await get(parts, "text/html");
    for (const id of ["standing", "story", "deliveries"]) swap(page, id);
  });

  const list = $("[data-live]");
  if (list) {
    const banner = $("[data-new]"), button = $("[data-pause]", list);
    const live = every(2, async () => {
      const open = all("tr[data-open]").map(row => row.dataset.open).join(",");
      const news = await get(`${list.dataset.live}&open=${open}`, "application/json");
      banner.hidden = !news.new;
      if (news.new && $("a", banner).textContent !== news.label) $("a", banner).textContent = news.label;
      for (const [id, row] of Object.entries(news.rows)) {
        const shown = document.getElementById(`m-${id}`);
        if (!shown) continue;
        for (const name of ["state", "deliveries"]) {
          const cell = $(`[data-cell=${name}]`, shown);
          if (row[name] && cell.dataset.was !== row[name]) {
            if (cell.dataset.was) shown.classList.add("changed");
            cell.dataset.was = row[name];
            cell.innerHTML = row[name];
          }
        }
        if (!row.open) shown.removeAttribute("data-open");
      }
      return news.at;
    }, list);
    button.hidden = false;
    button.dataset.pause = button.textContent;
    button.addEventListener("click", () => { button.textContent = live.pause() ? button.dataset.resume : button.dataset.pause; });
  }
})();
