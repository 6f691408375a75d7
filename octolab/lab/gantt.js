// The device timeline. Segments arrive as bytes and are kept in typed arrays; one frame draws whatever has arrived.

const MOST = 50000;
const STATES = ["done", "ignored", "dropped", "late", "cancelled"];
const ACTS = [["hears the model", "#56B4E9"], ["computes", "#0072B2"], ["sends", "#009E73"]];
const BAD = { 1: "#E69F00", 2: "#D55E00", 3: "#CC79A7", 4: "#8C8C8C" };
const BUSY = "#56B4E980";
const LEFT = 58, BOTTOM = 34, TOP = 4, RIGHT = 12;

const arrays = (buffers, kinds) => kinds.map((Kind, k) => {
  const view = buffers[k];
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
});

class Store {
  constructor() {
    this.listeners = new Set();
    this.reset();
  }
  reset() {
    this.client = new Int32Array(MOST);
    this.times = new Float64Array(4 * MOST);
    this.state = new Uint8Array(MOST);
    this.held = this.next = 0;
    this.now = 0;
    this.busy = [new Int32Array(0), new Float64Array(0)];
    this.changed();
  }
  work(now, buffers) {
    this.busy = arrays(buffers, [Int32Array, Float64Array]);
    this.now = now;
    this.changed();
  }
  add(now, buffers) {
    const [client, times, state] = arrays(buffers, [Int32Array, Float64Array, Uint8Array]);
    for (let k = 0; k < client.length; k++) {
      const at = this.next;
      this.client[at] = client[k];
      this.times.set(times.subarray(4 * k, 4 * k + 4), 4 * at);
      this.state[at] = state[k];
      this.next = (at + 1) % MOST;
      if (this.held < MOST) this.held++;
    }
    this.now = now;
    this.changed();
  }
  changed() {
    for (const listener of this.listeners) listener();
  }
  end(k) {
    const t = this.times, e = t[4 * k + 3];
    if (Number.isFinite(e)) return e;
    return Number.isFinite(t[4 * k + 2]) ? t[4 * k + 2] : t[4 * k];
  }
  span() {
    let low = Infinity, high = -Infinity;
    for (let k = 0; k < this.held; k++) {
      if (this.times[4 * k] < low) low = this.times[4 * k];
      const e = this.end(k);
      if (e > high) high = e;
    }
    return low < high ? [low, high] : [0, 1];
  }
}

const stores = new Map(); // by the model's key: initialize and render see different wrappers of one model

function initialize({ model }) {
  const store = new Store();
  const key = model.get("key");
  stores.set(key, store);
  model.on("msg:custom", (message, buffers) => {
    if (message.kind === "reset") store.reset();
    if (message.kind === "add") store.add(message.now, buffers);
    if (message.kind === "busy") store.work(message.now, buffers);
  });
  model.send({ kind: "hello" });
  return () => stores.delete(key);
}

function nice(low, high, most) {
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) out.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return out;
}

const written = (v) => Number(v.toPrecision(6)).toLocaleString("en");

function render({ model, el }) {
  const store = stores.get(model.get("key")) ?? new Store();
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const canvas = make("canvas", { tabindex: "0", role: "img" });
  const tip = make("div", { class: "octo-tip", hidden: "" });
  const title = make("b");
  const sum = make("div", { class: "octo-sum" });
  const order = make("select", { "aria-label": "Order of the devices" }, ...[["number", "by number"], ["busy", "busiest first"], ["slow", "slowest first"]].map(
    ([value, text]) => make("option", { value }, text)));
  const button = (text, label, act) => {
    const b = make("button", { type: "button", "aria-label": label, title: label }, text);
    b.addEventListener("click", act);
    return b;
  };
  let view = null; // [t0, t1] chosen by hand; null: follow
  let whole = false;
  let rows = null, ordered = "", wanted = false;
  const zoom = (factor, at = 0.5) => {
    const [a, b] = window_(), c = a + at * (b - a);
    view = [c - (c - a) * factor, c + (b - c) * factor];
    soon();
  };
  const pan = (share) => {
    const [a, b] = window_(), shift = share * (b - a);
    view = [a + shift, b + shift];
    soon();
  };
  const newest = button("newest", "Follow the newest work", () => { view = null; whole = false; soon(); });
  const all = button("all", "Show everything that is kept", () => { view = null; whole = true; soon(); });
  const keys = [...ACTS, ["under way", BUSY], ...[1, 2, 3, 4].map((s) => [STATES[s], BAD[s]])].map(([text, colour]) => {
    const patch = make("i");
    patch.style.background = colour;
    return make("span", { class: "octo-key" }, patch, text);
  });
  el.classList.add("octo-gantt");
  el.append(
    make("div", { class: "octo-gantt-bar" }, title, newest, all, button("+", "Zoom in", () => zoom(0.5)), button("−", "Zoom out", () => zoom(2)),
      make("label", {}, "devices ", order)),
    make("div", { class: "octo-gantt-bar" }, ...keys, make("span", {}, "blank: idle")),
    make("div", { class: "octo-gantt-frame" }, canvas, tip), sum);

  const window_ = () => {
    if (view) return view;
    const [low, high] = store.span();
    if (whole || store.held < 2) return [low, high + 0.01 * (high - low)];
    const n = Math.max(1, model.get("n")), per = store.held / n;
    const share = Math.min(1, Math.max(8 / per, 400 / store.held)); // about eight pieces of work per device
    return [Math.max(low, high - share * (high - low)), high + 0.01 * share * (high - low)];
  };

  const places = () => {
    const n = model.get("n"), stamp = `${order.value} ${order.value === "number" ? "" : store.next} ${n}`;
    if (rows && stamp === ordered) return rows;
    ordered = stamp;
    const weight = new Float64Array(n), number = new Float64Array(n);
    for (let k = 0; k < store.held; k++) {
      const i = store.client[k];
      weight[i] += store.end(k) - store.times[4 * k];
      number[i] += 1;
    }
    const by = order.value === "number" ? (i) => i : order.value === "busy" ? (i) => -weight[i] : (i) => -weight[i] / Math.max(1, number[i]);
    const sorted = Array.from({ length: n }, (_, i) => i).sort((i, j) => by(i) - by(j) || i - j);
    rows = new Int32Array(n);
    sorted.forEach((i, k) => { rows[i] = k; });
    return rows;
  };

  const draw = () => {
    wanted = false;
    const wide = el.clientWidth, tall = model.get("height");
    if (!wide) return;
    const scale = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(wide * scale) || canvas.height !== Math.round(tall * scale)) {
      canvas.width = Math.round(wide * scale);
      canvas.height = Math.round(tall * scale);
      canvas.style.height = `${tall}px`;
    }
    const g = canvas.getContext("2d"), ink = getComputedStyle(el).color;
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, wide, tall);
    const [t0, t1] = window_(), n = Math.max(1, model.get("n")), place = places();
    const inner = wide - LEFT - RIGHT, high = tall - TOP - BOTTOM, row = high / n, thick = Math.max(0.6, row * (row > 4 ? 0.8 : 1));
    const x = (t) => LEFT + (inner * (t - t0)) / (t1 - t0);
    const totals = { hears: 0, computes: 0, sends: 0, wasted: 0 };
    g.save();
    g.beginPath();
    g.rect(LEFT, TOP, inner, high);
    g.clip();
    const piece = (i, from, to) => {
      const a = x(from), wide = Math.max(x(to) - a, 0.12); // thinner than a pixel: a tint, as strong as it is wide
      g.fillRect(a, TOP + place[i] * row, wide - (wide > 3 ? 0.5 : 0), thick);
    };
    const inside = (from, to) => Math.max(0, Math.min(to, t1) - Math.max(from, t0));
    for (let part = 0; part < 3; part++) {
      g.fillStyle = ACTS[part][1];
      let seconds = 0;
      for (let k = 0; k < store.held; k++) {
        if (store.state[k] !== 0) continue;
        const from = store.times[4 * k + part], to = store.times[4 * k + part + 1];
        if (!(to > from) || from > t1 || to < t0) continue;
        seconds += inside(from, to);
        piece(store.client[k], from, to);
      }
      totals[["hears", "computes", "sends"][part]] = seconds;
    }
    for (const kind of [1, 2, 3, 4]) {
      g.fillStyle = BAD[kind];
      for (let k = 0; k < store.held; k++) {
        if (store.state[k] !== kind) continue;
        const from = store.times[4 * k], to = store.end(k);
        if (from > t1 || to < t0) continue;
        totals.wasted += inside(from, to);
        piece(store.client[k], from, to);
      }
    }
    g.fillStyle = BUSY;
    const [clients, starts] = store.busy;
    for (let k = 0; k < clients.length; k++) {
      if (starts[k] > t1 || store.now < t0) continue;
      totals.computes += inside(starts[k], store.now);
      const a = x(starts[k]);
      g.fillRect(a, TOP + place[clients[k]] * row, Math.max(0.5, x(store.now) - a), thick);
    }
    g.restore();
    axes(g, ink, wide, tall, inner, high, t0, t1, n, x);
    summary(totals, n, t0, t1);
    newest.setAttribute("aria-pressed", !view && !whole);
    all.setAttribute("aria-pressed", !view && whole);
    title.textContent = `Device timeline${model.get("title") ? " of " + model.get("title") : ""}`;
  };

  const axes = (g, ink, wide, tall, inner, high, t0, t1, n, x) => {
    g.strokeStyle = g.fillStyle = ink;
    g.font = "11px system-ui, sans-serif";
    g.globalAlpha = 0.75;
    g.textAlign = "center";
    g.beginPath();
    g.moveTo(LEFT, TOP);
    g.lineTo(LEFT, TOP + high);
    g.lineTo(LEFT + inner, TOP + high);
    for (const t of nice(t0, t1, Math.max(2, inner / 110))) {
      g.moveTo(x(t), TOP + high);
      g.lineTo(x(t), TOP + high + 4);
      g.fillText(written(t), x(t), TOP + high + 16);
    }
    g.stroke();
    g.fillText("virtual time (seconds)", LEFT + inner / 2, tall - 4);
    g.textAlign = "right";
    if (order.value === "number")
      for (const k of n > 1 ? nice(0, n - 1, Math.max(2, high / 50)) : [0])
        if (Number.isInteger(k)) g.fillText(written(k), LEFT - 6, TOP + ((k + 0.5) * high) / n + 4);
    g.save();
    g.translate(11, TOP + high / 2);
    g.rotate(-Math.PI / 2);
    g.textAlign = "center";
    g.fillText(`${written(n)} devices`, 0, 0);
    g.restore();
    g.globalAlpha = 1;
  };

  const summary = (totals, n, t0, t1) => {
    const whole_ = n * (t1 - t0), share = (v) => `${Math.round((100 * v) / whole_)} %`;
    const busy = totals.hears + totals.computes + totals.sends + totals.wasted;
    const text = store.held
      ? `Shown: computing ${share(totals.computes)}, hearing and sending ${share(totals.hears + totals.sends)}, wasted ${share(totals.wasted)}, idle ${share(Math.max(0, whole_ - busy))} of the devices' time.`
      : "No device has finished anything yet.";
    if (sum.textContent !== text) {
      sum.textContent = text;
      canvas.setAttribute("aria-label", `Timeline of ${n} devices from ${written(t0)} to ${written(t1)} seconds. ${text} Arrow keys move, plus and minus zoom.`);
    }
  };

  const soon = () => {
    if (!wanted) {
      wanted = true;
      requestAnimationFrame(draw);
    }
  };

  const hover = (event) => {
    const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const [t0, t1] = window_(), n = Math.max(1, model.get("n")), high = model.get("height") - TOP - BOTTOM;
    const at = Math.floor(((py - TOP) / high) * n), t = t0 + ((px - LEFT) / (box.width - LEFT - RIGHT)) * (t1 - t0), place = places();
    tip.hidden = true;
    if (at < 0 || at >= n || px < LEFT) return;
    for (let k = 0; k < store.held; k++) {
      if (place[store.client[k]] !== at || store.times[4 * k] > t || store.end(k) < t) continue;
      const [start, received, computed, end] = store.times.subarray(4 * k, 4 * k + 4);
      const parts = [`device ${store.client[k]}: ${STATES[store.state[k]]}`, `from ${written(start)} to ${Number.isFinite(end) ? written(end) + " s" : "never"}`];
      if (store.state[k] === 0 && computed > received) parts.push(`computing ${written(computed - received)} s, sending ${written(end - computed)} s`);
      tip.textContent = parts.join("\n");
      tip.hidden = false;
      tip.style.left = `${Math.min(px + 14, box.width - 220)}px`;
      tip.style.top = `${Math.max(0, py - 52)}px`;
      return;
    }
  };
  let grip = null;
  canvas.addEventListener("pointerdown", (event) => { grip = [event.clientX, window_()]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { grip = null; });
  canvas.addEventListener("pointermove", (event) => {
    if (!grip) return hover(event);
    const [x0, [a, b]] = grip, shift = ((x0 - event.clientX) / (canvas.clientWidth - LEFT - RIGHT)) * (b - a);
    if (Math.abs(event.clientX - x0) > 2) view = [a + shift, b + shift];
    soon();
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey && !event.metaKey) return; // the page scrolls as ever
    event.preventDefault();
    zoom(event.deltaY > 0 || event.deltaX > 0 ? 1.25 : 0.8, (event.offsetX - LEFT) / (canvas.clientWidth - LEFT - RIGHT));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const act = { ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2),
      Home: () => all.click(), End: () => newest.click() }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  order.addEventListener("change", soon);
  const sizes = new ResizeObserver(soon);
  sizes.observe(el);
  store.listeners.add(soon);
  model.on("change:n change:title change:height", soon);
  soon();
  return () => {
    sizes.disconnect();
    store.listeners.delete(soon);
  };
}

export default { initialize, render };
