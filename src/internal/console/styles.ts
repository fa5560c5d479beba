/** How the pages look. Each colour of text is readable (WCAG AA) on each ground that it stands on, light and dark. */

const light = `
  --ground: #f5f6f8; --surface: #ffffff; --sunken: #f0f2f5; --line: #dfe3e9; --edge: #7d8796;
  --text: #1a1f29; --muted: #566173; --accent: #2f4bce; --on-accent: #ffffff; --danger: #b21f2d; --on-danger: #ffffff;
  --running: #1b4fc4; --running-ground: #e7eefe; --lapsed: #8f4600; --lapsed-ground: #fdf0dc;
  --unknown: #a51a2a; --unknown-ground: #fdeaec; --completed: #14633a; --completed-ground: #e2f4e9;
  --released: #4a5565; --released-ground: #ebeef2; --corrupted: #6b27a8; --corrupted-ground: #f2e9fd;
  --shadow: 0 1px 2px rgb(20 28 45 / 6%), 0 1px 1px rgb(20 28 45 / 4%);
`

const dark = `
  --ground: #11141a; --surface: #191d25; --sunken: #222732; --line: #2d3440; --edge: #7b8698;
  --text: #e7eaf0; --muted: #a4aebf; --accent: #a3b6ff; --on-accent: #10131c; --danger: #ff9ca6; --on-danger: #2b080d;
  --running: #a9c4ff; --running-ground: #1d2b50; --lapsed: #ffc985; --lapsed-ground: #412f12;
  --unknown: #ffb1b9; --unknown-ground: #481b23; --completed: #94e1b1; --completed-ground: #12381f;
  --released: #c2cad6; --released-ground: #2b323d; --corrupted: #dabaff; --corrupted-ground: #371f50;
  --shadow: none;
`

const frame = `
*, *::before, *::after { box-sizing: border-box; }
[hidden] { display: none !important; }
html { font: 400 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--text); min-height: 100vh; display: flex; flex-direction: column; }
a { color: var(--accent); text-underline-offset: 0.18em; text-decoration-thickness: 1px; }
a:hover { text-decoration-thickness: 2px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
main:focus, #live:focus { outline: none; }
code, pre, textarea { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; font-size: 0.92em; }
code { unicode-bidi: isolate; white-space: pre-wrap; overflow-wrap: anywhere; }
.invisible { color: var(--unknown); background: var(--unknown-ground); border-radius: 3px; }
.muted, .hint, .why { color: var(--muted); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: 0.75rem; top: -4rem; z-index: 2; background: var(--surface); padding: 0.5rem 1rem; border-radius: 8px; }
.skip:focus { top: 0.75rem; }
.inner, main { width: 100%; max-width: 75rem; margin: 0 auto; padding: 0 1.5rem; }
main { flex: 1; padding-top: 1.75rem; padding-bottom: 3rem; }
footer.inner { padding-top: 1rem; padding-bottom: 1.75rem; font-size: 0.87rem; }
.top { background: var(--surface); border-bottom: 1px solid var(--line); }
.top .inner { display: flex; align-items: center; gap: 0.25rem 1.75rem; min-height: 3.5rem; flex-wrap: wrap; }
.brand { display: flex; align-items: center; gap: 0.6rem; font-weight: 650; color: var(--text); text-decoration: none; overflow-wrap: anywhere; }
.brand img { border-radius: 6px; flex: none; }
nav ul, .counts, .troubles { list-style: none; margin: 0; padding: 0; }
.top nav ul { display: flex; gap: 0.25rem; }
.top nav a { display: block; padding: 0.4rem 0.7rem; border-radius: 8px; color: var(--muted); text-decoration: none; font-weight: 500; }
.top nav a:hover { color: var(--text); background: var(--sunken); }
.top nav a[aria-current] { color: var(--text); background: var(--sunken); font-weight: 600; }
.mode { margin-left: auto; font-size: 0.8rem; font-weight: 500; color: var(--muted); border: 1px solid var(--line); border-radius: 99px; padding: 0.1rem 0.65rem; }
.heading { display: flex; align-items: center; justify-content: space-between; flex-wrap: wrap; gap: 0.5rem 1rem; min-height: 2.4rem; margin-bottom: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; letter-spacing: -0.015em; font-weight: 650; margin: 0; overflow-wrap: anywhere; }
h1 code { font-size: 0.88em; }
h2 { font-size: 1rem; font-weight: 620; margin: 0 0 0.75rem; }
section { margin-top: 1.75rem; }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; box-shadow: var(--shadow); padding: 1.25rem; }
.card > :last-child, .card form > :last-child { margin-bottom: 0; }
.card > p:first-child { margin-top: 0; }
.card.narrow { max-width: 52rem; }
.card.flush { padding: 0; overflow-x: auto; }
section.card { margin-top: 1rem; }
section.card + #live { margin-top: 1.25rem; }
.notice + #live section.card:first-child, .heading + .problem + #live > section.card:first-child { margin-top: 0; }
.live-controls { display: flex; align-items: center; gap: 0.75rem; font-size: 0.87rem; font-variant-numeric: tabular-nums; }
.problem { margin: 0; }
.problem:not(:empty) { margin-bottom: 1rem; }
.notice, .problem:not(:empty) { border: 1px solid var(--line); border-left: 4px solid var(--running); background: var(--surface); border-radius: 8px; padding: 0.75rem 1rem; }
.notice { margin-bottom: 1rem; }
.notice p { margin: 0; }
.notice.error, .problem:not(:empty) { border-left-color: var(--unknown); }
.notice.warning { border-left-color: var(--lapsed); }
.notice.done { border-left-color: var(--completed); }
.intro, .summary { margin: 0 0 1rem; color: var(--muted); max-width: 48rem; }
.empty { color: var(--muted); }
`

const parts = `
.button { display: inline-flex; align-items: center; justify-content: center; min-height: 2.4rem; padding: 0.3rem 0.95rem; border-radius: 8px; border: 1px solid var(--edge); background: var(--surface); color: var(--text); font: inherit; font-weight: 550; text-decoration: none; cursor: pointer; }
.button:hover { background: var(--sunken); }
.button.primary { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.button.danger { border-color: var(--danger); color: var(--danger); }
.button.filled { background: var(--danger); color: var(--on-danger); }
.button.primary:hover, .button.filled:hover { filter: brightness(1.08); }
.button.quiet { min-height: 2rem; padding: 0.1rem 0.7rem; font-size: 0.87rem; border-color: var(--line); }
.buttons { display: flex; gap: 0.6rem; flex-wrap: wrap; margin: 1.25rem 0 0; }
.icon { flex: none; vertical-align: -0.12em; }
.badge { display: inline-flex; align-items: center; gap: 0.35rem; padding: 0.08rem 0.6rem; border-radius: 99px; font-size: 0.87rem; font-weight: 550; white-space: nowrap; }
.badge.running { color: var(--running); background: var(--running-ground); }
.badge.lapsed { color: var(--lapsed); background: var(--lapsed-ground); }
.badge.unknown { color: var(--unknown); background: var(--unknown-ground); }
.badge.completed { color: var(--completed); background: var(--completed-ground); }
.badge.released { color: var(--released); background: var(--released-ground); }
.badge.corrupted { color: var(--corrupted); background: var(--corrupted-ground); }
.calm { display: flex; align-items: center; gap: 0.6rem; margin: 0; color: var(--completed); background: var(--completed-ground); border-radius: 12px; padding: 0.85rem 1.1rem; font-weight: 550; }
.troubles { display: grid; gap: 0.6rem; }
.trouble { display: flex; align-items: baseline; gap: 0.7rem; padding: 0.8rem 1.1rem; border-radius: 12px; text-decoration: none; border: 1px solid transparent; }
.trouble:hover { border-color: currentColor; }
.trouble.lapsed { color: var(--lapsed); background: var(--lapsed-ground); }
.trouble.unknown { color: var(--unknown); background: var(--unknown-ground); }
.trouble.corrupted { color: var(--corrupted); background: var(--corrupted-ground); }
.trouble .why { color: var(--text); margin-left: 0.35rem; }
.counts { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 0.75rem; }
.count { display: flex; flex-direction: column; gap: 0.15rem; height: 100%; padding: 0.9rem 1rem; border-radius: 12px; background: var(--surface); border: 1px solid var(--line); box-shadow: var(--shadow); text-decoration: none; color: var(--text); }
.count:hover { border-color: var(--edge); }
.count .name { display: flex; align-items: center; gap: 0.4rem; color: var(--muted); font-size: 0.87rem; font-weight: 500; }
.count .value { font-size: 1.65rem; line-height: 1.2; font-weight: 620; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.count.running .icon { color: var(--running); } .count.lapsed .icon { color: var(--lapsed); }
.count.unknown .icon { color: var(--unknown); } .count.completed .icon { color: var(--completed); }
.count.corrupted .icon { color: var(--corrupted); }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.65rem 1rem; vertical-align: middle; font-weight: 400; }
thead th { font-size: 0.82rem; font-weight: 550; color: var(--muted); background: var(--sunken); white-space: nowrap; padding-top: 0.5rem; padding-bottom: 0.5rem; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody tr:hover { background: var(--sunken); }
th.number, td.number { text-align: right; }
tbody th { font-weight: 550; min-width: 10rem; }
a.quiet { color: var(--text); text-decoration-color: var(--edge); }
.pager { display: flex; gap: 0.6rem; margin-top: 1rem; }
.search { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)) auto; gap: 0.75rem 1rem; align-items: start; }
.search .field:last-child { padding-top: 1.65rem; }
.field { display: flex; flex-direction: column; gap: 0.25rem; min-width: 0; }
.field.wide { margin-top: 1.25rem; }
label, legend, summary { font-weight: 550; font-size: 0.92rem; }
.hint { font-size: 0.85rem; font-weight: 400; }
input:not([type]), select, textarea { width: 100%; min-height: 2.4rem; padding: 0.4rem 0.7rem; border: 1px solid var(--edge); border-radius: 8px; background: var(--surface); color: var(--text); font-size: 1rem; line-height: 1.4; }
input:not([type]), select { font-family: inherit; }
textarea { resize: vertical; min-height: 8rem; }
input[type="checkbox"], input[type="radio"] { accent-color: var(--accent); width: 1.15rem; height: 1.15rem; margin: 0.15rem 0 0; flex: none; }
details { margin-top: 1rem; border-top: 1px solid var(--line); padding-top: 1rem; }
summary { cursor: pointer; color: var(--accent); }
details[open] summary { margin-bottom: 0.9rem; }
fieldset { border: 0; margin: 1.25rem 0 0; padding: 0; display: grid; gap: 0.5rem; }
legend { padding: 0; margin-bottom: 0.5rem; }
.choice, .check { display: flex; gap: 0.7rem; align-items: flex-start; margin: 0; padding: 0.75rem 0.9rem; border: 1px solid var(--line); border-radius: 8px; }
.check { margin-top: 1rem; border-color: var(--danger); }
.choice label, .check label { font-weight: 400; font-size: 1rem; }
.choice .hint { display: block; }
.choice:has(:checked) { border-color: var(--accent); }
.state { margin: 0; } .meaning { margin: 0.6rem 0 1.1rem; max-width: 46rem; }
.facts { margin: 0; display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0.9rem 1.5rem; }
.facts div { min-width: 0; }
.facts dt { font-size: 0.82rem; font-weight: 500; color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.facts dd .beside { display: block; }
.path { margin: 0 0 0.35rem; font-size: 0.92rem; color: var(--muted); }
.path ol { list-style: none; display: flex; flex-wrap: wrap; margin: 0; padding: 0; gap: 0 0.5rem; }
.path li + li::before { content: "/"; content: "/" / ""; margin-right: 0.5rem; }
.facts + p { margin-top: 1.1rem; max-width: 46rem; }
.steps { margin: 0; padding-left: 1.4rem; }
.result { margin: 0 0 1rem; padding: 0.9rem 1rem; background: var(--sunken); border: 1px solid var(--line); border-radius: 8px; overflow: auto; max-height: 32rem; }
`

const narrow = `
@media (max-width: 68rem) { .counts { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
@media (max-width: 60rem) {
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .card.flush { background: none; border: 0; box-shadow: none; border-radius: 0; overflow: visible; }
  table, tbody { display: block; }
  tbody { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); }
  tbody tr, tbody tr:hover { display: block; background: var(--surface); border: 1px solid var(--line); border-radius: 12px; box-shadow: var(--shadow); padding: 0.8rem 1rem; }
  tbody tr + tr > * { border-top: 0; }
  tbody th, tbody td { padding: 0; }
  tbody th { display: block; margin-bottom: 0.45rem; font-size: 1.05rem; }
  tbody td, td.number { display: flex; justify-content: space-between; gap: 1rem; padding: 0.15rem 0; text-align: right; }
  tbody td::before { content: attr(data-label); content: attr(data-label) / ""; color: var(--muted); text-align: left; flex: none; }
  tbody td.zero { display: none; }
}
@media (max-width: 47rem) {
  .inner, main { padding-left: 1rem; padding-right: 1rem; }
  main { padding-top: 1.25rem; }
  .top .inner { padding-top: 0.6rem; padding-bottom: 0.5rem; gap: 0.4rem 1rem; }
  .top nav { order: 3; width: 100%; margin: 0 -0.6rem; overflow-x: auto; }
  .top nav a { padding: 0.45rem 0.6rem; white-space: nowrap; }
  .counts { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.6rem; }
  .trouble .why { display: block; margin-left: 0; }
  .search { grid-template-columns: minmax(0, 1fr); }
  .search .field:last-child { padding-top: 0.25rem; }
  .facts { grid-template-columns: minmax(0, 1fr); }
  .buttons .button { flex: 1 1 auto; }
}
@media (prefers-reduced-motion: no-preference) { .button, .count, .trouble, .top nav a { transition: background-color 120ms, border-color 120ms; } }
@media (forced-colors: active) { .badge, .notice, .trouble, .calm, .top nav a[aria-current] { border: 1px solid; } }
@media print { .top nav, .live-controls, .buttons, .pager { display: none; } }
`

export const styles = `:root { color-scheme: light dark; ${light}}
@media (prefers-color-scheme: dark) { :root { ${dark}} }
${frame}${parts}${narrow}`
