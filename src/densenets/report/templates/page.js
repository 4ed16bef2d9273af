"use strict";
// The map of connections: what is pointed at, focused or tapped is shown in the block's panel.
(() => {
  const nodes = JSON.parse(document.getElementById("nodes").textContent);

  const element = (tag, text) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  function fill(panel, node) {
    const facts = element("dl");
    for (const [label, value] of node.facts) {
      const pair = element("div");
      pair.append(element("dt", label), element("dd", value));
      facts.append(pair);
    }
    panel.replaceChildren(element("h4", node.title), facts);
    if (!node.sources.length) return;
    const sources = element("ol");
    sources.setAttribute("aria-label", `row of the heat map: ${node.unit}`);
    for (const [label, value, share] of node.sources) {
      const bar = element("i");
      bar.style.width = `${100 * share}%`;
      const line = element("li");
      const box = element("span");
      box.append(bar);
      line.append(element("span", label), box, element("span", value));
      sources.append(line);
    }
    panel.append(element("small", `${node.unit}, by source`), sources);
  }

  function show(block, button) {
    const place = Number(button.dataset.place);
    const buttons = [...block.querySelectorAll("button")];
    for (const other of buttons) {
      const there = Number(other.dataset.place);
      other.setAttribute("aria-pressed", String(other === button));
      other.classList.toggle("reads", there < place);
      other.classList.toggle("feeds", there > place);
    }
    const map = block.querySelector("svg");
    map.classList.add("picked");
    for (const arc of map.children) {
      arc.classList.toggle("reads", Number(arc.dataset.t) === place);
      arc.classList.toggle("feeds", Number(arc.dataset.s) === place);
    }
    fill(block.querySelector(".panel"), nodes[button.id]);
  }

  function walk(event, block) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 };
    const buttons = [...block.querySelectorAll("button")];
    const now = buttons.indexOf(event.target);
    let next = now + (steps[event.key] ?? 0);
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = buttons.length - 1;
    if (now < 0 || next === now || !buttons[next]) return;
    event.preventDefault();
    buttons[next].focus();
  }

  for (const block of document.querySelectorAll(".block")) {
    for (const button of block.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", "false");
      for (const kind of ["focus", "click", "pointerenter"]) {
        button.addEventListener(kind, () => show(block, button));
      }
    }
    block.addEventListener("keydown", (event) => walk(event, block));
  }
})();

// Charts are drawn in the colours of the moment, and again when these change.
(() => {
  const redraw = () => {
    for (const view of window.Bokeh?.index.roots ?? []) {
      if (!view.invalidate_painters) continue;
      view.invalidate_painters();
      view.repaint(); // at once: what is printed does not wait for the next frame
    }
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  matchMedia("print").addEventListener("change", redraw);
  const opened = new Set();
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.printed:not([open])")) {
      details.open = true;
      opened.add(details);
    }
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
    opened.clear();
  });
})();
