"""The page's one style sheet: system fonts, no colour that carries meaning, print and narrow screens included."""

from __future__ import annotations

CSS = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #4a4a4a; --line: #b8b8b8; --pale: #f3f3f1; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 62rem; background: #fff; color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.6rem 0 .6rem; padding-top: .7rem;
  border-top: 2px solid var(--ink); }
h3 { font-size: 1.05rem; margin: 1.7rem 0 .4rem; }
p, ul, dl { margin: .55rem 0; max-width: 44rem; }
ul { padding-left: 1.2rem; }
li { margin: .2rem 0; }
a { color: inherit; text-underline-offset: .15em; }
.lead { color: var(--soft); margin-top: 0; }
.note { color: var(--soft); font-size: .9rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; max-width: none;
  font-size: .95rem; }
.short { border: 1px solid var(--line); border-left: 6px solid var(--ink); background: var(--pale);
  padding: .5rem 1.1rem .7rem; margin: 1.2rem 0; }
.short h2 { border: 0; margin: .2rem 0; padding: 0; font-size: 1.1rem; }
.short ul, .warning ul, .warning p { max-width: none; }
.warning { border: 3px double var(--ink); padding: .3rem 1.1rem .5rem; margin: 1.2rem 0; }
.formula { font-family: Cambria, "STIX Two Text", "DejaVu Serif", Georgia, serif; font-size: 1.12rem; line-height: 1.9;
  background: var(--pale); padding: .6rem 1rem; max-width: none; }
.formula sup, .formula sub { font-size: .72em; line-height: 0; white-space: nowrap; }
.wide { overflow-x: auto; margin: .9rem 0 1.2rem; }
table { border-collapse: collapse; min-width: min(20rem, 100%); font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .35rem; }
th, td { text-align: left; vertical-align: top; padding: .22rem 1.1rem .22rem 0; overflow-wrap: normal; }
th { border-bottom: 1.5px solid var(--ink); font-weight: 600; vertical-align: bottom; }
td { border-bottom: 1px solid #dcdcdc; }
th.n, td.n { text-align: right; white-space: nowrap; }
tr.strong td { font-weight: 700; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; min-width: 0; }
figure { margin: 1.3rem 0 1.8rem; }
.drawing { overflow-x: auto; }
.drawing svg { display: block; height: auto; min-width: min(calc(var(--natural) * .66), 46rem); }
figcaption { font-size: .9rem; color: var(--soft); max-width: 44rem; margin-top: .4rem; }
pre { background: var(--pale); border: 1px solid var(--line); padding: .6rem .8rem; white-space: pre-wrap;
  font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; max-width: 100%; }
code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .88em; }
.sideways { display: none; }
@media (max-width: 40rem) {
  body { padding: 1rem .9rem 2rem; font-size: 1.02rem; }
  h1 { font-size: 1.45rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin: 0 0 .5rem 1rem; }
  .sideways { display: block; }
  table { width: max-content; }
  td { max-width: 17rem; }
  caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 1.9rem); }
}
@media print {
  @page { size: A4; margin: 15mm 14mm 16mm; }
  html { font-size: 9.5pt; }
  body { padding: 0; max-width: none; line-height: 1.42; }
  p, ul, dl, figcaption { max-width: none; orphans: 3; widows: 3; }
  h1 { font-size: 17pt; } h2 { font-size: 12.5pt; margin-top: 16pt; } h3 { font-size: 10.5pt; }
  h2, h3, caption { break-after: avoid; }
  nav, .sideways { display: none; }
  figure, tr, .whole, .warning, .short, pre { break-inside: avoid; }
  thead { display: table-header-group; }
  .wide, .drawing { overflow: visible; }
  table { font-size: 7.8pt; } th, td { padding-right: 5pt; } th.n, td.n { white-space: normal; }
  .drawing svg { min-width: 0; max-height: 220mm; }
  .short, .formula, pre { background: none; }
}
"""
