# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""How the status page looks (STYLE), and what it does where scripts run (SCRIPT). Everything can be read without them."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #f6f6f3;
  --card: #fff;
  --sunk: #f1f1ed;
  --line: #e3e2dc;
  --text: #1d1d1b;
  --quiet: #5d5c57;
  --good: #3f8f63;
  --good-soft: #e4f1e9;
  --good-text: #23653f;
  --bad: #c93f2c;
  --bad-soft: #fbe9e6;
  --bad-text: #a02c1b;
  --warn: #b7780f;
  --warn-soft: #faf0dc;
  --warn-text: #7d5107;
  --new: #6a7688;
  --new-soft: #e9edf2;
  --new-text: #475264;
  --accent: #3b6ea8;
  --accent-soft: #dbe7f4;
  --sign: #fff;
  --none: #c9c8c0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #121312;
    --card: #1b1c1b;
    --sunk: #242524;
    --line: #30312f;
    --text: #ecebe6;
    --quiet: #a4a29b;
    --good: #58a87b;
    --good-soft: #18291f;
    --good-text: #86d1a6;
    --bad: #ee6b58;
    --bad-soft: #351b17;
    --bad-text: #ff9c8d;
    --warn: #d99b35;
    --warn-soft: #31260f;
    --warn-text: #f0bd6a;
    --new: #8c98ab;
    --new-soft: #22272f;
    --new-text: #b6c1d2;
    --accent: #6ea4dd;
    --accent-soft: #1d2c3d;
    --sign: #121312;
    --none: #4b4c49;
  }
}
* {
  box-sizing: border-box;
}
html {
  -webkit-text-size-adjust: 100%;
  scroll-padding-top: 1rem;
}
body {
  margin: 0;
  background: var(--ground);
  color: var(--text);
  font: 400 1rem/1.5 Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere;
}
header, main, footer {
  max-width: 76rem;
  margin: 0 auto;
  padding: 0 clamp(1rem, 4vw, 2.5rem);
}
h1, h2, h3, p, ul, ol, dl, dd, figure {
  margin: 0;
  padding: 0;
}
h2 {
  font-size: 1.25rem;
  font-weight: 650;
  letter-spacing: -.01em;
}
h3 {
  font-size: 1rem;
  font-weight: 600;
}
a {
  color: inherit;
  text-underline-offset: .2em;
  text-decoration-color: var(--none);
}
a:hover {
  text-decoration-color: currentColor;
}
:focus-visible {
  outline: 3px solid var(--accent);
  outline-offset: 2px;
  border-radius: 4px;
}
.quiet, caption, figcaption, .when {
  color: var(--quiet);
}
.skip {
  position: absolute;
  left: -999rem;
}
.skip:focus {
  left: 1rem;
  top: 1rem;
  z-index: 2;
  background: var(--card);
  padding: .5rem 1rem;
  border-radius: .5rem;
}
.signs {
  position: absolute;
}
.unseen {
  position: absolute;
  width: 1px;
  height: 1px;
  margin: -1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
.icon {
  width: 1.125em;
  height: 1.125em;
  flex: none;
  vertical-align: -.2em;
}
symbol circle {
  fill: currentColor;
  stroke: none;
}
symbol path {
  fill: none;
  stroke: var(--sign);
  stroke-width: 1.9;
  stroke-linecap: round;
  stroke-linejoin: round;
}
.icon.safe {
  color: var(--good);
}
.icon.bad {
  color: var(--bad);
}
.icon.warning {
  color: var(--warn);
}
.icon.new {
  color: var(--new);
}
.top {
  display: flex;
  flex-wrap: wrap;
  gap: .25rem 1.5rem;
  justify-content: space-between;
  padding: 1.75rem 0 1.25rem;
  font-size: .875rem;
}
.top nav ul {
  display: flex;
  flex-wrap: wrap;
  gap: .25rem 1.25rem;
  list-style: none;
}
.brand {
  font-weight: 600;
  color: var(--text);
}
.hero {
  display: grid;
  grid-template-columns: auto 1fr;
  gap: 0 clamp(1rem, 3vw, 1.75rem);
  border-radius: 1.25rem;
  padding: clamp(1.25rem, 4vw, 2.5rem);
}
.hero.safe {
  background: var(--good-soft);
}
.hero.bad {
  background: var(--bad-soft);
}
.hero.warning {
  background: var(--warn-soft);
}
.hero.new {
  background: var(--new-soft);
}
.hero .icon {
  width: clamp(2.5rem, 7vw, 4rem);
  height: clamp(2.5rem, 7vw, 4rem);
  margin-top: .15rem;
}
h1 {
  font-size: clamp(1.625rem, 4.6vw, 2.75rem);
  line-height: 1.15;
  font-weight: 680;
  letter-spacing: -.025em;
  text-wrap: balance;
}
.hero.safe h1 {
  color: var(--good-text);
}
.hero.bad h1 {
  color: var(--bad-text);
}
.hero.warning h1 {
  color: var(--warn-text);
}
.hero.new h1 {
  color: var(--new-text);
}
.hero p {
  margin-top: .75rem;
  font-size: clamp(1rem, 2vw, 1.125rem);
  max-width: 46rem;
  text-wrap: pretty;
}
.hero .when {
  font-size: .875rem;
  margin-top: 1rem;
  color: var(--text);
}
.stale {
  grid-column: 1 / -1;
  margin: 0 0 1.25rem !important;
  padding: .625rem .875rem;
  border-radius: .625rem;
  background: var(--card);
  font-size: .9375rem !important;
  max-width: none !important;
}
.tiles {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr));
  gap: 1px;
  margin-top: 1.25rem;
  border-radius: 1rem;
  overflow: hidden;
  background: var(--line);
  border: 1px solid var(--line);
}
.tiles div {
  background: var(--card);
  padding: 1rem 1.125rem;
}
.tiles dt {
  font-size: .8125rem;
  color: var(--quiet);
}
.tiles dd {
  font-size: 1.5rem;
  font-weight: 620;
  letter-spacing: -.02em;
  line-height: 1.3;
}
.tiles dd small {
  display: block;
  font-size: .8125rem;
  font-weight: 400;
  letter-spacing: 0;
  color: var(--quiet);
  line-height: 1.4;
}
section {
  margin-top: clamp(2.25rem, 5vw, 3.5rem);
}
section > .quiet {
  margin-top: .25rem;
  max-width: 48rem;
}
.card {
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 1rem;
  margin-top: 1rem;
}
.todo {
  list-style: none;
  margin-top: 1rem;
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 1rem;
}
.todo li {
  padding: 1.125rem 1.25rem 1.25rem;
}
.todo li + li {
  border-top: 1px solid var(--line);
}
.todo h3 {
  display: flex;
  gap: .375rem .5rem;
  align-items: center;
  flex-wrap: wrap;
}
.todo .host {
  font-weight: 400;
  color: var(--quiet);
  font-size: .875rem;
}
.todo p {
  margin-top: .25rem;
}
.todo .when, .todo .where {
  font-size: .875rem;
  color: var(--quiet);
}
.todo .where {
  margin-top: .75rem;
}
.run {
  display: flex;
  gap: .5rem;
  align-items: stretch;
  margin-top: .25rem;
}
pre {
  flex: 1;
  min-width: 0;
  margin: 0;
  padding: .5rem .75rem;
  background: var(--sunk);
  border-radius: .5rem;
  white-space: pre-wrap;
  overflow-wrap: anywhere;
  font: .8125rem/1.6 ui-monospace, "SF Mono", "DejaVu Sans Mono", "Liberation Mono", monospace;
  user-select: all;
}
button, input, select {
  font: inherit;
  color: inherit;
}
button {
  border: 1px solid var(--line);
  background: var(--card);
  border-radius: .5rem;
  padding: .25rem .875rem;
  min-height: 2.5rem;
  font-size: .875rem;
  cursor: pointer;
  flex: none;
  align-self: start;
}
button:hover {
  background: var(--sunk);
}
section > details {
  margin-top: .75rem;
}
summary {
  cursor: pointer;
  padding: .5rem 0;
  color: var(--text);
  font-weight: 500;
}
.folded {
  margin-top: .75rem;
}
.restore > details {
  padding: .25rem 1.125rem;
}
.restore > details + details {
  border-top: 1px solid var(--line);
}
.restore > details[open] {
  padding-bottom: 1.125rem;
}
.restore summary b {
  font-weight: 600;
}
.restore .host, .restore .where {
  font-size: .875rem;
  font-weight: 400;
  color: var(--quiet);
}
.restore .where {
  margin-top: .75rem;
}
.restore summary .sub {
  font-weight: 400;
}
.snapshots {
  list-style: none;
  font-size: .875rem;
}
.snapshots code {
  font: .8125rem/1.6 ui-monospace, "SF Mono", "DejaVu Sans Mono", "Liberation Mono", monospace;
  user-select: all;
}
.legend {
  display: flex;
  flex-wrap: wrap;
  gap: .25rem 1.25rem;
  list-style: none;
  font-size: .8125rem;
  color: var(--quiet);
}
.legend svg {
  width: 5px;
  height: 20px;
  margin-right: .5rem;
  vertical-align: -.35em;
  overflow: visible;
}
.n {
  fill: none;
  stroke-dasharray: .68 .32;
  stroke-dashoffset: -.16;
}
.legend .n {
  stroke-dasharray: none;
}
.g0 {
  stroke: var(--good);
  stroke-width: 20;
}
.f0 {
  stroke: var(--bad);
  stroke-width: 12;
}
.f1 {
  stroke: var(--bad);
  stroke-width: 5;
}
.m0 {
  stroke: var(--warn);
  stroke-width: 3;
}
.d0, .u0 {
  stroke: var(--none);
  stroke-width: 1.5;
}
.strip {
  display: block;
  width: 100%;
  height: 1.5rem;
}
.columns, .months, .chart {
  display: block;
  width: 100%;
  overflow: visible;
}
.c.g {
  fill: var(--good);
}
.c.f {
  fill: var(--bad);
}
.c.u {
  fill: var(--none);
}
.c.m {
  fill: none;
  stroke: var(--warn);
  stroke-width: 1;
}
.months text, .chart text {
  font-size: 12px;
  fill: var(--quiet);
}
.fleet {
  padding: 1.25rem 1.25rem .75rem;
}
.fleet .legend {
  margin-bottom: 1rem;
}
.filter {
  display: flex;
  flex-wrap: wrap;
  gap: .75rem;
  align-items: end;
  margin-top: 1rem;
}
.filter[hidden] {
  display: none;
}
.filter label {
  font-size: .8125rem;
  color: var(--quiet);
  display: grid;
  gap: .25rem;
}
.filter label:first-child {
  flex: 1 1 14rem;
}
.filter input, .filter select {
  border: 1px solid var(--new);
  border-radius: .625rem;
  background: var(--card);
  padding: .5rem .75rem;
  min-height: 2.75rem;
  font-size: 1rem;
  color: var(--text);
  width: 100%;
}
.filter output {
  font-size: .875rem;
  color: var(--quiet);
  padding-bottom: .7rem;
}
table {
  width: 100%;
  border-collapse: collapse;
  font-size: .9375rem;
}
caption {
  text-align: left;
  padding: 1rem 1.125rem .25rem;
  font-size: .875rem;
}
th, td {
  text-align: left;
  padding: .6875rem .5rem;
  vertical-align: middle;
  font-weight: 400;
  border-top: 1px solid var(--line);
}
th:first-child, td:first-child {
  padding-left: 1.125rem;
}
th:last-child, td:last-child {
  padding-right: 1.125rem;
}
thead th {
  font-size: .8125rem;
  color: var(--quiet);
  border-top: 0;
  padding-top: .75rem;
  padding-bottom: .5rem;
  white-space: nowrap;
}
tbody th b {
  font-weight: 600;
}
.sub {
  display: block;
  font-size: .8125rem;
  color: var(--quiet);
}
.number {
  text-align: right;
  white-space: nowrap;
}
.databases {
  table-layout: fixed;
}
.databases .name {
  width: 20%;
}
.databases .state {
  width: 13.5%;
}
.databases .nights {
  width: 31%;
}
.databases .age {
  width: 11%;
}
.databases .size {
  width: 13%;
}
.databases .drill {
  width: 11.5%;
}
.verdict {
  display: flex;
  gap: .4375rem;
  align-items: center;
  line-height: 1.25;
}
tr.bad .verdict {
  color: var(--bad-text);
  font-weight: 550;
}
tr.warning .verdict {
  color: var(--warn-text);
  font-weight: 550;
}
.sizes {
  display: flex;
  gap: .5rem;
  align-items: center;
  justify-content: space-between;
}
.spark {
  width: 3rem;
  height: 1.25rem;
  flex: none;
  overflow: visible;
}
.spark path {
  fill: none;
  stroke: var(--accent);
  stroke-width: 1.5;
  vector-effect: non-scaling-stroke;
  stroke-linejoin: round;
}
tbody tr:hover {
  background: color-mix(in srgb, var(--sunk) 55%, transparent);
}
.charts {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 1rem;
  margin-top: 1rem;
  align-items: start;
}
.charts > .pair {
  display: grid;
  gap: 1rem;
}
.charts > *, .pair > * {
  min-width: 0;
  margin-top: 0;
}
figure, .list {
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 1rem;
  padding: 1.125rem 1.25rem;
}
.above {
  padding: 1rem 1.125rem 0;
}
figcaption {
  font-size: .875rem;
  margin: .125rem 0 1rem;
}
.area {
  fill: var(--accent-soft);
}
.line {
  fill: none;
  stroke: var(--accent);
  stroke-width: 2;
  vector-effect: non-scaling-stroke;
  stroke-linejoin: round;
}
.end {
  fill: var(--accent);
  stroke: var(--card);
  stroke-width: 2;
}
.grid {
  stroke: var(--line);
  stroke-width: 1;
}
.bar {
  display: block;
  width: 100%;
  border-radius: 4px;
  background: var(--sunk);
}
.list .share {
  width: 55%;
}
.bar rect {
  fill: var(--accent);
}
.list table {
  font-size: .875rem;
}
.list caption {
  padding: 0 0 .5rem;
  color: var(--text);
  font-weight: 600;
  font-size: 1rem;
}
.list th:first-child, .list td:first-child {
  padding-left: 0;
}
.list th:last-child, .list td:last-child {
  padding-right: 0;
}
.list tbody tr:hover {
  background: none;
}
footer {
  padding-top: 3rem;
  padding-bottom: 3rem;
  font-size: .8125rem;
  color: var(--quiet);
}
footer p + p {
  margin-top: .375rem;
}
.tip {
  position: absolute;
  z-index: 3;
  pointer-events: none;
  background: var(--text);
  color: var(--ground);
  font-size: .8125rem;
  padding: .25rem .5rem;
  border-radius: .375rem;
  white-space: nowrap;
}
@media screen and (max-width: 56rem) {
  .databases, .databases tbody, .hosts, .hosts tbody, .databases caption, .hosts caption {
    display: block;
  }
  .databases thead, .hosts thead {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
  }
  .databases tr, .hosts tr {
    display: grid;
    grid-template-columns: 1fr 1fr 1fr;
    gap: .5rem .75rem;
    padding: .875rem 1.125rem 1rem;
    border-top: 1px solid var(--line);
  }
  .databases tr[hidden] {
    display: none;
  }
  .databases th, .databases td, .hosts th, .hosts td {
    padding: 0 !important;
    border: 0;
    text-align: left;
    width: auto !important;
    white-space: normal;
  }
  .databases .name, .databases .state, .databases .nights, .hosts .name, .hosts .repository {
    grid-column: 1 / -1;
  }
  .databases td.age::before {
    content: "Last good";
  }
  .databases td.size::before {
    content: "Dump";
  }
  .databases td.drill::before {
    content: "Drill";
  }
  .hosts td.stored::before {
    content: "Stored";
  }
  .hosts td.ratio::before {
    content: "Deduplication";
  }
  .hosts td.next::before {
    content: "Next pass";
  }
  td::before {
    display: block;
    font-size: .75rem;
    color: var(--quiet);
  }
  .databases .sizes {
    justify-content: flex-start;
    flex-wrap: wrap;
  }
  .databases .spark {
    display: none;
  }
}
@media (min-width: 56.01rem) and (max-width: 68rem) {
  .spark {
    display: none;
  }
}
@media screen and (max-width: 30rem) {
  .hero {
    grid-template-columns: 1fr;
  }
  .hero .icon {
    margin: 0 0 .75rem;
  }
  .tiles {
    grid-template-columns: 1fr 1fr;
  }
  .tiles div:last-child:nth-child(odd) {
    grid-column: 1 / -1;
  }
  .tiles dd {
    font-size: 1.25rem;
  }
  .run {
    flex-direction: column;
  }
  .top nav {
    display: none;
  }
}
@media (prefers-reduced-motion: no-preference) {
  html {
    scroll-behavior: smooth;
  }
}
@media print {
  :root {
    color-scheme: light;
    --ground: #fff;
    --card: #fff;
    --sunk: #f4f4f1;
    --line: #ccc;
    --text: #000;
    --quiet: #444;
    --good: #3f8f63;
    --good-soft: #fff;
    --good-text: #1d5735;
    --bad: #c93f2c;
    --bad-soft: #fff;
    --bad-text: #8f2415;
    --warn: #a56a08;
    --warn-soft: #fff;
    --warn-text: #6d4604;
    --new: #6a7688;
    --new-soft: #fff;
    --new-text: #475264;
    --accent: #3b6ea8;
    --accent-soft: #dbe7f4;
    --sign: #fff;
    --none: #bbb;
  }
  @page {
    margin: 14mm;
  }
  html {
    font-size: 9.25pt;
  }
  footer {
    padding: 6mm 0 0;
  }
  * {
    print-color-adjust: exact;
    -webkit-print-color-adjust: exact;
  }
  header, main {
    max-width: none;
    padding: 0;
  }
  .filter, .top nav, .skip, button, .tip, .databases .spark {
    display: none !important;
  }
  th, td {
    padding: 1.25mm 1.5mm;
  }
  .todo li {
    padding: 3mm 4mm;
  }
  .tiles {
    grid-template-columns: repeat(5, 1fr);
  }
  h1 {
    font-size: 1.75rem;
  }
  .hero {
    border: 1px solid var(--line);
    padding: 6mm;
  }
  tr, .todo li, figure, .tiles div {
    break-inside: avoid;
  }
  h2 {
    break-after: avoid;
  }
  section {
    margin-top: 8mm;
  }
  tr[hidden] {
    display: table-row !important;
  }
  details::details-content {
    content-visibility: visible;
    display: block;
    height: auto;
  }
}
"""

SCRIPT = """
"use strict";
(() => {
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });

  // A page that was saved long ago says so.
  const made = document.querySelector("#made");
  const hours = made ? (Date.now() - Date.parse(made.dateTime)) / 36e5 : 0;
  if (hours > 26) {
    const days = Math.floor(hours / 24);
    const age = days === 1 ? "1 day" : `${days} days`;
    const stale = make("p", `This page is ${age} old. Run status.yml again to see how things are now.`);
    stale.className = "stale";
    document.querySelector(".hero").prepend(stale);
  }

  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); } catch {
      const field = make("textarea", text);
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
  };
  for (const command of all(".run pre")) {
    const button = make("button", "Copy");
    button.type = "button";
    const said = make("span", "");
    said.className = "unseen";
    said.setAttribute("role", "status");
    button.setAttribute("aria-label", "Copy the command " + command.textContent);
    button.addEventListener("click", async () => {
      await copy(command.textContent);
      button.textContent = "Copied";
      said.textContent = "Copied.";
      setTimeout(() => { button.textContent = "Copy"; said.textContent = ""; }, 2000);
    });
    command.after(button, said);
  }

  const filter = document.querySelector(".filter");
  if (filter) {
    const [words, state] = [filter.querySelector("input"), filter.querySelector("select")];
    const shown = filter.querySelector("output");
    const rows = all(".databases tbody tr").map((row) => [row, row.querySelector(".name").textContent.toLowerCase()]);
    const folded = all(".folded").filter((details) => details.querySelector(".databases"));
    const apply = () => {
      for (const details of folded) details.open = details.open || Boolean(words.value || state.value);
      const wanted = words.value.toLowerCase().split(/\\s+/).filter(Boolean);
      let count = 0;
      for (const [row, name] of rows) {
        const isSo = !state.value || row.classList.contains(state.value);
        const fits = isSo && wanted.every((word) => name.includes(word));
        row.hidden = !fits;
        count += fits;
      }
      shown.textContent = `${count} of ${rows.length} shown`;
    };
    filter.hidden = false;
    filter.addEventListener("submit", (event) => event.preventDefault());
    filter.addEventListener("input", apply);
    apply();
  }

  // A link to how a database is restored opens what it leads to.
  const open = () => {
    let part = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const target = part;
    for (; part; part = part.parentElement) if (part.localName === "details") part.open = true;
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  open();

  const words = { g: "backed up", f: "FAILED", m: "no backup", d: "due today", u: "not on record" };
  const tip = make("div", "");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const strip = event.target.closest ? event.target.closest(".strip") : null;
    tip.hidden = !strip;
    if (!strip) return;
    const box = strip.getBoundingClientRect();
    const nights = strip.dataset.n;
    const under = Math.floor((event.clientX - box.left) / box.width * nights.length);
    const night = Math.min(nights.length - 1, Math.max(0, under));
    const date = new Date(strip.dataset.d + "T12:00:00Z");
    date.setUTCDate(date.getUTCDate() + night);
    const shape = { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" };
    const day = date.toLocaleDateString("en-GB", shape);
    tip.textContent = `${day}: ${words[nights[night]]}`;
    const rightmost = document.documentElement.clientWidth - tip.offsetWidth - 4;
    const left = Math.min(Math.max(event.clientX - tip.offsetWidth / 2, 4), rightmost);
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${box.top + scrollY - tip.offsetHeight - 6}px`;
  });
})();
"""
