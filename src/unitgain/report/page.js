"use strict";
// Sort, filter and draw; the page is whole without it, but for the figures.
const table = document.getElementById("table");
const body = table.tBodies[0];
const heads = [...table.tHead.rows[0].cells];
const names = heads.map((head) => head.dataset.name);

function content(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
}

function before(a, b) {
  const missing = (v) => v === "" || Number.isNaN(v);
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

heads.forEach((head, column) => {
  head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].sort((x, y) => {
      const [a, b] = [content(x, column), content(y, column)];
      const empty = (v) => v === "" || Number.isNaN(v);
      return empty(a) || empty(b) ? before(a, b) : (down ? -1 : 1) * before(a, b);
    });
    body.append(...rows);
  });
});

function condition(word) {
  const match = word.match(/^(.+?)(!=|<=|>=|=|<|>)(.+)$/);
  const column = match ? names.indexOf(match[1]) : -1;
  if (column < 0) return (row) => row.textContent.toLowerCase().includes(word.toLowerCase());
  const [, , sign, text] = match;
  const number = Number(text);
  return (row) => {
    const value = content(row, column);
    const same = typeof value === "number" ? value === number : value.toLowerCase() === text.toLowerCase();
    if (sign === "=") return same;
    if (sign === "!=") return !same;
    if (typeof value !== "number" || Number.isNaN(value)) return false;
    return { "<": value < number, ">": value > number, "<=": value <= number, ">=": value >= number }[sign];
  };
}

function filter() {
  const conditions = document.getElementById("filter").value.split(/\s+/).filter(Boolean).map(condition);
  let count = 0;
  for (const row of body.rows) {
    row.hidden = !conditions.every((holds) => holds(row));
    count += !row.hidden;
  }
  document.getElementById("shown").textContent = `${count} of ${body.rows.length} runs`;
}
document.getElementById("filter").addEventListener("input", filter);
filter();

function reveal() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", reveal);
reveal();

const figures = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

function colours(layout) {
  const style = getComputedStyle(document.documentElement);
  const [ink, line, paper] = ["--ink", "--line", "--paper"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line };
  const coloured = {
    ...layout,
    font: { ...layout.font, color: ink, family: "system-ui, sans-serif", size: 13 },
    hoverlabel: { ...layout.hoverlabel, bgcolor: paper, bordercolor: line, font: { color: ink } },
  };
  for (const key of ["xaxis", "yaxis", "xaxis2", "yaxis2"]) {
    if (layout[key]) coloured[key] = { ...layout[key], ...axis, automargin: true };
  }
  return coloured;
}

// The library is most of the page: it is read once the page is there, or when a figure comes near.
function start() {
  if (window.Plotly) return;
  const library = document.createElement("script");
  library.textContent = document.getElementById("plotly").textContent;
  document.head.append(library);
}

function draw(name, choice = 0) {
  start();
  const { data, layout } = figures[name][choice];
  Plotly.react(`figure-${name}`, data, colours(layout), { responsive: true, displaylogo: false });
}

function redraw(name) {
  const select = document.querySelector(`select[data-figure="${name}"]`);
  draw(name, select ? Number(select.value) : 0);
}

// A figure is drawn once it comes near the window, so that the page is there at once.
const drawn = new Set();
const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    const name = target.id.slice("figure-".length);
    if (isIntersecting && !drawn.has(name)) {
      drawn.add(name);
      redraw(name);
    }
  }
}, { rootMargin: "600px" });

for (const select of document.querySelectorAll("select[data-figure]")) {
  select.addEventListener("change", () => redraw(select.dataset.figure));
}
dark.addEventListener("change", () => drawn.forEach(redraw));
for (const name of Object.keys(figures)) observer.observe(document.getElementById(`figure-${name}`));
addEventListener("load", () => setTimeout(start, 100));
