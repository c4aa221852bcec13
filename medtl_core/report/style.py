"""The style sheet of the report page: light and dark, screen, phone and paper; nothing is fetched."""

CSS = """
:root { color-scheme: light dark;
  --ink: #1d2733; --muted: #5a6675; --grid: #dfe4ea; --paper: #ffffff; --ground: #f4f6f8;
  --focus: #0b6e99; --focus-soft: #cfe4ee; --second: #b3541e; --third: #7a8694;
  --notice: #fff4dc; --notice-edge: #d9a23b; --notice-ink: #5c4108; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e4e9ef; --muted: #a0acb9; --grid: #313b47; --paper: #171d24; --ground: #0f1419;
  --focus: #5cb9de; --focus-soft: #1f4557; --second: #e59a66; --third: #8793a0;
  --notice: #33290f; --notice-edge: #8f6d23; --notice-ink: #f2dca8; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
.skip { position: absolute; left: -999px; } .skip:focus { left: 1rem; top: .5rem; }
main, header, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 .35rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .35rem; }
p { margin: 0 0 .8rem; max-width: 44rem; }
.sub, .note, figcaption { color: var(--muted); } .note, figcaption { font-size: .875rem; }
.lead { font-size: 1.1rem; line-height: 1.5; margin: 1.2rem 0; }
.banner { border: 1px solid var(--notice-edge); background: var(--notice); color: var(--notice-ink); border-radius: 8px;
  padding: .7rem 1rem; margin: 1.25rem 0 0; max-width: none; }
.research { color: var(--muted); font-size: .875rem; margin: .9rem 0 0; }
section { background: var(--paper); border: 1px solid var(--grid); border-radius: 10px; padding: 1.4rem 1.5rem;
  margin: 1.25rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.2rem, 1fr)); gap: .75rem; margin: 0 0 1.25rem;
  padding: 0; }
.tiles div { background: var(--paper); border: 1px solid var(--grid); border-radius: 10px; padding: .75rem .85rem; }
.tiles dt { color: var(--muted); font-size: .8125rem;
  line-height: 1.35; min-height: 2.7em; display: flex; align-items: flex-end; }
.tiles dd { margin: .1rem 0 0; font-size: 1.45rem;
  font-weight: 600; line-height: 1.25; } .tiles small { display: block; font-size: .8125rem; font-weight: 400;
  color: var(--muted); }
figure { margin: 1rem 0 0; } figcaption { margin-top: .4rem; max-width: 44rem; }
svg { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; } .wide svg { min-width: 34rem; }
.pair { display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; align-items: flex-start; }
.pair > * { flex: 0 1 auto; min-width: 0; } .pair .grow { flex: 1 1 22rem; }
.scroll { overflow-x: auto; margin-top: 1rem; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 3px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
caption { text-align: left; color: var(--muted); padding-bottom: .4rem; }
th, td { padding: .38rem .5rem; border-bottom: 1px solid var(--grid); text-align: right; white-space: nowrap;
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; padding-left: 0; } th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 600; border-bottom: 2px solid var(--grid); vertical-align: bottom; white-space: normal; }
tbody th { font-weight: 400; } tr.focus th, tr.focus td { font-weight: 650; } tr.reference th { color: var(--muted); }
td small { display: block; color: var(--muted); font-weight: 400; font-size: .75rem; letter-spacing: -.01em; }
.words td, .words th { text-align: left; white-space: normal; overflow-wrap: anywhere; }
details { margin-top: .6rem; } summary { cursor: pointer; color: var(--focus); font-weight: 500; }
details .pair { margin-top: .5rem; } h3 + .pair { margin-top: 0; }
.terms dt { font-weight: 600; margin-top: .6rem; } .terms dd { margin: 0; max-width: 44rem; color: var(--muted); }
.facts { columns: 2 20rem; column-gap: 2.5rem; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { color: var(--muted); font-size: .875rem; padding-bottom: 3rem; }
@media (max-width: 34rem) { main, header, footer { padding-left: .9rem; padding-right: .9rem; }
  section { padding: 1.1rem 1rem; } h1 { font-size: 1.45rem; } }
@media print { :root { color-scheme: light; --ink: #000; --muted: #444; --grid: #ccc; --paper: #fff; --ground: #fff;
    --focus: #0b5f85; --focus-soft: #d5e6ee; --second: #9c4513; --third: #6b7683; --notice: #fff; --notice-edge: #000;
    --notice-ink: #000; }
  @page { margin: 16mm; } body { font-size: 10.5pt; } main, header, footer { max-width: none; padding: 0; }
  section, .tiles div { border: 0; padding: 0; border-radius: 0; } section { margin: 1.4rem 0; }
  figure, tr, .pair > *, dl div { break-inside: avoid; } h2, h3, .note { break-after: avoid; }
  .tiles { grid-template-columns: repeat(6, 1fr); }
  .scroll, .wide { overflow: visible; } .wide svg { min-width: 0; }
  table { font-size: 9pt; } .skip, details:not([open]), .extra:not(:has(details[open])) { display: none; } }
"""

#: Colours of a sweep's lines on a dark page, and its list of sentences.
SWEEP_CSS = """
@media (prefers-color-scheme: dark) { :root { --line-0: #5cb9de; --line-1: #e59a66; --line-2: #4fc79f;
  --line-3: #dd8fca; --line-4: #cdb04a; --line-5: #9ea3f2; --line-6: #f08496; --line-7: #a3c088; } }
@media print { :root { --line-0: #0b6e99; --line-1: #b3541e; --line-2: #00795a; --line-3: #9c3f84; --line-4: #7a6200;
  --line-5: #4a4fb0; --line-6: #a3243b; --line-7: #3f5a2a; } }
ul { padding-left: 1.2rem; margin: .6rem 0; } li { margin: .25rem 0; }
"""
