"use strict";
const rows = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [why, search, white, list, view, count] = ["why", "search", "white", "list", "row", "count"].map(byId);
let shown = [], current = 0;

function make(tag, name, text) {  // text goes into the page as text, never as markup
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function addText(parent, text) {  // blanks and line ends get elements of their own, so that they can be seen
  for (const part of text.split(/([ \t\u00a0]+|\n)/)) {
    if (part === "\n") { parent.append(make("span", "line"), "\n"); }
    else if (/^[ \t\u00a0]+$/.test(part)) { parent.append(make("span", "space", part)); }
    else if (part) { parent.append(part); }
  }
}

function addPieces(parent, pieces) {
  for (const [kind, text] of pieces) {
    if (kind === 4) { parent.append(make("span", "folded", text)); continue; }
    const piece = make(kind & 1 ? "mark" : "span", kind & 2 ? "special" : "");
    addText(piece, text);
    parent.append(piece);
  }
}

function said(pieces) {
  const made = make("div", "said mono");
  addPieces(made, pieces);
  if (!made.textContent) made.append(make("span", "folded", "empty"));
  return made;
}

function pane(title, name) {
  const made = make("section", "card pane " + name);
  made.tabIndex = 0;
  made.setAttribute("aria-label", title);
  made.append(make("h4", "", title));
  return made;
}

function messages(row) {
  const made = pane("Messages", "messages");
  for (const [name, value] of row.messages) {
    if (row.messages.length > 1) made.append(make("span", "key", name));
    if (!Array.isArray(value[0]) || typeof value[0][0] !== "string") { made.append(said(value)); continue; }
    for (const [role, parts] of value) {
      const message = make("div", "message");
      const known = ["system", "developer", "user", "assistant", "tool"].includes(role) ? role : "";
      message.append(make("span", "role " + known, role));
      for (const [key, pieces] of parts) {
        if (key !== "content") message.append(make("span", "key", key));
        message.append(said(pieces));
      }
      made.append(message);
    }
  }
  return made;
}

function legend() {
  const made = make("p", "legend");
  made.append(make("mark", "", "trained"), make("span", "special", "special token"), make("span", "folded", "… folded"), make("span", "about", "· blank, ↵ line end"));
  return made;
}

function texts(row) {
  const made = pane("Text that the model reads", "text");
  made.append(legend());
  for (const [name, pieces] of row.text) {
    if (row.text.length > 1) made.append(make("span", "key", name));
    made.append(said(pieces));
  }
  return made;
}

function show(index) {
  current = Math.max(0, Math.min(index, shown.length - 1));
  list.querySelectorAll("button").forEach((each, i) => each.setAttribute("aria-current", String(i === current)));
  view.replaceChildren();
  const row = shown[current];
  if (!row) return;
  view.append(make("h3", "", row.place + " "), make("span", "about", [row.why.join(", "), row.file].filter(Boolean).join(" · ")));
  if (row.problem) {
    const parts = ("Cannot be converted: " + row.problem).split(/`([^`]+)`/);
    view.append(make("p", "trouble", ""));
    view.lastChild.append(...parts.map((part, i) => (i % 2 ? make("code", "", part) : part)));
  }
  const panes = make("div", "panes"), raw = pane("Row in the source", "raw");
  raw.append(said(row.raw));
  panes.append(raw);
  if (row.messages.length) panes.append(messages(row));
  if (row.text.length) panes.append(texts(row));
  view.append(panes);
}

function move(step) {
  show(current + step);
  const button = list.querySelectorAll("button")[current];
  if (button) button.scrollIntoView({ block: "nearest" });
}

const searched = rows.map((row) => JSON.stringify([row.raw, row.messages, row.text, row.problem]).toLowerCase());

function update() {
  const wanted = JSON.stringify(search.value).slice(1, -1).toLowerCase();
  shown = rows.filter((row, i) => (!why.value || row.why.includes(why.value)) && searched[i].includes(wanted));
  list.replaceChildren(...shown.map((row, i) => {
    const button = make("button", row.problem ? "bad" : "");
    button.type = "button";
    button.append(make("span", row.problem ? "bad" : "", row.place + " "), make("span", "about", row.why.join(", ")));
    button.addEventListener("click", () => show(i));
    return button;
  }));
  count.textContent = shown.length + " of " + rows.length + " rows on this page";
  show(0);
}

const reasons = [...new Set(rows.flatMap((row) => row.why))];
why.append(new Option("all rows", ""), ...reasons.map((reason) => new Option(reason, reason)));
why.addEventListener("change", update);
search.addEventListener("input", update);
white.addEventListener("change", () => view.classList.toggle("show-white", white.checked));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("previous").addEventListener("click", () => move(-1));
byId("following").addEventListener("click", () => move(1));
list.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  move(step);
  list.querySelectorAll("button")[current].focus();
});
update();
