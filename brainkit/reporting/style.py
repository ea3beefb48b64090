"""The style sheet of the report; part of the page, so that nothing is fetched."""

CSS = """
:root { color-scheme: light; --ink: #1c2128; --faint: #5b6470; --line: #d9dee4; --soft: #f5f7f9;
  --accent: #24507f; }
* { box-sizing: border-box; }
html { background: #fff; color: var(--ink); }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  max-width: 1200px; margin: 0 auto; padding: 28px 28px 80px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.45rem; margin: 3rem 0 .6rem; padding-bottom: .3rem;
  border-bottom: 2px solid var(--ink); }
h3 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1.3rem 0 .3rem; }
p { max-width: 76ch; margin: .5rem 0; }
a { color: var(--accent); }
h1, h2, h3, h4, p, dd, dt, li, figcaption, .manifest td, .manifest th { overflow-wrap: anywhere; }
td, th, caption { overflow-wrap: break-word; }
.lead { font-size: 1.08rem; }
.note, figcaption, caption { color: var(--faint); font-size: .88rem; }
.warning, .simulated { border-left: 5px solid #b45f06; background: #fff5e6; padding: .7rem 1rem;
  max-width: none; border-radius: 3px; }
.simulated { margin: 1.2rem 0; }
.simulated strong { font-size: 1.1rem; }
nav { background: var(--soft); border: 1px solid var(--line); border-radius: 5px;
  padding: .7rem 1.1rem; margin: 1.4rem 0; font-size: .93rem; }
nav ul { margin: .2rem 0; padding-left: 1.2rem; columns: 2; }
nav ul ul { columns: 1; }
nav > ul > li { break-inside: avoid; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .35rem; caption-side: top; }
caption strong, figcaption strong { color: var(--ink); }
th, td { padding: .26rem .7rem .26rem 0; text-align: left; vertical-align: top; }
th + td, td + td, th + th { padding-left: .5rem; }
thead th { border-bottom: 1.5px solid var(--ink); font-weight: 600; vertical-align: bottom;
  }
tbody th { font-weight: 500; }
tbody tr { border-bottom: 1px solid var(--line); }
.number { text-align: right; }
td.number { white-space: nowrap; }
.total { font-weight: 650; }
.met { color: #17692f; font-weight: 600; white-space: nowrap; }
.unmet { color: #a3211b; font-weight: 600; white-space: nowrap; }
.tables { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; }
.tables > .scroll { max-width: 100%; }
figure { margin: 1.2rem 0; }
.first { display: flex; flex-wrap: wrap; gap: 0 1.4rem; align-items: flex-start; }
.first > figure { flex: 1 1 330px; margin: .6rem 0; }
.first > .scroll, .first > .strip { flex: 1 1 100%; }
.first figcaption, .first caption { font-size: .8rem; }
.preset { color: var(--faint); font-size: .8rem; }
figure > img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 92ch; margin-top: .3rem; }
img.stimulus { width: 96px; height: auto; display: block; image-rendering: pixelated;
  border: 1px solid var(--line); }
.pairs td, .pairs th { padding: .3rem .9rem .3rem 0; border: 0; }
.pairs tbody tr { border: 0; }
.pairs td { font-size: .8rem; color: var(--faint); }
.pairs thead th { font-size: .82rem; width: 106px; }
.pairs thead th:nth-child(3), .strip h4 { color: var(--ink); }
.pairs.wide img.stimulus { width: 84px; }
.pairs.wide td, .pairs.wide th { padding-right: .55rem; font-size: .76rem; }
.pairs.wide thead th { width: 93px; }
.sentences td, .sentences th { width: 8.5rem; min-width: 6.5rem; font-size: .78rem; }
.sentences thead th:nth-child(3) { color: var(--accent); }
.sentences img.stimulus { width: 66px; }
.strip ul { list-style: none; display: flex; flex-wrap: wrap; gap: .5rem; margin: .3rem 0 .9rem;
  padding: 0; }
.strip li { font-size: .74rem; color: var(--faint); width: 92px; line-height: 1.3; }
.strip img.stimulus { width: 92px; }
.strip h4 span { font-weight: 400; color: var(--faint); font-size: .88rem; }
dl { margin: .6rem 0; display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr;
  gap: .35rem 1.2rem; font-size: .93rem; }
dt { font-weight: 600; }
dd { margin: 0; max-width: 80ch; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--soft); border: 1px solid var(--line); padding: .8rem; overflow-x: auto;
  font-size: .78rem; line-height: 1.4; }
.manifest th { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .8rem;
  font-weight: 500; }
@media (max-width: 760px) {
  body { padding: 16px 14px 60px; font-size: 15px; }
  nav ul { columns: 1; }
  dl { grid-template-columns: 1fr; gap: .1rem; }
  dd { margin-bottom: .6rem; }
  img.stimulus { width: 66px; }
  .pairs td, .pairs th { padding: .2rem .3rem .2rem 0; }
  .pairs thead th { width: 68px; font-size: .7rem; }
  .pairs tbody th { font-size: .75rem; width: 50px; }
}
@media print {
  nav { display: none; }
  h2 { break-before: page; }
  figure, tr { break-inside: avoid; }
}
"""
