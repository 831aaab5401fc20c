// What a report does beyond showing: draws its figures, sorts and filters its tables, copies texts,
// and changes between light and dark. Without it the page is still whole but for the figures.
"use strict";

const settings = JSON.parse(document.getElementById("settings").textContent);
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const said = document.getElementById("said");

function say(text) {
  said.textContent = text;
}

function button(label, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", () => action(made));
  return made;
}

// Themes

const THEMES = ["system", "light", "dark"];
let theme = "system";
try {
  theme = THEMES.includes(localStorage.theme) ? localStorage.theme : "system";
} catch {
  // A page from a file may have no storage; the choice then lasts as long as the page.
}

function isDark() {
  return theme === "dark" || (theme === "system" && systemIsDark.matches);
}

function applyTheme() {
  document.documentElement.dataset.theme = theme;
}

function addThemeButton() {
  const made = button(`Theme: ${theme}`, () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.theme = theme;
    } catch {
      // As above.
    }
    made.textContent = `Theme: ${theme}`;
    applyTheme();
    drawAll();
  });
  made.id = "theme";
  document.querySelector(".head").append(made);
}

// Figures

async function loadPlotly() {
  const packed = document.getElementById("plotly").textContent;
  const bytes = Uint8Array.from(atob(packed), (each) => each.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
}

function recoloured(part) {
  if (typeof part === "string") {
    return settings.dark[part] ?? part;
  }
  if (Array.isArray(part)) {
    return part.map(recoloured);
  }
  if (part !== null && typeof part === "object") {
    return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, recoloured(value)]));
  }
  return part;
}

function draw(figure) {
  const light = JSON.parse(figure.querySelector("script").textContent);
  const { data, layout } = isDark() ? recoloured(light) : light;
  const config = { ...settings.config, displayModeBar: "tools" in figure.dataset ? "hover" : false };
  return Plotly.react(figure.querySelector("div"), data, layout, config);
}

async function drawAll() {
  for (const figure of document.querySelectorAll("figure")) {
    await draw(figure);
  }
  document.documentElement.dataset.drawn = isDark() ? "dark" : "light";
}

async function begin() {
  try {
    await loadPlotly();
  } catch (error) {
    for (const place of document.querySelectorAll("figure > div")) {
      place.textContent = `This browser cannot draw the figure (${error.message}); a newer one can.`;
    }
    return;
  }
  await drawAll();
  systemIsDark.addEventListener("change", drawAll);
}

// Copying

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Not every browser lets a page from a file use the clipboard directly.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
  return true;
}

function copyButton(label, what, text) {
  const made = button(label, async () => {
    const done = await copied(text);
    made.textContent = done ? "Copied" : "Not copied";
    say(done ? `Copied ${what}` : `This browser did not allow to copy ${what}`);
    setTimeout(() => (made.textContent = label), 1500);
  });
  made.setAttribute("aria-label", `Copy ${what}`);
  return made;
}

function addCopyToBlock(block) {
  const text = block.querySelector("pre").textContent;
  block.append(copyButton("Copy", block.dataset.what, text));
}

// Tables

function key(cell) {
  const text = cell.textContent.trim();
  return text === "" || text === "-" ? null : text;
}

function ordered(rows, column) {
  const keys = new Map(rows.map((row) => [row, key(row.cells[column])]));
  const numeric = [...keys.values()].every((each) => each === null || !Number.isNaN(parseFloat(each)));
  const compare = numeric
    ? (a, b) => parseFloat(a) - parseFloat(b)
    : (a, b) => a.localeCompare(b, "en");
  const present = rows.filter((row) => keys.get(row) !== null);
  const missing = rows.filter((row) => keys.get(row) === null);
  return { present: present.sort((a, b) => compare(keys.get(a), keys.get(b))), missing };
}

function sortBy(table, head) {
  const descending = head.getAttribute("aria-sort") === "ascending";
  table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const { present, missing } = ordered([...table.tBodies[0].rows], head.cellIndex);
  // What has no value is last, whichever way.
  table.tBodies[0].append(...(descending ? present.reverse() : present), ...missing);
  say(`Sorted by ${head.textContent}, ${head.getAttribute("aria-sort")}`);
}

function makeSortable(table) {
  for (const head of table.tHead.rows[0].cells) {
    const label = head.textContent;
    head.textContent = "";
    head.append(button(label, () => sortBy(table, head)));
  }
}

function addCopies(table) {
  const rows = [...table.tBodies[0].rows].filter((row) => row.dataset.copies !== undefined);
  if (rows.length === 0) {
    return;
  }
  // Beside the function, where it is seen in a narrow window too.
  const place = 1 + [...rows[0].cells].findIndex((cell) => cell.querySelector("code") !== null);
  const head = document.createElement("th");
  head.scope = "col";
  head.textContent = "copy";
  table.tHead.rows[0].insertBefore(head, table.tHead.rows[0].cells[place] ?? null);
  for (const row of table.tBodies[0].rows) {
    const cell = row.insertCell(place);
    cell.className = "copies";
    const { name, texts } = JSON.parse(row.dataset.copies ?? '{"name": "", "texts": {}}');
    for (const [label, text] of Object.entries(texts)) {
      cell.append(copyButton(label, `${label} of ${name}`, text));
    }
  }
}

function choice(table, column, refresh) {
  const label = table.tHead.rows[0].cells[column].textContent;
  const made = document.createElement("select");
  made.setAttribute("aria-label", `Show rows with this ${label}`);
  const found = new Set([...table.tBodies[0].rows].map((row) => row.cells[column].textContent));
  made.append(new Option(`any ${label}`, ""));
  [...found].sort().forEach((each) => made.append(new Option(each, each)));
  made.addEventListener("change", refresh);
  made.dataset.column = column;
  return made;
}

function makeFilterable(holder) {
  const table = holder.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  const columns = JSON.parse(holder.dataset.choices);
  if (rows.length < 6) {
    return;
  }
  const tools = document.createElement("div");
  tools.className = "tools";
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "Filter, such as tanh";
  search.setAttribute("aria-label", `Filter the rows of: ${table.caption.textContent}`);
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  const refresh = () => {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = choices.every(
        (each) => each.value === "" || cells.get(row)[each.dataset.column] === each.value,
      );
      row.hidden = !fits || !row.dataset.text.includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  const choices = columns.map((column) => choice(table, column, refresh));
  // Read before the copy buttons are among the cells.
  const cells = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent)]));
  rows.forEach((row) => (row.dataset.text = cells.get(row).join(" ").toLowerCase()));
  search.addEventListener("input", refresh);
  tools.append(search, ...choices, count);
  holder.before(tools);
  refresh();
}

applyTheme();
addThemeButton();
document.querySelectorAll(".block").forEach(addCopyToBlock);
for (const holder of document.querySelectorAll(".table")) {
  makeFilterable(holder);
  makeSortable(holder.querySelector("table"));
  addCopies(holder.querySelector("table"));
}
if (document.getElementById("plotly") !== null) {
  begin();
}
