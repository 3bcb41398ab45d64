// Draws the page's charts with Plotly, in the colours of the reader's theme, and again when that, the width or the
// medium changes. All text goes through `plain`, since Plotly takes some of HTML in labels for markup.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll(".chart")];
  const paper = matchMedia("print"), dark = matchMedia("(prefers-color-scheme: dark)");
  const PAPER_WIDTH = 680, ROW = 30, LEGEND_ROW = 19, FRAME = 60, HEIGHT = 280, LEAST_HEIGHT = 150;
  const PATTERN = "rgba(255, 255, 255, .55)";
  const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];
  const plain = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  // As the tables write it: what would read as zero and is not is "<0.1".
  function figure(chart, value) {
    const [least, shown] = [10 ** -chart.decimals, value / chart.divisor].map(number => number.toLocaleString("en-US", {
      minimumFractionDigits: chart.decimals, maximumFractionDigits: chart.decimals }));
    return [value && !/[1-9]/.test(shown) ? `<${least}` : shown, chart.unit].filter(Boolean).join(" ");
  }

  function bars(chart, chosen, ink, width) {
    const { labels, parts } = chart.views[chosen];
    const names = labels.map(plain);
    const [along, across] = chart.upright ? ["y", "x"] : ["x", "y"];
    const traces = parts.map(part => {
      const lengths = part.values.map(value => value === null ? null : value / chart.divisor);
      const begins = part.begins && part.begins.map(value => value / chart.divisor);
      const told = part.values.map((value, i) =>
        value === null ? "" : part.words ? plain(part.words[i]) : figure(chart, value));
      return { type: "bar", orientation: chart.upright ? "v" : "h", name: plain(part.name),
        [across]: chart.upright ? names : names.map((_, i) => i), [along]: lengths, ...(begins && { base: begins }),
        text: told.map(words => words.split(" ")[0]), textposition: chart.mode === "stack" ? "inside" : "auto",
        insidetextanchor: "middle", textangle: 0, outsidetextfont: { color: ink.dim }, hoverinfo: "text",
        hovertext: told.map((words, i) => `${plain(chart.axis)} ${names[i]}<br>${plain(part.name)} ${words}`),
        marker: { color: part.colour, line: { width: .5, color: ink.ground },
          pattern: { shape: part.pattern, size: 7, solidity: .18, fillmode: "overlay", fgcolor: PATTERN } } };
    });
    const amount = { title: { text: plain(chart.unit), standoff: 6 }, zeroline: true, rangemode: "tozero" };
    if (chart.mode === "relative" || chart.mode === "overlay") {  // with room for figures beside the bars
      const ends = parts.flatMap(part => part.values.flatMap((value, i) =>
        value === null ? [] : [value + (part.begins ? part.begins[i] : 0)]));
      const least = Math.min(chart.start, ...ends), most = Math.max(chart.start, ...ends);
      const beside = .18 * (most - least);
      amount.range = [least - (least < chart.start ? beside : 0), most + beside].map(end => end / chart.divisor);
    }
    const room = Math.max(12, width / 16);
    const category = { automargin: true, showgrid: false, ...(chart.upright
      ? { type: "category", title: { text: plain(chart.axis), standoff: 6 } }
      : { autorange: "reversed", zeroline: false, tickvals: names.map((_, i) => i),
        ticktext: labels.map(label => plain(label.length > room ? `${label.slice(0, room - 1)}…` : label)) }) };
    const layout = { barmode: chart.mode, bargap: .28,
      ...(chart.mode !== "group" && { uniformtext: { minsize: 10, mode: "hide" } }),
      xaxis: chart.upright ? category : amount, yaxis: chart.upright ? amount : category };
    const rows = chart.mode === "group" ? labels.length * parts.length * .8 : labels.length;
    const height = chart.upright ? HEIGHT : Math.max(LEAST_HEIGHT, FRAME + ROW * rows);
    const isTold = chart.mode === "relative" && parts.length === labels.length;  // by the labels
    return { traces, layout, height, names: isTold ? [] : parts };
  }

  function lines(chart) {
    const end = Math.max(...chart.lines.map(line => line.x[line.x.length - 1]));
    const [unit, seconds] = end > 3 * 3600 ? ["h", 3600] : end > 900 ? ["min", 60] : ["s", 1];
    const when = at => `at ${(at / seconds).toFixed(2)} ${unit}`;
    const traces = chart.lines.map(line => ({ type: "scatter", mode: line.x.length > 40 ? "lines" : "lines+markers",
      name: plain(line.name), x: line.x.map(at => at / seconds), y: line.y.map(value => value / chart.divisor),
      line: { color: line.colour, dash: line.dash, width: 1.7 }, marker: { symbol: line.symbol, size: 5 },
      hoverinfo: "text",
      hovertext: line.y.map((value, i) => `${plain(line.name)}: ${figure(chart, value)}<br>${when(line.x[i])}`) }));
    const layout = { hovermode: "closest", xaxis: { title: { text: `${unit} since the recording began`, standoff: 6 } },
      yaxis: { title: { text: plain(chart.unit), standoff: 6 }, rangemode: "tozero", automargin: true } };
    return { traces, layout, height: HEIGHT, names: chart.lines.length > 1 ? chart.lines : [] };
  }

  function points(chart) {
    const traces = chart.marks.map(kind => ({ type: "scatter", mode: "markers", name: plain(kind.name), x: kind.x,
      y: kind.y.map(value => value / chart.divisor), hoverinfo: "text", hovertext: kind.words.map(plain),
      marker: { color: kind.colour, symbol: kind.symbol, size: 10, opacity: .85 } }));
    const powers = chart.marks.flatMap(kind => kind.x).map(Math.log10);
    const first = Math.floor(Math.min(...powers)), last = Math.max(first + 1, Math.ceil(Math.max(...powers)));
    const decades = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    const layout = { hovermode: "closest", xaxis: { type: "log", title: { text: plain(chart.axis), standoff: 6 },
      range: [first - .1, last + .1], tickvals: decades.map(power => 10 ** power),
      ticktext: decades.map(power => `${10 ** (power % 3)} ${SIZES[Math.floor(power / 3)]}`) },
      yaxis: { title: { text: plain(chart.unit), standoff: 6 }, rangemode: "tozero", automargin: true } };
    return { traces, layout, height: HEIGHT, names: chart.marks };
  }

  const drawers = { bars, lines, points };

  function draw(place) {
    const index = Number(place.dataset.chart), chart = charts[index];
    const select = document.querySelector(`select[data-of="${index}"]`);
    const style = getComputedStyle(document.documentElement);
    const ink = Object.fromEntries(["ground", "text", "dim", "line"].map(name =>
      [name, style.getPropertyValue(`--${name}`).trim()]));
    const width = paper.matches ? PAPER_WIDTH : place.clientWidth;
    const chosen = select ? select.selectedIndex : 0;
    const { traces, layout, height, names } = drawers[chart.kind](chart, chosen, ink, width);
    const longest = Math.max(0, ...names.map(({ name }) => name.length));
    const perRow = Math.max(1, Math.floor(width / (58 + 6.6 * longest)));
    const legend = LEGEND_ROW * Math.ceil(names.length / perRow);
    for (const axis of [layout.xaxis, layout.yaxis]) Object.assign(axis, { gridcolor: ink.line, zerolinecolor: ink.line,
      linecolor: ink.line, tickfont: { color: ink.dim, size: 11 } });
    Object.assign(layout, {
      width, height: height + legend, autosize: false, showlegend: names.length > 0, dragmode: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink.text, size: 12, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 46, r: 14, t: 8 + legend, b: 44 }, hoverlabel: { align: "left" },
      legend: { orientation: "h", traceorder: "normal", x: 0, xanchor: "left", y: 1, yanchor: "bottom",
        font: { size: 11.5, color: ink.text } } });
    return Plotly.react(place, traces, layout, { displayModeBar: false, responsive: false, doubleClick: "reset" });
  }

  const redraw = () => places.forEach(draw);

  // One chart at a time, so that the page can be read and scrolled from the begin.
  function drawNext(left) {
    if (!left.length) { document.documentElement.dataset.drawn = "true"; return; }
    draw(left[0]);
    setTimeout(drawNext, 0, left.slice(1));
  }

  let width = innerWidth, pending = 0;
  addEventListener("resize", () => {
    if (innerWidth === width || paper.matches) return;
    width = innerWidth;
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(redraw);
  });
  const folded = () => [...document.querySelectorAll("details:not([open])")];
  let opened = [];
  paper.addEventListener("change", () => {
    if (paper.matches) opened = folded();
    for (const details of opened) details.open = paper.matches;
    redraw();
  });
  dark.addEventListener("change", redraw);
  for (const select of document.querySelectorAll("select"))
    select.addEventListener("change", () => draw(places[Number(select.dataset.of)]));
  drawNext(places);
})();
