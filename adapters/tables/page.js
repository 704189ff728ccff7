"use strict";
// The walk. Everything it knows is in the document: the cells are list items with data attributes. The address holds
// the walk: #TABLE/STATE/TRIGGER/TRIGGER~no/..., where `~no` says that the guard refused.

const said = document.getElementById("said");
const sections = [...document.querySelectorAll("section")];
const links = [...document.querySelectorAll("nav a")];

const encoded = (name) =>
  encodeURIComponent(name).replace(/[!'()*~]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function made(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

const code = (text) => made("code", {textContent: text});

// What a section shows: its table, and the parts that the walk fills.
function machineOf(section) {
  const articles = [...section.querySelectorAll("article")];
  const machine = {
    section,
    name: section.dataset.name,
    initial: Number(section.dataset.initial),
    articles,
    states: articles.map((article) => article.dataset.name),
    cells: articles.map((article) =>
      new Map([...article.querySelectorAll(".cells > li")].map((cell) => [cell.dataset.trigger, cell.dataset]))),
    choices: made("ul", {className: "choices"}),
    trail: made("ol", {className: "trail"}),
    back: made("button", {type: "button", textContent: "One step back"}),
    again: made("button", {type: "button", textContent: "Start again"}),
    link: made("a", {textContent: "Link to this walk"}),
  };
  machine.choices.setAttribute("aria-label", "States");
  machine.states.forEach((state, index) => {
    const button = made("button", {type: "button"}, code(state));
    button.addEventListener("click", () => go(walkFrom(machine, index)));
    machine.choices.append(made("li", {}, button));
  });
  const bench = section.querySelector(".bench");
  const walk = made("div", {className: "walk"}, made("h3", {textContent: "Your walk"}), machine.trail,
    made("div", {className: "row"}, machine.back, machine.again), made("p", {}, machine.link));
  bench.before(machine.choices);
  bench.append(walk);
  machine.again.addEventListener("click", () => go(walkFrom(machine, machine.initial)));
  machine.back.addEventListener("click", () => go(current.address.slice(0, current.address.lastIndexOf("/"))));
  listenToPicture(machine);
  return machine;
}

function listenToPicture(machine) {
  machine.section.querySelector("svg").addEventListener("click", (event) => {
    const label = event.target.closest("text[data-row]");
    const state = event.target.closest("[data-state]");
    if (label) {
      const row = [...machine.section.querySelectorAll("li[data-row]")].find((one) => one.dataset.row === label.dataset.row);
      fire(row.dataset.trigger, false);
    } else if (state) {
      go(walkFrom(machine, Number(state.dataset.state)));
    }
  });
}

const walkFrom = (machine, index) => `#${encoded(machine.name)}/${encoded(machine.states[index])}`;

// What an address says: the machine, the state where the walk begins, and the moves. `wrong` says what does not fit.
function replay(address) {
  const [table, start, ...steps] = address.replace(/^#/, "").split("/");
  const machine = machines.find((one) => one.name === decoded(table)) ?? machines[0];
  const found = start === undefined ? machine.initial : machine.states.indexOf(decoded(start));
  const walk = {machine, moves: [], at: found < 0 ? machine.initial : found, wrong: null};
  walk.start = walk.at;
  if (found < 0) walk.wrong = `There is no state ${decoded(start)}`;
  let written = walkFrom(machine, walk.at);
  if (found >= 0) {
    for (const step of steps) {
      const [trigger, answer] = step.split("~");
      const move = moved(machine, walk.at, decoded(trigger), answer === "no");
      if (move === null) {
        walk.wrong = `There is no trigger ${decoded(trigger)}`;
        break;
      }
      written += `/${step}`;
      walk.moves.push({...move, address: written});
      walk.at = move.to;
    }
  }
  walk.address = written;
  return walk;
}

// One move, as the table says. null: the table has no such trigger.
function moved(machine, from, trigger, refuses) {
  const cell = machine.cells[from].get(trigger);
  if (cell === undefined) return null;
  const move = {trigger, from, to: from, errors: cell.errors ?? "", events: cell.events ?? "", guard: cell.guard ?? ""};
  if (cell.target === undefined) return {...move, outcome: move.errors ? "refused" : "ignored"};
  if (refuses && move.guard) return {...move, outcome: "refused by guard"};
  return {...move, to: Number(cell.target), row: cell.row, outcome: "moved"};
}

// What a move was, in words.
function told(machine, move, withEvents) {
  const [from, to] = [machine.states[move.from], machine.states[move.to]];
  if (move.outcome === "refused") return `${move.trigger} is refused in ${from}: ${move.errors}`;
  if (move.outcome === "ignored") return `${move.trigger} is ignored in ${from}`;
  if (move.outcome === "refused by guard") {
    return `${move.guard} refuses ${move.trigger} in ${from}: ${move.errors || "an error"}`;
  }
  const way = move.from === move.to ? `stays in ${to}` : `${from} → ${to}`;
  return `${move.trigger}: ${way}${withEvents && move.events ? `. Events: ${move.events}` : ""}`;
}

let current = null;
let shown = null; // the address of the page that is shown

function fire(trigger, refuses) {
  go(`${current.address}/${encoded(trigger)}${refuses ? "~no" : ""}`);
}

// A person chose a walk. It becomes an entry of the browser's history.
function go(address) {
  if (location.hash !== address) location.hash = address;
  follow();
}

// Show the walk of the address, and tell it.
function follow() {
  shown = location.hash;
  current = replay(shown);
  show(current);
  const {machine, moves, at, wrong} = current;
  const last = moves.at(-1);
  said.textContent = wrong ? `${wrong}. The walk ends before it.`
    : last ? `${told(machine, last, true)}.` : `${machine.section.querySelector("h2").textContent}: ${machine.states[at]}.`;
  said.classList.toggle("no", Boolean(wrong || last && last.outcome !== "moved"));
  const heading = machine.articles[at].querySelector("h3");
  heading.focus({preventScroll: true});
  const {top, bottom} = heading.getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) machine.section.scrollIntoView();
}

function show(walk) {
  const {machine} = walk;
  sections.forEach((section) => { section.hidden = section !== machine.section; });
  links.forEach((link, index) => {
    if (machines[index] === machine) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  machine.articles.forEach((article, index) => { article.hidden = index !== walk.at; });
  machine.choices.querySelectorAll("button").forEach((button, index) =>
    button.setAttribute("aria-pressed", String(index === walk.at)));
  addButtons(machine.articles[walk.at]);
  showTrail(walk);
  paint(walk);
}

function showTrail(walk) {
  const {machine, moves} = walk;
  const start = made("li", {}, "Start in ", made("a", {href: walkFrom(machine, walk.start)}, code(machine.states[walk.start])));
  machine.trail.replaceChildren(start, ...moves.map((move) =>
    made("li", {className: move.outcome === "moved" ? "" : "no"},
      made("a", {href: move.address, textContent: told(machine, move, false)}))));
  machine.back.disabled = moves.length === 0;
  machine.again.disabled = moves.length === 0 && walk.at === machine.initial;
  machine.link.href = walk.address;
}

// The buttons of a state are made when it is shown first.
function addButtons(article) {
  if (article.querySelector(".cells button")) return;
  for (const cell of article.querySelectorAll(".cells > li")) {
    const {trigger, guard, target} = cell.dataset;
    const add = (words, refuses) => {
      const button = made("button", {type: "button", textContent: words});
      button.setAttribute("aria-label", `${words}: ${trigger}`);
      button.addEventListener("click", () => fire(trigger, refuses));
      cell.append(button);
    };
    if (target === undefined) {
      add("Try it", false);
    } else if (guard) {
      add("Fire, the guard agrees", false);
      add("Fire, the guard refuses", true);
    } else {
      add("Fire", false);
    }
  }
}

// Mark the state and what leads from it in the picture, and show that part of it.
function paint(walk) {
  const picture = walk.machine.section.querySelector("svg");
  const happening = new Set([...walk.machine.cells[walk.at].values()].map((cell) => cell.row));
  picture.querySelectorAll("[data-state]").forEach((one) =>
    one.classList.toggle("here", Number(one.dataset.state) === walk.at));
  picture.querySelectorAll("[data-rows]").forEach((one) => {
    const leads = one.dataset.from === undefined || one.dataset.from.split(" ").includes(String(walk.at));
    one.classList.toggle("next", leads && one.dataset.rows.split(" ").some((row) => happening.has(row)));
  });
  const frame = picture.parentElement;
  const here = picture.querySelector(".here").getBoundingClientRect();
  const {left, width} = frame.getBoundingClientRect();
  frame.scrollLeft += here.left + here.width / 2 - left - width / 2;
}

document.documentElement.classList.add("walking");
document.querySelector(".walker").hidden = false;
const machines = sections.map(machineOf);
addEventListener("hashchange", () => {
  if (location.hash !== shown) follow();
});
shown = location.hash;
current = replay(shown);
show(current);
if (current.wrong) said.textContent = `${current.wrong}. The walk ends before it.`;
