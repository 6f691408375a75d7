// The controls of octolab's widgets, in plain HTML: labelled, reachable by keyboard, themed by theme.css.
// One module, several views; a view draws `state` and sends what a person does. All thinking is done in Python.

let count = 0;
const make = (tag, attributes = {}, ...children) => {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") el.textContent = value;
    else if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children.filter((c) => c !== null && c !== undefined));
  return el;
};

// At most one call in `wait` ms, the last one always.
const throttled = (wait, call) => {
  let last = 0, timer = null;
  return (...given) => {
    clearTimeout(timer);
    const rest = wait - (Date.now() - last);
    const go = () => { last = Date.now(); call(...given); };
    if (rest <= 0) go(); else timer = setTimeout(go, rest);
  };
};
const drawn = (d) => { // a small picture: fonts draw glyphs as they like, or not at all
  const box = make("span", { class: "octo-glyph", "aria-hidden": "true" });
  box.innerHTML = `<svg viewBox="0 0 12 12"><path d="${d}"/></svg>`;
  return box;
};
const LOCK = "M2 5h8v6H2zM3.2 5V3.6a2.8 2.8 0 0 1 5.6 0V5H7.4V3.6a1.4 1.4 0 0 0-2.8 0V5z";
const setValue = (el, value) => { if (document.activeElement !== el && el.value !== value) el.value = value; };
const significant = (v) => String(Number(v.toPrecision(3)));

// -- one knob ----------------------------------------------------------------------------------------------------
function slider(row, send) {
  const { low, high, log, whole } = row.slider;
  const to = (v) => (log ? (1000 * Math.log(v / low)) / Math.log(high / low) : v);
  const from = (p) => (log ? significant(low * (high / low) ** (p / 1000)) : whole ? String(Math.round(p)) : significant(Number(p)));
  const range = make("input", {
    type: "range", min: log ? 0 : low, max: log ? 1000 : high, step: log ? 1 : whole ? 1 : (high - low) / 200, class: "octo-range",
  });
  const live = throttled(80, (value) => send(value, false));
  range.addEventListener("input", () => { range.setAttribute("aria-valuetext", from(range.value)); live(from(range.value)); });
  range.addEventListener("change", () => send(from(range.value), true));
  return {
    el: range,
    update(r) {
      const v = Number(r.value);
      if (!Number.isFinite(v)) return;
      if (document.activeElement !== range || Math.abs(Number(from(range.value)) - v) > 0.01 * Math.abs(v)) range.value = to(v);
      range.setAttribute("aria-valuetext", r.value);
    },
  };
}

function entry(row, send) {
  const box = make("input", {
    type: "text", autocomplete: "off", spellcheck: "false", class: "octo-entry",
    inputmode: row.kind === "number" || row.kind === "whole" ? "decimal" : "text",
    placeholder: row.optional ? row.none || "none" : "",
  });
  let shown = null;
  const commit = () => { if (box.value !== shown) { shown = box.value; send(box.value, true); } };
  box.addEventListener("change", commit);
  box.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); commit(); } });
  return { el: box, update(r) { const v = r.entered ?? r.value ?? ""; if (document.activeElement !== box || shown !== v) { shown = v; box.value = v; } } };
}

function choice(row, send) {
  const select = make("select", { class: "octo-select", onchange: () => send(select.value, true) });
  for (const option of row.choices) select.append(make("option", { value: option.value, text: option.label, title: option.hint }));
  return { el: select, update(r) { setValue(select, r.value); } };
}

function toggle(row, send) {
  const box = make("input", { type: "checkbox", class: "octo-check", onchange: () => send(box.checked, true) });
  return { el: box, update(r) { box.checked = r.value === true; } };
}

function theory(row, send) {
  const how = make("select", { class: "octo-select octo-how" },
    make("option", { value: "theory", text: "theory ×" }), make("option", { value: "number", text: "number" }));
  const box = entry({ ...row, optional: false }, (value) => send(how.value === "theory" ? `theory * ${value}` : value, true));
  let resolved = "", multiplier = "1";
  how.addEventListener("change", () => send(how.value === "theory" ? "theory" : resolved || "0.1", true));
  return {
    el: make("span", { class: "octo-pair" }, how, box.el), parts: [how, box.el],
    update(r) {
      const isTheory = r.multiplier !== null;
      resolved = r.resolved ?? "";
      multiplier = r.multiplier ?? "1";
      setValue(how, isTheory ? "theory" : "number");
      box.update({ value: isTheory ? multiplier : r.value, entered: r.entered?.replace(/^theory \* /, "") });
    },
  };
}

function knob(row, model) {
  const id = `octo-${++count}`;
  const send = (value, final) => model.send({ path: row.path, value, final });
  const inner = row.kind === "switch" ? toggle(row, send)
    : row.theory ? theory(row, send)
    : row.kind === "choice" || row.kind === "kind" ? choice(row, send)
    : entry(row, send);
  const target = inner.parts ? inner.parts[1] : inner.el;
  const extra = row.slider ? slider(row, send) : null;
  const label = make("label", { class: "octo-label", for: id, text: row.label });
  const doc = make("span", { class: "octo-doc", id: `${id}-doc`, text: row.doc });
  const note = make("span", { class: "octo-note", id: `${id}-note` });
  const error = make("div", { class: "octo-error", id: `${id}-error`, role: "alert" });
  target.id = id;
  if (inner.parts) inner.parts[0].setAttribute("aria-label", `${row.label}: theory or a number`);
  if (extra) extra.el.setAttribute("aria-label", `${row.label}, slider`);
  const controls = [...(inner.parts || [inner.el]), ...(extra ? [extra.el] : [])];
  for (const c of controls) { c.setAttribute("aria-describedby", `${id}-doc ${id}-note ${id}-error`); if (row.locked) c.disabled = true; }
  const el = make("div", { class: `octo-knob octo-${row.kind}${row.inner ? " octo-inner" : ""}`, "data-path": row.path },
    make("div", { class: "octo-head" }, label, row.locked ? make("span", { class: "octo-lock" }, drawn(LOCK), row.locked) : null, doc),
    make("div", { class: "octo-control" }, extra ? extra.el : null, inner.el, note), error);
  return {
    el,
    update(r) {
      inner.update(r);
      if (extra) extra.update(r);
      note.textContent = r.note || "";
      if (error.textContent !== (r.error || "")) error.textContent = r.error || "";
      el.classList.toggle("octo-bad", Boolean(r.error));
      for (const c of controls) if (r.error) c.setAttribute("aria-invalid", "true"); else c.removeAttribute("aria-invalid");
    },
  };
}

// Plotly measures its place once, maybe before it has one: tell it again while a plot is narrower or wider than its place.
function watchPlots(el) {
  const tried = new WeakMap();
  let starts = 0;
  const look = throttled(300, () => {
    for (const plot of el.closest(".octo-explorer")?.querySelectorAll(".js-plotly-plot") ?? []) {
      const drawn = plot.querySelector(".main-svg")?.clientWidth, room = plot.parentElement.clientWidth;
      const times = tried.get(plot) ?? 0;
      if (!drawn || !room || Math.abs(drawn - room) < 20 || times > 20) continue;
      tried.set(plot, times + 1);
      window.dispatchEvent(new Event("resize"));
      setTimeout(look, 700);
    }
  });
  const start = () => {
    const root = el.closest(".octo-explorer");
    if (!root) { if (starts++ < 3000) setTimeout(start, 200); return; } // Voila attaches widgets late
    new MutationObserver(look).observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
    look();
  };
  setTimeout(start, 0);
}

const whenShown = (el, then, tries = 100) => { // JupyterLab attaches a view after it is drawn
  if (el.isConnected && el.clientHeight) requestAnimationFrame(then);
  else if (tries) setTimeout(() => whenShown(el, then, tries - 1), 50);
};
const places = new Map(); // where somebody stood in a list that gives way to a method and comes back

// -- views -------------------------------------------------------------------------------------------------------
const views = {
  form(model, el) {
    let shape = null, knobs = new Map();
    const fixed = (r) => [r.path, r.kind, r.label, r.doc, r.choices, r.theory, r.slider, r.locked, r.none];
    return () => {
      const { groups } = model.get("state");
      const now = JSON.stringify(groups.map((g) => [g.title, g.rows.map(fixed)]));
      if (now !== shape) {
        const focused = document.activeElement?.closest?.("[data-path]")?.dataset.path;
        shape = now;
        knobs = new Map();
        el.replaceChildren(...groups.map((g) => {
          const rows = g.rows.map((r) => { const k = knob(r, model); knobs.set(r.path, k); return k.el; });
          const body = make("div", { class: "octo-rows" }, ...rows);
          return g.title ? make("fieldset", { class: "octo-group" }, make("legend", { text: g.title }), body) : body;
        }));
        if (focused && el.isConnected) el.querySelector(`[data-path="${CSS.escape(focused)}"] :is(select,input)`)?.focus();
      }
      for (const g of groups) for (const r of g.rows) knobs.get(r.path).update(r);
    };
  },

  transport(model, el) {
    const press = (what) => () => model.send({ press: what });
    const button = (what, glyph, text, title) =>
      make("button", { type: "button", class: `octo-button octo-${what}`, title, onclick: press(what) },
        drawn(glyph), make("span", { class: "octo-word", text }));
    const all = {
      run: button("run", "M2 1l9 5-9 5z", "Run", "Start, or go on after a pause"),
      pause: button("pause", "M2 1h3v10H2zM7 1h3v10H7z", "Pause", "Stand still at the next round's end"),
      step: button("step", "M1 1l7 5-7 5zM9 1h2v10H9z", "Step", "One round"),
      stop: button("stop", "M1 1h10v10H1z", "Stop", "End at the next round's end; what there is stays"),
      tune: button("tune", "M1 5h10v2H1zM3 2h2v8H3zM8 2h2v8H8z", "Tune both", "Try the same grid of steps for the method and the baseline, then run both at their best"),
    };
    const bar = make("progress", { class: "octo-progress", "aria-label": "rounds done" });
    const status = make("div", { class: "octo-status", role: "status" });
    const hint = make("div", { class: "octo-hint" });
    el.append(make("div", { class: "octo-buttons", role: "group", "aria-label": "Run" }, ...Object.values(all)), bar, status, hint);
    watchPlots(el);
    model.send({ press: "hello" });
    return () => {
      const s = model.get("state");
      for (const [what, b] of Object.entries(all)) b.disabled = !s.can.includes(what);
      all.tune.hidden = !s.tunable;
      all.run.querySelector(".octo-word").textContent = s.go || "Run";
      if (s.rounds) { bar.max = s.rounds; bar.value = s.round; }
      if (status.textContent !== s.status) status.textContent = s.status;
      status.classList.toggle("octo-bad", Boolean(s.bad));
      hint.textContent = s.hint || "";
    };
  },

  disclosure(model, el) {
    const button = make("button", { type: "button", class: "octo-level", onclick: () => model.send({ open: !model.get("state").open }) },
      make("span", { class: "octo-arrow", "aria-hidden": "true" }), make("span", { class: "octo-title" }), make("span", { class: "octo-doc" }));
    el.append(button);
    return () => {
      const s = model.get("state");
      button.setAttribute("aria-expanded", String(s.open));
      button.classList.add(`octo-level-${s.level}`);
      button.children[0].textContent = s.open ? "▾" : "▸";
      button.children[1].textContent = s.title;
      button.children[2].textContent = s.hint;
    };
  },

  code(model, el) {
    const title = make("span", { class: "octo-title" });
    const said = make("span", { class: "octo-note", role: "status" });
    const body = make("pre", { class: "octo-code", tabindex: "0" });
    const copy = make("button", { type: "button", class: "octo-button octo-copy", text: "Copy", onclick: async () => {
      const text = model.get("state").text;
      try { await navigator.clipboard.writeText(text); } catch {
        const area = make("textarea", { class: "octo-away" });
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      said.textContent = "copied";
      setTimeout(() => { said.textContent = ""; }, 2000);
    } });
    el.append(make("div", { class: "octo-head" }, title, copy, said), body);
    return () => {
      const s = model.get("state");
      title.textContent = s.title;
      copy.setAttribute("aria-label", `Copy ${s.title}`);
      body.setAttribute("aria-label", s.title);
      body.textContent = s.text;
    };
  },

  exports(model, el) {
    const said = make("div", { class: "octo-status", role: "status" });
    const row = make("div", { class: "octo-buttons", role: "group", "aria-label": "Download this run" });
    el.append(row, said);
    model.on("msg:custom", (content, buffers) => {
      if (!content.download) return;
      const url = URL.createObjectURL(new Blob([buffers[0]], { type: content.type }));
      const link = make("a", { href: url, download: content.download });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    });
    return () => {
      const s = model.get("state");
      row.replaceChildren(...s.formats.map((f) => make("button", {
        type: "button", class: "octo-button", text: f.label, disabled: !s.ready, onclick: () => model.send({ format: f.ending }),
      })));
      said.textContent = s.status || "";
    };
  },

  html(model, el) {
    if (model.get("state").top) whenShown(el, () => el.scrollIntoView({ block: "start" })); // a method opens at its top
    return () => {
      const s = model.get("state");
      el.className = `octo-view ${s.class || ""}`;
      el.innerHTML = s.html;
      for (const b of el.querySelectorAll("[data-send]")) b.addEventListener("click", () => model.send({ press: b.dataset.send }));
    };
  },

  catalogue(model, el) {
    const key = model.get("state").key, place = places.get(key) ?? { inner: 0, seen: false };
    places.set(key, place);
    const search = make("input", { type: "search", class: "octo-entry", placeholder: "name, author, word ...", "aria-label": "Search the methods" });
    const send = throttled(150, () => model.send({ query: search.value }));
    search.addEventListener("input", send);
    const pains = make("div", { class: "octo-chips", role: "group", "aria-label": "What hurts?" });
    const facets = make("div", { class: "octo-chips", role: "group", "aria-label": "It is about" });
    const needs = make("div", { class: "octo-chips", role: "group", "aria-label": "It must not need" });
    const found = make("div", { class: "octo-status", role: "status" });
    const clear = make("button", { type: "button", class: "octo-button octo-clear", text: "Clear", onclick: () => { search.value = ""; model.send({ clear: true }); } });
    const list = make("div", { class: "octo-shelves", onscroll: () => { if (list.clientHeight) place.inner = list.scrollTop; } });
    const tray = make("div", { class: "octo-line octo-tray" });
    const more = make("details", { class: "octo-more" }, make("summary", { text: "More filters" }),
      make("div", { class: "octo-line" }, make("span", { class: "octo-label", text: "It is about" }), facets),
      make("div", { class: "octo-line" }, make("span", { class: "octo-label", text: "It must not need" }), needs));
    el.append(make("div", { class: "octo-line octo-search" }, search, found, clear),
      make("div", { class: "octo-line" }, make("span", { class: "octo-label", text: "What hurts?" }), pains), more, tray, list);
    const wanted = place.inner;
    if (place.seen) whenShown(list, () => { el.scrollIntoView({ block: "nearest" }); list.scrollTop = wanted; });
    place.seen = true;
    const chip = (kind) => (c) => make("button", {
      type: "button", class: `octo-chip octo-chip-${kind}`, "aria-pressed": String(c.on), text: c.label, title: c.hint, "data-name": c.name,
      onclick: () => model.send({ toggle: kind, name: c.name }),
    });
    const fill = (box, kind, chips) => {
      const held = document.activeElement?.dataset?.name;
      const inside = box.contains(document.activeElement);
      box.replaceChildren(...chips.map(chip(kind)));
      if (inside) box.querySelector(`[data-name="${CSS.escape(held)}"]`)?.focus();
    };
    const card = (m) => make("li", { class: "octo-item" }, make("button", {
      type: "button", class: "octo-method", "data-slug": m.slug, onclick: () => model.send({ open: m.slug }),
    }, make("span", { class: "octo-name", text: m.name }), make("span", { class: "octo-solves", text: m.solves }),
      m.why ? make("span", { class: "octo-why", text: m.why }) : null),
      make("label", { class: "octo-tick" }, make("input", {
        type: "checkbox", "data-tick": m.slug, "aria-label": `Compare ${m.name}`, checked: ticked.has(m.slug), onchange: () => model.send({ tick: m.slug }),
      }), "compare"));
    let ticked = new Set();
    const part = (p) => make("li", { class: "octo-item" }, make("button", {
      type: "button", class: "octo-method octo-part", onclick: () => model.send({ part: [p.room, p.name] }),
    }, make("span", { class: "octo-name", text: p.name }), make("span", { class: "octo-solves", text: `${p.noun}: ${p.summary}` })));
    return () => {
      const s = model.get("state"), at = list.scrollTop;
      ticked = new Set(s.ticked.map((t) => t.slug));
      const both = s.ticked.map((t) => t.name);
      tray.replaceChildren(...(both.length === 0 ? [] : both.length === 1 ? [make("span", { class: "octo-doc", text: `${both[0]}: tick a second one to compare them.` })]
        : [make("button", { type: "button", class: "octo-button octo-run octo-compare-two", text: `Compare ${both[0]} with ${both[1]}`, onclick: () => model.send({ compare: true }) })]));
      if (document.activeElement !== search) search.value = s.query;
      fill(pains, "pain", s.pains);
      fill(facets, "tag", s.tags);
      fill(needs, "need", s.needs);
      found.textContent = s.found;
      clear.disabled = !s.narrowed;
      list.replaceChildren(...s.families.map((f) => make("section", { class: "octo-family" },
        make("h3", { text: f.title }), make("ul", {}, ...f.methods.map(card)))));
      if (s.parts.length) list.append(make("section", { class: "octo-family" },
        make("h3", { text: "Not methods, but parts of them" }), make("ul", {}, ...s.parts.map(part))));
      list.scrollTop = at;
    };
  },
};

export default {
  render({ model, el }) {
    el.classList.add("octo-view");
    const draw = views[model.get("view")](model, el);
    draw();
    model.on("change:state", draw);
    return () => model.off("change:state", draw);
  },
};
