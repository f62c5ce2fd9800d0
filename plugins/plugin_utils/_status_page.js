"use strict";
(() => {
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });

  // A page that was saved long ago says so.
  const made = document.querySelector("#made");
  const hours = made ? (Date.now() - Date.parse(made.dateTime)) / 36e5 : 0;
  const late = made && made.dataset.until ? Date.now() > Date.parse(made.dataset.until) : hours > 26;
  if (late && hours >= 1) {
    const [count, unit] = hours < 24 ? [Math.floor(hours), "hour"] : [Math.floor(hours / 24), "day"];
    const age = `${count} ${unit}${count === 1 ? "" : "s"}`;
    const stale = make("p", `This page is ${age} old. Run status.yml again for the current state.`);
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
    // What a search has opened is closed again when nothing is searched for.
    let opened = [];
    const fold = () => {
      if (words.value || state.value) {
        opened.push(...folded.filter((details) => !details.open));
        for (const details of folded) details.open = true;
      } else {
        for (const details of opened.splice(0)) details.open = false;
      }
    };
    const apply = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      for (const [row, name] of rows) {
        const isSo = !state.value || row.classList.contains(state.value);
        const fits = isSo && wanted.every((word) => name.includes(word));
        row.hidden = !fits;
        count += fits && !row.closest("details:not([open])");
      }
      shown.textContent = `${count} of ${rows.length} shown`;
    };
    filter.hidden = false;
    filter.addEventListener("submit", (event) => event.preventDefault());
    filter.addEventListener("input", () => { fold(); apply(); });
    for (const details of folded) details.addEventListener("toggle", apply);
    // The key of searching, as elsewhere; where something is written, it is a letter.
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
      event.preventDefault();
      words.focus();
      words.select();
    });
    apply();
  }

  // #HOST/CONTAINER/DATABASE opens what is told of a database; #HOST/CONTAINER and #HOST/DATABASE do where the rest is plain.
  const named = (place) => {
    if (!place) return null;
    const [host, name, ...more] = place.split("/");
    const fits = ({ id }) => id.startsWith(`${host}/`) && id.split("/").slice(1).includes(name);
    return document.getElementById(place) || (name && !more.length && all(".restore > details").find(fits)) || null;
  };
  const open = () => {
    let part = named(location.hash.slice(1));
    const target = part;
    for (; part; part = part.parentElement) if (part.localName === "details") part.open = true;
    if (target) target.scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  open();

  const words = {
    g: "backed up", p: "not by every pass", f: "FAILED", m: "no backup", d: "due today", n: "no pass due",
    u: "not on record",
  };
  const tip = make("div", "");
  tip.className = "tip";
  tip.hidden = true;
  tip.setAttribute("aria-hidden", "true");
  document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const pointed = event.target.closest ? event.target.closest(".strip") : null;
    const again = pointed && pointed.dataset.of;
    const strip = again ? document.getElementById(again).closest(".strip") : pointed;
    tip.hidden = !strip;
    if (!strip) return;
    const box = pointed.getBoundingClientRect();
    const nights = strip.dataset.n;
    const under = Math.floor((event.clientX - box.left) / box.width * nights.length);
    const night = Math.min(nights.length - 1, Math.max(0, under));
    const date = new Date(strip.dataset.d + "T12:00:00Z");
    date.setUTCDate(date.getUTCDate() + night);
    const shape = { weekday: "short", day: "numeric", month: "short", timeZone: "UTC" };
    const day = date.toLocaleDateString("en-GB", shape);
    const counted = (strip.dataset.c || "").split(" ").find((one) => one.startsWith(`${night}:`));
    const counts = counted ? `, ${counted.split(":")[1].replace("/", " of ")} passes good` : "";
    tip.textContent = `${day}: ${words[nights[night]]}${counts}`;
    const rightmost = document.documentElement.clientWidth - tip.offsetWidth - 4;
    const left = Math.min(Math.max(event.clientX - tip.offsetWidth / 2, 4), rightmost);
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${box.top + scrollY - tip.offsetHeight - 6}px`;
  });
})();
