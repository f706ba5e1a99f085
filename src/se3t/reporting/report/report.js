"use strict";
(() => {
  const byId = (name) => document.getElementById(name);

  // --- colours: those of the system until the reader chooses -------------------------------------------------------

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const redraw = new Set();

  function theme() {
    return document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  }

  function applyTheme(chosen) {
    if (chosen) document.documentElement.dataset.theme = chosen;
    const other = theme() === "dark" ? "Light" : "Dark";
    byId("theme").textContent = other;
    byId("theme").setAttribute("aria-label", `Switch to ${other.toLowerCase()} colours`);
    redraw.forEach((draw) => draw());
  }

  function stored(value) {
    try { // a page from disk may have no storage
      if (value) localStorage.setItem("se3t-theme", value);
      return localStorage.getItem("se3t-theme");
    } catch (error) {
      return null;
    }
  }

  byId("theme").hidden = false;
  byId("theme").addEventListener("click", () => {
    const chosen = theme() === "dark" ? "light" : "dark";
    stored(chosen);
    applyTheme(chosen);
  });
  dark.addEventListener("change", () => applyTheme());

  // --- runs: sorting, filtering, details ---------------------------------------------------------------------------

  function setUpRuns(table) {
    const bodies = () => Array.from(table.tBodies);

    function value(body, column, kind) {
      const text = body.rows[0].cells[column].dataset.value;
      return kind === "number" && text !== "" ? Number(text) : text;
    }

    function compare(one, other, column, kind, sign) {
      const [a, b] = [value(one, column, kind), value(other, column, kind)];
      if (a === "" || b === "") return (a === "") - (b === ""); // nothing known comes last, whichever way
      return sign * (kind === "number" ? a - b : a.localeCompare(b));
    }

    function sort(head) {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      const button = head.querySelector("button");
      for (const other of head.parentNode.cells) {
        if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      }
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const sorted = bodies().sort((one, other) => compare(one, other, head.cellIndex, button.dataset.kind, ascending ? 1 : -1));
      table.append(...sorted);
    }

    function filter() {
      const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
      const [experiment, state] = [byId("filter-experiment").value, byId("filter-state").value];
      let shown = 0;
      for (const body of bodies()) {
        const text = body.textContent.toLowerCase();
        const fits = words.every((word) => text.includes(word))
          && (!experiment || body.dataset.experiment === experiment) && (!state || body.dataset.state === state);
        body.hidden = !fits;
        shown += fits;
      }
      const all = bodies().length;
      byId("count").textContent = shown === all ? `${all} runs` : `${shown} of ${all} runs`;
    }

    for (const head of table.tHead.querySelectorAll("th[aria-sort]")) {
      head.querySelector("button").addEventListener("click", () => sort(head));
    }
    for (const name of ["filter", "filter-experiment", "filter-state"]) byId(name).addEventListener("input", filter);
    table.addEventListener("click", (event) => {
      const button = event.target.closest(".expand");
      if (!button) return;
      const details = byId(button.getAttribute("aria-controls"));
      details.hidden = !details.hidden;
      button.setAttribute("aria-expanded", String(!details.hidden));
    });
  }

  if (byId("run-table")) setUpRuns(byId("run-table"));

  // --- vectors -----------------------------------------------------------------------------------------------------

  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const add = (a, b) => a.map((value, index) => value + b[index]);
  const subtract = (a, b) => a.map((value, index) => value - b[index]);
  const scale = (a, factor) => a.map((value) => value * factor);
  const norm = (a) => Math.sqrt(dot(a, a));

  /** A vector turned about a unit axis by an angle in radians (Rodrigues). */
  function turned(vector, axis, angle) {
    const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
    const along = scale(axis, dot(axis, vector) * (1 - cosine));
    return add(add(scale(vector, cosine), scale(cross(axis, vector), sine)), along);
  }

  // --- the three-dimensional view ----------------------------------------------------------------------------------

  function setUpView(view) {
    const canvas = byId("scene");
    const pen = canvas.getContext("2d");
    const axis = scale(view.axis, 1 / norm(view.axis));
    const side = cross(axis, Math.abs(axis[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0]);
    const frame = [scale(side, 1 / norm(side)), axis, null];
    frame[2] = cross(frame[0], frame[1]);
    const radians = view.angles.map((degrees) => (degrees * Math.PI) / 180);
    const start = { yaw: 0.5, pitch: 0.55, distance: 1 };
    const camera = { ...start };
    const state = { model: 0, angle: 0, timer: null };
    const shown = {};
    const everything = [view.positions, view.target, ...view.models.flatMap((model) => model.predictions)].flat();
    const near = Math.max(...[...view.positions, ...view.target].map(norm));
    const radius = Math.min(Math.max(...everything.map(norm)), 2.5 * near) || 1; // a wild prediction may leave the picture

    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

    /** Where a point of the data appears: x, y in pixels, and its size there. */
    function project(point) {
      const [x, y, z] = frame.map((direction) => dot(direction, point) / radius);
      const [cy, sy, cp, sp] = [Math.cos(camera.yaw), Math.sin(camera.yaw), Math.cos(camera.pitch), Math.sin(camera.pitch)];
      const [right, back] = [cy * x + sy * z, cy * z - sy * x];
      const [up, depth] = [cp * y - sp * back, sp * y + cp * back];
      const size = 4 / Math.max(0.5, 4 - depth); // a wild prediction may lie behind the eye
      const half = (Math.min(canvas.clientWidth, canvas.clientHeight) / 2) * 0.88 * camera.distance;
      return { x: canvas.clientWidth / 2 + right * half * size, y: canvas.clientHeight / 2 - up * half * size, size, depth };
    }

    function line(points, { width = 1, dash = [], alpha = 1, stroke, fade = false }) {
      pen.save();
      pen.setLineDash(dash);
      pen.lineWidth = width;
      pen.strokeStyle = stroke;
      const places = points.map(project);
      if (fade) { // what is behind is fainter
        for (let index = 1; index < places.length; index += 1) {
          pen.globalAlpha = alpha * Math.min(1, 0.65 + 0.35 * places[index].depth);
          pen.beginPath();
          pen.moveTo(places[index - 1].x, places[index - 1].y);
          pen.lineTo(places[index].x, places[index].y);
          pen.stroke();
        }
      } else {
        pen.globalAlpha = alpha;
        pen.beginPath();
        places.forEach((place, index) => (index ? pen.lineTo(place.x, place.y) : pen.moveTo(place.x, place.y)));
        pen.stroke();
      }
      pen.restore();
    }

    function disc(point, size, { fill, stroke, alpha = 1, label = "" }) {
      const place = project(point);
      pen.save();
      pen.globalAlpha = alpha;
      pen.beginPath();
      pen.arc(place.x, place.y, size * place.size, 0, 2 * Math.PI);
      if (fill) { pen.fillStyle = fill; pen.fill(); }
      if (stroke) { pen.strokeStyle = stroke; pen.lineWidth = 2; pen.stroke(); }
      if (label) {
        pen.fillStyle = colour("paper");
        pen.font = `bold ${Math.round(size * 1.7 * place.size)}px system-ui, sans-serif`;
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(label, place.x, place.y);
      }
      pen.restore();
    }

    const charge = (particle) => colour(view.charges[particle] > 0 ? "positive" : "negative");
    const rotated = (point) => turned(point, axis, radians[state.angle]);
    const model = () => view.models[state.model];

    /** Where a perfect model, which agrees as long as nothing is turned, predicts a particle. */
    function perfect(particle, angle) {
      return turned(model().predictions[0][particle], axis, angle);
    }

    function circle(particle) {
      const turns = Array.from({ length: 97 }, (_, index) => (index / 96) * 2 * Math.PI);
      return turns.map((angle) => perfect(particle, angle));
    }

    function draw() {
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [canvas.clientWidth, canvas.clientHeight];
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
      }
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      line([scale(axis, -1.15 * radius), scale(axis, 1.15 * radius)], { stroke: colour("muted"), alpha: 0.45 });
      const particles = view.charges.map((_, index) => index);
      const discs = [];
      for (const particle of particles) {
        const fill = charge(particle);
        const [before, after] = [rotated(view.positions[particle]), rotated(view.target[particle])];
        const prediction = model().predictions[state.angle][particle];
        if (shown.circles) line(circle(particle), { stroke: fill, dash: [5, 4], alpha: 0.8, width: 1.25 });
        if (shown.path) {
          const path = model().predictions.map((positions) => positions[particle]);
          line([...path, path[0]], { stroke: fill, alpha: 0.35, width: 1 });
          path.forEach((point) => discs.push([point, 2, { fill, alpha: 0.75 }]));
        }
        if (shown.velocities) {
          const velocity = rotated(view.velocities[particle]);
          line([before, add(before, velocity)], { stroke: colour("ink"), width: 1.5, alpha: 0.6 });
        }
        if (shown.input && shown.prediction) line([before, prediction], { stroke: fill, alpha: 0.5 });
        if (shown.input) discs.push([before, 4, { fill, alpha: 0.85 }]);
        if (shown.truth) discs.push([after, 9, { stroke: fill }]);
        if (shown.prediction) discs.push([prediction, 6.5, { fill, label: view.charges[particle] > 0 ? "+" : "−" }]);
      }
      discs.sort((one, other) => project(one[0]).depth - project(other[0]).depth);
      discs.forEach((entry) => disc(...entry));
    }

    // --- how far the prediction is from the perfect one

    /** Root mean square distance over the particles, and relative to how far they were predicted to go (Equation 14). */
    function deviation(index) {
      let [distance, size] = [0, 0];
      view.charges.forEach((_, particle) => {
        const away = subtract(model().predictions[index][particle], perfect(particle, radians[index]));
        const moved = subtract(model().predictions[0][particle], view.positions[particle]);
        distance += dot(away, away);
        size += dot(moved, moved);
      });
      return { distance: Math.sqrt(distance / view.charges.length), relative: size ? Math.sqrt(distance / size) : 0 };
    }

    const written = (value) => (value === 0 ? "0" : value < 0.001 ? value.toExponential(1) : value.toPrecision(3));
    function update() {
      const degrees = `${view.angles[state.angle]}°`;
      byId("angle").value = state.angle;
      byId("angle").setAttribute("aria-valuetext", degrees);
      byId("angle-text").textContent = degrees;
      const all = view.angles.map((_, index) => deviation(index));
      const largest = all.reduce((one, other) => (other.distance > one.distance ? other : one));
      for (const [place, found] of [["here", all[state.angle]], ["largest", largest]]) {
        for (const name of ["distance", "relative"]) byId(`read-${name}-${place}`).textContent = written(found[name]);
      }
      byId("read-mse").textContent = written(model().mse);
      byId("read-error").textContent = written(model().error);
      byId("read-steps").textContent = model().steps.toLocaleString("en");
      draw();
    }

    // --- controls

    function pause() {
      clearInterval(state.timer);
      state.timer = null;
      byId("play").textContent = "Play";
      byId("play").setAttribute("aria-pressed", "false");
    }

    function play() {
      state.timer = setInterval(() => {
        state.angle = (state.angle + 1) % view.angles.length;
        update();
      }, 140);
      byId("play").textContent = "Pause";
      byId("play").setAttribute("aria-pressed", "true");
    }

    byId("play").addEventListener("click", () => (state.timer === null ? play() : pause()));
    byId("angle").addEventListener("input", (event) => {
      pause();
      state.angle = Number(event.target.value);
      update();
    });
    byId("model").addEventListener("input", (event) => {
      state.model = Number(event.target.value);
      update();
    });
    for (const box of document.querySelectorAll("[data-show]")) {
      shown[box.dataset.show] = box.checked;
      box.addEventListener("input", () => {
        shown[box.dataset.show] = box.checked;
        draw();
      });
    }

    function turn(right, up) {
      camera.yaw += right;
      camera.pitch = Math.max(-1.55, Math.min(1.55, camera.pitch + up));
      draw();
    }

    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) turn(event.movementX / 120, event.movementY / 120);
    });
    const keys = {
      ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, -0.1), ArrowDown: () => turn(0, 0.1),
      "+": () => { camera.distance = Math.min(4, camera.distance * 1.15); draw(); },
      "-": () => { camera.distance = Math.max(0.3, camera.distance / 1.15); draw(); },
      Home: () => { Object.assign(camera, start); draw(); },
    };
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    new ResizeObserver(draw).observe(canvas);
    redraw.add(draw);
    byId("model").value = "0"; // a reloaded page may have kept another
    update();
  }

  if (byId("view-data")) setUpView(JSON.parse(byId("view-data").textContent));
  applyTheme(stored());
})();
