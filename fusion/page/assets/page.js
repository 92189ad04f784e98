// Shows the molecules of the page with 3Dmol.js: atom numbers, trajectories with a slider, modes in motion.
(() => {
  "use strict";
  const PERIOD = 24, DELAY = 60, AMPLITUDE = 0.35;  // frames of a mode, milliseconds a frame, Angstrom
  const MOST_NUMBERS = 150;                         // with more atoms, numbers are off at first

  function make(name, attributes, parent) {
    const node = document.createElement(name);
    Object.assign(node, attributes);
    parent.append(node);
    return node;
  }

  // Positions of frame `index`; those of a mode are computed from its displacements.
  function positions(view, index) {
    if (!view.mode) return view.frames[index].xyz;
    const still = view.frames[0].xyz;
    let largest = 0;
    for (let i = 0; i < still.length; i += 3) largest = Math.max(largest, Math.hypot(view.mode[i], view.mode[i + 1], view.mode[i + 2]));
    const scale = (AMPLITUDE / (largest || 1)) * Math.sin((2 * Math.PI * index) / PERIOD);
    return still.map((value, i) => value + scale * view.mode[i]);
  }

  function corners(cell) {
    const edges = [];
    for (let axis = 0; axis < 3; axis++) {
      const [u, v] = [0, 1, 2].filter((other) => other !== axis);
      for (const a of [0, 1]) for (const b of [0, 1]) {
        const start = [0, 1, 2].map((k) => a * cell[u][k] + b * cell[v][k]);
        edges.push([start, start.map((value, k) => value + cell[axis][k])]);
      }
    }
    return edges;
  }

  const point = ([x, y, z]) => ({ x, y, z });

  class Molecule {
    constructor(figure) {
      this.figure = figure;
      this.stage = figure.querySelector(".stage");
      this.views = JSON.parse(document.getElementById(figure.dataset.views).textContent);
      this.frame = 0;
      this.timer = null;
    }

    start() {
      const scene = make("div", { className: "scene" }, this.stage);
      try {
        const backgroundColor = getComputedStyle(this.stage).backgroundColor;
        this.viewer = $3Dmol.createViewer(scene, { backgroundColor, antialias: true, minimumZoomToDistance: 2 });
        if (!this.viewer) throw new Error("no WebGL");
      } catch (error) {  // the drawing remains
        scene.remove();
        return;
      }
      this.controls();
      this.choose(0);
      this.viewer.setView([...this.viewer.getView().slice(0, 4), ...this.figure.dataset.turn.split(" ").map(Number)]);
      this.stage.classList.add("live");
      this.figure.dataset.ready = String(this.viewer.labels ? this.viewer.labels.length : 0);
    }

    controls() {
      const bar = make("div", { className: "controls" }, this.figure);
      this.list = make("select", { ariaLabel: "structure" }, bar);
      this.views.forEach((view, index) => make("option", { value: index, textContent: view.title }, this.list));
      this.list.hidden = this.views.length < 2;
      this.list.onchange = () => this.choose(Number(this.list.value));
      this.button = make("button", { type: "button" }, bar);
      this.button.onclick = () => (this.timer ? this.stop() : this.play());
      this.slider = make("input", { type: "range", min: 0, value: 0, ariaLabel: "frame" }, bar);
      this.slider.oninput = () => { this.stop(); this.show(Number(this.slider.value)); };
      const label = make("label", {}, bar);
      this.numbers = make("input", { type: "checkbox", checked: this.views[0].symbols.length <= MOST_NUMBERS }, label);
      label.append(" atom numbers");
      this.numbers.onchange = () => this.show(this.frame);
      this.text = make("output", {}, bar);
    }

    choose(index) {
      this.stop();
      this.view = this.views[index];
      this.count = this.view.mode ? PERIOD : this.view.frames.length;
      for (const node of [this.button, this.slider]) node.hidden = this.count < 2;
      this.slider.hidden ||= Boolean(this.view.mode);
      this.slider.max = this.count - 1;
      this.show(0);
      this.viewer.zoomTo();
      this.viewer.zoom(0.95);
      this.viewer.render();
      if (this.view.mode) this.play();
    }

    play() {
      this.button.textContent = "pause";
      this.timer = setInterval(() => {
        if (!document.hidden) this.show((this.frame + 1) % this.count);
      }, this.view.mode ? DELAY : Math.max(DELAY, 4000 / this.count));
    }

    stop() {
      clearInterval(this.timer);
      this.timer = null;
      this.button.textContent = "play";
    }

    show(index) {
      const { view, viewer } = this, frame = view.mode ? view.frames[0] : view.frames[index];
      const symbols = frame.symbols || view.symbols, xyz = positions(view, index);
      this.frame = index;
      this.slider.value = index;
      viewer.removeAllModels();
      viewer.removeAllLabels();
      viewer.removeAllShapes();
      const lines = symbols.map((symbol, i) => `${symbol} ${xyz[3 * i]} ${xyz[3 * i + 1]} ${xyz[3 * i + 2]}`);
      viewer.addModel(`${symbols.length}\n\n${lines.join("\n")}\n`, "xyz");
      viewer.setStyle({}, { stick: { radius: 0.11, colorscheme: "Jmol" }, sphere: { scale: 0.24, colorscheme: "Jmol" } });
      for (const [start, end] of view.cell ? corners(view.cell) : []) viewer.addLine({ start: point(start), end: point(end), color: "gray" });
      if (this.numbers.checked) symbols.forEach((symbol, i) => viewer.addLabel(`${symbol}${i + 1}`, {
        position: point(xyz.slice(3 * i, 3 * i + 3)), fontSize: 11, fontColor: "black", backgroundColor: "white",
        backgroundOpacity: 0.6, borderThickness: 0, padding: 1, alignment: "center", inFront: true,
      }));
      viewer.render();
      const place = view.mode || this.count < 2 ? "" : `${index + 1} of ${this.count}`;
      this.text.textContent = [place, frame.label].filter(Boolean).join(" · ");
    }
  }

  // A browser has few WebGL contexts: so many molecules move at most, those far down the page once they come into view.
  const AT_ONCE = 3, MOST = 12;
  const figures = [...document.querySelectorAll("figure.molecule")];
  const start = (figure) => new Molecule(figure).start();
  let free = MOST - AT_ONCE;
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting && free > 0)) {
      free -= 1;
      observer.unobserve(entry.target);
      start(entry.target);
    }
  }, { rootMargin: "200px" });
  figures.slice(0, AT_ONCE).forEach(start);
  figures.slice(AT_ONCE).forEach((figure) => observer.observe(figure));
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => (details.open = true)));
})();
