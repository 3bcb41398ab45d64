"""How the HTML page looks: light and dark, on paper, on a phone."""

from __future__ import annotations

SERIES = {
    "FSDP": ("#1f77d0", "#5aa9e6", "#6a5acd", "#159a9a", "#8f7ae5", "#0d5c8f", "#3fb6c6"),
    "DeepSpeed": ("#d2691e", "#b03a2e", "#d9a400", "#c2557a", "#8c5a2b", "#e58a5c", "#9a7d0a"),
    "DDP": ("#3a9d3a", "#7fb800"),
}
"""Colours of lines and bars by family, that show on light and dark grounds."""

CSS = """
:root { color-scheme: light dark; --ground: #fff; --text: #1c2530; --dim: #5b6773; --line: #d5dbe1; --card: #f5f7f9;
  --good: #1d7a3a; --bad: #b3261e; --accent: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --ground: #12171d; --text: #e4e9ee; --dim: #98a4b0; --line: #313b46;
  --card: #1a2129; --good: #6fce8b; --bad: #ff8a80; --accent: #7ab8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 1rem; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 1rem 0 .3rem; }
.about { color: var(--dim); margin: 0; } .about span { white-space: nowrap; }
.about span:not(:last-child)::after { content: " ·"; }
.answer { background: var(--card); border-left: 4px solid var(--accent); border-radius: 4px; padding: .7rem 1rem;
  margin: 1rem 0; } .answer p { margin: .2rem 0; } .answer p:first-child { font-size: 1.1rem; font-weight: 600; }
.dim, .notes { color: var(--dim); font-size: .85rem; } .notes { max-width: 80ch; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 1.2rem; }
figure { margin: 0; max-width: 480px; min-width: 0; } figcaption { font-weight: 600; font-size: .9rem; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--text); font-size: 12px; }
svg .dim { fill: var(--dim); font-size: 11px; } svg .grid { stroke: var(--line); } svg .whisker { stroke: var(--text); }
.legend { display: flex; flex-wrap: wrap; gap: .15rem .9rem; margin: .3rem 0 0; padding: 0; list-style: none;
  font-size: .8rem; } .legend svg { display: inline-block; width: 26px; height: 12px; vertical-align: -2px; }
.scroll { overflow-x: auto; margin: .4rem 0 .8rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line);
  white-space: nowrap; } th { color: var(--dim); font-weight: 600; position: sticky; top: 0; }
th.words, td.words { text-align: left; } td.long { white-space: normal; min-width: 14rem; max-width: 46rem; }
tbody tr:hover { background: var(--card); }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--accent); font-size: .9rem; }
ul.lines { list-style: none; padding: 0; max-width: 95ch; } ul.lines li { margin: .4rem 0; overflow-wrap: anywhere; }
.holds { color: var(--good); font-weight: 600; } .refuted { color: var(--bad); font-weight: 600; }
@media (max-width: 640px) { table.wordy thead { display: none; } table.wordy td { display: block; border: 0;
    min-width: 0; padding: .1rem 0; white-space: normal; overflow-wrap: anywhere; text-align: left; }
  table.wordy td:first-child { font-weight: 600; } table.wordy td:nth-child(2) { font-weight: 600; }
  table.wordy td:empty { display: none; } table.wordy tr { display: block; padding: .4rem 0;
    border-bottom: 1px solid var(--line); } }
@media print { details > * { display: block; } body { max-width: none; } }
"""
