"use strict";
// Numbers of the place in a chart that a pointer or the arrow keys are at.
const charts = JSON.parse(document.getElementById("data").textContent).charts;
const tip = document.getElementById("tip");

const told = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(3);
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 12 : 4, maximumFractionDigits: 4 });
};

// The places of a chart in their order, each with x in units of its picture and its words.
const placesOf = (chart) => {
  if (chart.kind === "columns") return chart.marks.map(([left, right, words]) => ({ x: (left + right) / 2, words }));
  if (chart.kind === "rows") return chart.marks.map(([top, bottom, words]) => ({ y: (top + bottom) / 2, words }));
  if (chart.kind === "map") {
    const [left, wide] = chart.x, [base, deep] = chart.y;
    return chart.values.flatMap((row, r) => row.map((value, c) => ({
      x: left + (c + 0.5) * wide, y: base - (r + 0.5) * deep,
      words: `${chart.x_label} ${told(chart.columns[c])}, ${chart.y_label} ${told(chart.rows[r])}\n${chart.value_label} ${told(value)}`,
    })));
  }
  const at = new Map(), [low, high, start, end] = chart.x;
  for (const series of chart.series) {
    series.x.forEach((x, i) => {
      const band = series.low ? ` (${told(series.low[i])} to ${told(series.high[i])})` : "";
      if (series.y[i] !== null) at.set(x, [...(at.get(x) || []), `${series.name}: ${told(series.y[i])}${band}`]);
    });
  }
  return [...at.keys()].sort((a, b) => a - b).map((x) => ({
    x: start + ((x - low) / (high - low)) * (end - start), words: `${chart.x_label} ${told(x)}\n${at.get(x).join("\n")}`,
  }));
};

for (const svg of document.querySelectorAll("svg.chart")) {
  const chart = charts[svg.id];
  if (!chart) continue;
  const height = svg.viewBox.baseVal.height;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  let places, now = -1;

  const show = (number) => {
    now = Math.max(0, Math.min(places.length - 1, number));
    const place = places[now];
    if (!place) return;
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    tip.textContent = place.words;
    tip.hidden = false;
    const x = place.x ?? 180, y = place.y ?? 16;
    const left = Math.min(box.left + x * scale + 12, document.documentElement.clientWidth - tip.offsetWidth - 6);
    tip.style.left = `${Math.max(4, left) + window.scrollX}px`;
    tip.style.top = `${box.top + y * scale + window.scrollY + 12}px`;
    if (chart.kind === "curves" || chart.kind === "columns") {
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x);
      cursor.setAttribute("y1", 12); cursor.setAttribute("y2", height - 36);
      svg.append(cursor);
    }
  };
  const hide = () => { tip.hidden = true; cursor.remove(); };
  const begin = () => { places = places || placesOf(chart); };

  svg.addEventListener("pointermove", (event) => {
    begin();
    const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale, y = (event.clientY - box.top) / scale;
    let best = 0, least = Infinity;
    places.forEach((place, i) => {
      const away = Math.hypot(place.x === undefined ? 0 : place.x - x, place.y === undefined ? 0 : place.y - y);
      if (away < least) { least = away; best = i; }
    });
    show(best);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) { begin(); show(now < 0 ? places.length - 1 : now); } });
  svg.addEventListener("keydown", (event) => {
    begin();
    const row = chart.kind === "map" ? chart.values[0].length : 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: chart.kind === "map" ? -row : 1, ArrowUp: chart.kind === "map" ? row : -1,
                    PageUp: -Math.ceil(places.length / 10), PageDown: Math.ceil(places.length / 10), Home: -places.length, End: places.length };
    if (event.key === "Escape") hide();
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(now + steps[event.key]);
  });
}
