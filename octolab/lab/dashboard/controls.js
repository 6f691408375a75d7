// The dashboard's controls. The page is built once; what changes is set in place, so that focus and sorting stay.

const DASHES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "12 4", longdashdot: "12 3 2 3" };
let count = 0;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function swatch(colour, dash) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", 30);
  svg.setAttribute("height", 8);
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [k, v] of Object.entries({ x1: 0, y1: 4, x2: 30, y2: 4, stroke: colour, "stroke-width": 3, "stroke-dasharray": DASHES[dash] || "" }))
    line.setAttribute(k, v);
  svg.append(line);
  return svg;
}

function isDark(node) {
  for (let at = node; at; at = at.parentElement) {
    const parts = getComputedStyle(at).backgroundColor.match(/[\d.]+/g);
    if (parts && (parts.length < 4 || Number(parts[3]) > 0.5)) {
      const [r, g, b] = parts.map(Number);
      return 0.299 * r + 0.587 * g + 0.114 * b < 110;
    }
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function tabs(model, id) {
  const list = make("div", { role: "tablist", "aria-label": "Panels" });
  const choose = (name, focus) => {
    model.set("panel", name);
    model.save_changes();
    show();
    if (focus) list.querySelector('[aria-selected="true"]')?.focus();
  };
  list.addEventListener("keydown", (event) => {
    const names = model.get("panels").map(([name]) => name);
    const at = names.indexOf(model.get("panel"));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    choose(names[(to + names.length) % names.length], true);
  });
  let drawn = "";
  const show = () => {
    const panels = model.get("panels");
    if (JSON.stringify(panels) !== drawn) {
      drawn = JSON.stringify(panels);
      list.replaceChildren(...panels.map(([name, title]) =>
        make("button", { role: "tab", type: "button", id: `${id}-${name}`, "data-panel": name, onclick: () => choose(name) }, title)));
    }
    for (const tab of list.children) {
      const on = tab.dataset.panel === model.get("panel");
      tab.setAttribute("aria-selected", on);
      tab.tabIndex = on ? 0 : -1;
    }
    list.hidden = panels.length < 2;
  };
  model.on("change:panels change:panel", show);
  show();
  return list;
}

function select(model, name, label, options, attributes = {}) {
  const box = make("select", { ...attributes, onchange: () => { put(box.value); model.save_changes(); } });
  const put = Array.isArray(name)
    ? (value) => model.set(name[0], model.get(name[0]).map((v, k) => (k === name[1] ? value : v)))
    : (value) => model.set(name, value);
  const value = () => (Array.isArray(name) ? model.get(name[0])[name[1]] : model.get(name));
  let drawn = "";
  const show = () => {
    const found = options();
    if (JSON.stringify(found) !== drawn) {
      drawn = JSON.stringify(found);
      box.replaceChildren(...found.map(([key, text]) => make("option", { value: key }, text)));
    }
    box.value = value();
  };
  return [make("label", {}, label, box), show];
}

// Exactly what is seen as a file: the kernel draws it, the browser saves it.
function picture(model) {
  const choice = (label, entries) => {
    const box = make("select", { "aria-label": label });
    box.append(...entries.map(([value, text]) => make("option", { value }, text)));
    return box;
  };
  const ending = choice("Kind of picture", [[".png", "PNG"], [".svg", "SVG"], [".pdf", "PDF"]]);
  const size = choice("Size of the picture", [["screen", "screen"], ["slide", "slide"], ["paper", "paper, one column"]]);
  const said = make("span", { class: "octo-dim", role: "status" });
  const save = make("button", { type: "button", class: "octo-save", onclick: () => {
    said.textContent = "drawing ...";
    model.send({ kind: "picture", ending: ending.value, size: size.value });
  } }, "Save");
  model.on("msg:custom", (content, buffers) => {
    if (content.picture === undefined) return;
    said.textContent = content.said;
    if (!content.picture) return;
    const link = make("a", { href: URL.createObjectURL(new Blob([buffers[0]], { type: content.type })), download: content.picture });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  return make("details", { class: "octo-picture-menu" }, make("summary", {}, "Picture"),
    make("span", { class: "octo-picture-row" }, ending, size, save, said));
}

function runs(model) {
  const body = make("tbody");
  const head = make("tr");
  const caption = make("caption", { class: "octo-hide" }, "Runs: a click on a name shows or hides it, a click on a column sorts");
  const table = make("table", { class: "octo-runs" }, caption, make("thead", {}, head), body);
  let sort = [null, 1];
  let drawn = "";
  const light = (name) => {
    if (model.get("lit") === name) return;
    model.set("lit", name);
    model.save_changes();
  };
  const toggle = (name) => {
    const hidden = model.get("hidden");
    model.set("hidden", hidden.includes(name) ? hidden.filter((n) => n !== name) : [...hidden, name]);
    model.save_changes();
  };
  const order = (column) => {
    sort = sort[0] === column ? [column, -sort[1]] : [column, 1];
    show();
  };
  const extra = (column) => (model.get("few").length && !model.get("few").includes(column) ? "octo-extra" : null);
  const header = (columns) => {
    head.replaceChildren(
      make("th", { scope: "col" }, make("button", { type: "button", onclick: () => order("name") }, "run")),
      ...columns.map(([name, title]) =>
        make("th", { scope: "col", "data-column": name, class: extra(name) }, make("button", { type: "button", onclick: () => order(name) }, title))));
  };
  const line = (row, columns) => {
    const name = make("button", { type: "button", onclick: () => toggle(row.name) }, swatch(row.colour, row.dash), row.name);
    return make("tr", {
      "data-run": row.name,
      onmouseenter: () => light(row.name), onmouseleave: () => light(""), onfocusin: () => light(row.name), onfocusout: () => light(""),
    }, make("th", { scope: "row" }, name), ...columns.map(([c]) => make("td", { "data-column": c, class: extra(c) })));
  };
  const show = () => {
    const rows = model.get("rows"), columns = model.get("columns");
    const shape = JSON.stringify([columns, model.get("few"), rows.map((r) => [r.name, r.colour, r.dash])]);
    if (shape !== drawn) {
      drawn = shape;
      header(columns);
      body.replaceChildren(...rows.map((row) => line(row, columns)));
    }
    const key = (row) => (sort[0] === "name" ? row.name : row.cells[sort[0]]?.[1] ?? (row.cells[sort[0]]?.[0] === "–" ? Infinity : row.cells[sort[0]]?.[0]));
    const sorted = sort[0] === null ? rows : [...rows].sort((a, b) => (key(a) > key(b) ? 1 : key(a) < key(b) ? -1 : 0) * sort[1]);
    const lines = new Map([...body.children].map((tr) => [tr.dataset.run, tr]));
    sorted.forEach((row, k) => {
      const tr = lines.get(row.name);
      if (body.children[k] !== tr) body.insertBefore(tr, body.children[k]);
      for (const td of tr.querySelectorAll("td")) {
        const [text, , best] = row.cells[td.dataset.column] ?? ["–", null, false];
        if (td.textContent !== text) td.textContent = text;
        td.classList.toggle("octo-best", !!best);
      }
    });
    for (const th of head.children) {
      const mine = (th.dataset.column ?? "name") === sort[0];
      th.setAttribute("aria-sort", mine ? (sort[1] > 0 ? "ascending" : "descending") : "none");
      const button = th.firstChild, title = button.textContent.replace(/ [▲▼]$/, "");
      button.textContent = mine ? `${title} ${sort[1] > 0 ? "▲" : "▼"}` : title;
    }
    look();
  };
  const look = () => {
    const hidden = model.get("hidden"), lit = model.get("lit");
    for (const tr of body.children) {
      const off = hidden.includes(tr.dataset.run);
      tr.classList.toggle("octo-off", off);
      tr.classList.toggle("octo-lit", tr.dataset.run === lit);
      tr.querySelector("button").setAttribute("aria-pressed", !off);
    }
  };
  const more = make("button", { type: "button", class: "octo-columns", "aria-expanded": "false", onclick: () => {
    const all = table.classList.toggle("octo-all");
    more.setAttribute("aria-expanded", all);
    more.textContent = all ? "Fewer columns" : "All columns";
  } }, "All columns");
  model.on("change:rows change:columns change:few", show);
  model.on("change:hidden change:lit", look);
  show();
  return make("div", {}, make("div", { class: "octo-scroll" }, table), more);
}

function alerts(model) {
  const list = make("ul", { class: "octo-alerts", role: "status", "aria-live": "polite", "aria-label": "Alerts" });
  const show = () => {
    list.replaceChildren(...model.get("alerts").map((a) =>
      make("li", { class: `octo-${a.level}`, role: "none" }, make("b", {}, `${a.run ? a.run + ": " : ""}${a.message} `), make("span", { class: "octo-advice" }, a.advice))));
  };
  model.on("change:alerts", show);
  show();
  return list;
}

function comparing(model) {
  const input = make("input", { type: "number", step: "any", placeholder: "auto", "aria-label": "Target loss" });
  input.addEventListener("change", () => {
    model.set("target", input.value === "" ? null : Number(input.value));
    model.save_changes();
  });
  const goal = make("span", { class: "octo-dim" });
  const names = () => model.get("cost_names");
  const [first, showFirst] = select(model, ["costs", 0], "Pareto front of", names, { "aria-label": "First cost of the Pareto front" });
  const [second, showSecond] = select(model, ["costs", 1], "and", names, { "aria-label": "Second cost of the Pareto front" });
  const box = make("div", { class: "octo-compare" }, make("label", {}, "Target loss", input), goal, first, second);
  const show = () => {
    box.hidden = !model.get("comparing");
    if (document.activeElement !== input) input.value = model.get("target") ?? "";
    goal.textContent = model.get("goal");
    showFirst();
    showSecond();
  };
  model.on("change:comparing change:target change:goal change:costs change:cost_names", show);
  show();
  return box;
}

function render({ model, el }) {
  const id = `octo-${++count}`;
  const [axis, showAxis] = select(model, "x", "x axis", () => model.get("axes"), { class: "octo-x" });
  const [focus, showFocus] = select(model, "focus", "details of", () => model.get("rows").map((r) => [r.name, r.name]), { class: "octo-focus" });
  const code = make("code");
  const python = make("details", {}, make("summary", {}, "Python"), code);
  const note = make("p", { class: "octo-note", role: "alert" });
  const hide = make("style");
  el.classList.add("octo-dash");
  el.append(hide, make("div", { class: "octo-bar" }, tabs(model, id), focus, axis, picture(model), python), note, runs(model), alerts(model), comparing(model));
  const show = () => {
    showAxis();
    showFocus();
    axis.hidden = !model.get("linked");
    focus.hidden = !model.get("focusing") || model.get("rows").length < 2;
    code.textContent = model.get("python");
    note.textContent = model.get("note");
    note.hidden = !model.get("note");
    hide.textContent = model.get("live") && model.get("card") ? `.${model.get("card")}{display:none}` : "";
  };
  model.on("change:axes change:x change:linked change:focus change:focusing change:rows change:python change:note change:live change:card", show);
  show();

  const measure = () => {
    const dark = isDark(el), width = Math.round(el.clientWidth / 20) * 20;
    el.classList.toggle("octo-dark", dark);
    el.classList.toggle("octo-tight", width < 900);
    el.classList.toggle("octo-slim", width < 560);
    if (width && (dark !== model.get("dark") || width !== model.get("width"))) {
      if (width !== model.get("width")) fit();
      model.set({ dark, width });
      model.save_changes();
    }
  };
  const fit = () => requestAnimationFrame(() => window.dispatchEvent(new Event("resize"))); // plotly listens to nothing else
  const find = () => el.closest(".octo-dashboard")?.querySelector(".js-plotly-plot");
  let told = null;
  const plotted = () => { // what was sent to a plot before it was there is lost: say that it is, and how much of it
    const plot = find();
    if (!plot?.querySelector(".main-svg") || plot === told) return;
    told = plot;
    model.send({ kind: "plotted", traces: plot.data?.length ?? 0 });
  };
  const fits = setInterval(() => {
    plotted();
    const plot = find(), drawn = plot?.querySelector(".main-svg");
    if (!drawn || !plot.clientWidth || Math.abs(Number(drawn.getAttribute("width")) - plot.clientWidth) < 5) return;
    delete plot.layout?.width; // a figure that was drawn before its layout came keeps plotly's 700 pixels
    fit();
  }, 600);
  const later = () => setTimeout(measure, 300);
  const sizes = new ResizeObserver(measure);
  const theme = new MutationObserver(later);
  const system = matchMedia("(prefers-color-scheme: dark)");
  sizes.observe(el);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class", "style"] });
  system.addEventListener("change", later);
  document.addEventListener("plotlywidget-after-render", plotted);
  requestAnimationFrame(measure);
  model.send({ kind: "ready" });
  return () => {
    document.removeEventListener("plotlywidget-after-render", plotted);
    clearInterval(fits);
    sizes.disconnect();
    theme.disconnect();
    system.removeEventListener("change", later);
  };
}

export default { render };
