(() => {
  "use strict";
  const $ = (s, of = document) => of.querySelector(s), all = (s, of = document) => [...of.querySelectorAll(s)];
  const root = document.documentElement, kept = "potstill:" + document.title;
  const state = (() => { try { return JSON.parse(sessionStorage.getItem(kept)) || {}; } catch { return {}; } })();
  const keep = () => { try { sessionStorage.setItem(kept, JSON.stringify(state)); } catch { /* not allowed: forget */ } };

  // Colours: as the system, light, dark.
  const theme = $("#theme"), names = ["as the system", "light", "dark"];
  const paint = () => {
    const k = names.indexOf(state.theme);
    if (k > 0) root.dataset.theme = state.theme; else delete root.dataset.theme;
    theme.textContent = "Colours: " + names[Math.max(k, 0)];
  };
  theme.hidden = false;
  theme.onclick = () => { state.theme = names[(Math.max(names.indexOf(state.theme), 0) + 1) % 3]; keep(); paint(); };
  paint();

  // The leaderboard: sort by a column, filter by what the form says.
  const table = $("#rows"), form = $("#filters");
  if (table && form) {
    const body = $("tbody", table), rows = all("tr", body), heads = all("thead th", table), said = $("#rows-said");
    const key = (row, k) => row.cells[k].dataset.v;
    const numeric = heads.map((_, k) => rows.every(r => key(r, k) === "" || !isNaN(key(r, k))));
    const order = () => {
      const [k, down] = state.sort || [];
      heads.forEach((h, j) => j === k ? h.setAttribute("aria-sort", down ? "descending" : "ascending")
        : h.removeAttribute("aria-sort"));
      if (k === undefined || k >= heads.length) return;
      const sorted = [...rows].sort((a, b) => {
        const x = key(a, k), y = key(b, k);
        if (x === "" || y === "") return (x === "") - (y === "");
        return (numeric[k] ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
      });
      body.append(...sorted);
    };
    heads.forEach((head, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.onclick = () => {
        state.sort = [k, state.sort && state.sort[0] === k ? !state.sort[1] : numeric[k]];
        keep(); order(); tell();
      };
    });
    const field = name => form.elements[name];
    const shown = row => {
      const d = row.dataset, of = name => !field(name) || !field(name).value || field(name).value === d[name];
      return of("method") && of("size") && of("protocol") && (!field("top").checked || d.top === "1")
        && row.textContent.toLowerCase().includes(field("find").value.trim().toLowerCase());
    };
    const tell = () => {
      const seen = rows.filter(r => !r.hidden).length, [k, down] = state.sort || [];
      said.textContent = `${seen} of ${rows.length} rows` + (k === undefined ? "" :
        `, sorted by ${heads[k].textContent.toLowerCase()}, ${down ? "largest" : "smallest"} first`);
    };
    const filter = () => {
      rows.forEach(row => { row.hidden = !shown(row); });
      const gone = new Set(rows.filter(r => r.hidden).map(r => r.dataset.id));
      all(".front g[data-id]").forEach(g => g.classList.toggle("out", gone.has(g.dataset.id)));
      const seen = new Set(rows.filter(r => !r.hidden).map(r => r.dataset.method));
      all(".front .thread").forEach(t => t.classList.toggle("out", !seen.has(t.dataset.method)));
      tell();
    };
    const fields = ["find", "method", "size", "protocol", "top"].filter(name => field(name));
    fields.forEach(name => {
      if (state[name] !== undefined) field(name)[name === "top" ? "checked" : "value"] = state[name];
    });
    form.oninput = () => {
      fields.forEach(name => { state[name] = field(name)[name === "top" ? "checked" : "value"]; });
      keep(); filter();
    };
    form.onsubmit = event => event.preventDefault();
    form.onreset = () => setTimeout(form.oninput);
    form.hidden = false;
    order(); filter();
  }

  // The gallery: one class, larger pictures.
  const look = $("#looking");
  if (look) {
    const pick = look.elements.class, zoom = look.elements.zoom;
    const draw = () => {
      const other = m => pick.value !== "" && m.dataset.class !== pick.value;
      all(".wall>li").forEach(li => { li.hidden = other(li); });
      all(".map [data-class]").forEach(m => m.classList.toggle("out", other(m)));
      all(".wall").forEach(wall => wall.style.setProperty("--zoom", zoom.value));
    };
    if ([...pick.options].some(o => o.value === state.class)) pick.value = state.class;
    if (state.zoom) zoom.value = state.zoom;
    look.oninput = () => { state.class = pick.value; state.zoom = zoom.value; keep(); draw(); };
    look.onsubmit = event => event.preventDefault();
    look.hidden = false;
    draw();
  }

  const text = (s, of) => { const e = of && $(s, of); return e ? e.tagName + e.textContent : ""; };

  // Steps stay chosen as the page loads itself again; a film that was at its last step goes on with it.
  const steps = state.steps || (state.steps = {});
  all(".film").forEach(film => {
    const title = text("legend", film), inputs = all("input", film), at = inputs.findIndex((_, k) =>
      text("span", inputs[k].parentNode) === steps[title]);
    if (at >= 0) inputs[at].checked = true;
    film.onchange = () => {
      const k = inputs.findIndex(i => i.checked);
      if (k < inputs.length - 1) steps[title] = text("span", inputs[k].parentNode); else delete steps[title];
      keep();
    };
  });

  // Parts stay open or closed as the page loads itself again.
  const opened = state.open || (state.open = {});
  all("main details").forEach(d => {
    const key = [d.closest("section").id, text("h3", d.closest("figure")), text("summary>*", d), text("summary", d)].join();
    if (key in opened) d.open = opened[key];
    d.addEventListener("toggle", () => { opened[key] = d.open; keep(); });
  });

  // A link to a closed part opens it.
  const open = () => {
    const at = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (at && at.tagName === "DETAILS") { at.open = true; at.scrollIntoView(); }
  };
  addEventListener("hashchange", open);
  open();

  // Served live: ask for the version, and load again when it is another.
  if (root.dataset.version) {
    setInterval(async () => {
      try {
        const answer = await fetch("version", { cache: "no-store" });
        if (answer.ok && (await answer.text()).trim() !== root.dataset.version) location.reload();
      } catch { $("#live").textContent = "The server has stopped: this is what it showed last."; }
    }, 2000);
  }
})();
