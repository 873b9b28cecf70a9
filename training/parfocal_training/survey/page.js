"use strict";
const sheet = JSON.parse(document.getElementById("sheet").textContent);
const at = id => document.getElementById(id), parts = sheet.parts;
const blank = () => ({ person: "", years: "", part: 0, image: 0, finished: false,
  answers: parts.map(p => p.unlabelled.map(() => null)) });
let state = blank();
const slot = "parfocal-survey-" + sheet.sheet;

function keep() {  // a reload or a closed lid must not cost an hour's answers
  try { localStorage.setItem(slot, JSON.stringify(state)); } catch (refused) { /* go on without */ }
}
function kept() {
  try { return JSON.parse(localStorage.getItem(slot)); } catch (refused) { return null; }
}
function show(id) { for (const s of ["start", "ask", "end"]) at(s).hidden = s !== id; }
function make(tag, text, to) {
  const made = document.createElement(tag);
  made.textContent = text; to.append(made); return made;
}
const done = () => state.answers.flat().filter(a => a !== null).length;
const total = () => state.answers.flat().length;

function begin() {
  at("about").textContent = `${parts.length} part(s), ${total()} images to answer.`;
  const old = kept();
  if (old && old.person) {
    at("before").hidden = false;
    at("again").textContent = `Go on as ${old.person}`;
    at("again").onclick = () => { state = old; state.finished ? end() : open(state.part); };
  }
  show("start");
  at("person").focus();
}
at("who").onsubmit = event => {
  event.preventDefault();
  state = blank();
  state.person = at("person").value.trim().replace(/\s+/g, " ");
  state.years = at("years").value;
  if (!state.person) { at("person").value = ""; at("person").reportValidity(); return; }
  open(0);
};

function open(number) {
  const part = parts[state.part = number], desk = at("desk");
  desk.className = part.frames ? "frames" : "";
  at("title").textContent = `Part ${part.number}: ${part.title}`;
  at("tabs").replaceChildren();
  parts.forEach((p, i) => {
    const tab = make("button", `Part ${p.number}`, at("tabs"));
    tab.onclick = () => { state.image = 0; open(i); };
    tab.setAttribute("aria-current", i === number);
  });
  desk.querySelectorAll(".shelf").forEach((shelf, c) => {
    shelf.querySelector("h2").textContent = `Labelled: ${part.classes[c]}`;
    const box = shelf.querySelector(".examples");
    box.replaceChildren();
    part.labelled[c].forEach((uri, i) => {
      const button = make("button", "", box), img = make("img", "", button);
      button.type = "button"; img.src = uri; img.alt = `${part.classes[c]}, example ${i + 1}`;
      button.onclick = () => { at("large").querySelector("img").src = uri; at("large").showModal(); };
    });
    shelf.scrollTop = 0;
  });
  at("choices").querySelectorAll("span").forEach((span, c) => { span.textContent = part.classes[c]; });
  at("strip").replaceChildren();
  part.unlabelled.forEach((_, i) => {
    make("button", i + 1, at("strip")).onclick = () => turn(i);
  });
  show("ask");
  turn(state.image);
}
function turn(image) {
  const part = parts[state.part], n = part.unlabelled.length, mine = state.answers[state.part];
  state.image = Math.max(0, Math.min(n - 1, image));
  at("number").textContent = `Image ${state.image + 1} of ${n}`;
  at("asked").src = part.unlabelled[state.image];
  at("asked").alt = `image ${state.image + 1} to answer`;
  at("choices").querySelectorAll("button").forEach((button, c) =>
    button.setAttribute("aria-pressed", mine[state.image] === c));
  [...at("strip").children].forEach((button, i) => {
    button.className = mine[i] === null ? "" : "answered";
    button.setAttribute("aria-current", i === state.image);
    button.setAttribute("aria-label",
      `image ${i + 1}, ${mine[i] === null ? "not answered" : part.classes[mine[i]]}`);
  });
  at("bar").max = total(); at("bar").value = done();
  at("count").textContent = `${done()} of ${total()} answered`;
  at("finish").disabled = done() < total();
  [...at("tabs").children].forEach((tab, i) => {
    const left = state.answers[i].filter(a => a === null).length;
    tab.textContent = `Part ${parts[i].number}` + (left ? "" : " ✓");
  });
  keep();
}
function choose(c) {
  const part = parts[state.part], mine = state.answers[state.part], was = state.image;
  mine[was] = c;
  let next = mine.findIndex((a, i) => a === null && i > was);
  if (next < 0) next = mine.indexOf(null);
  const over = next < 0, whole = done() === total();
  turn(over ? was : next);
  at("said").textContent = `Image ${was + 1}: ${part.classes[c]}.` +
    (whole ? " All are answered: look over them, or finish above." :
     over ? " This part is done: go on with the next part above." : "");
}
at("choices").querySelectorAll("button").forEach((button, c) => { button.onclick = () => choose(c); });
document.addEventListener("keydown", event => {
  if (at("ask").hidden || at("large").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const what = { 1: () => choose(0), 2: () => choose(1), ArrowLeft: () => turn(state.image - 1),
    ArrowRight: () => turn(state.image + 1) }[event.key];
  if (what) { event.preventDefault(); what(); }
});

function truth() {  // see `sealed` in parfocal_training.survey.page: hidden from a glance only
  let s = parseInt(sheet.sheet.slice(0, 8), 16) >>> 0;
  return Array.from(atob(sheet.sealed), character => {
    s = (Math.imul(s, 1103515245) + 12345) >>> 0;
    return (character.charCodeAt(0) ^ (s >>> 16 & 255)) & 1;
  });
}
function wilson(k, n) {
  const z = 1.959963984540054, p = k / n, d = 1 + z * z / n, middle = (p + z * z / (2 * n)) / d;
  const half = z / d * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return [k === 0 ? 0 : middle - half, k === n ? 1 : middle + half];
}
const percent = x => `${(100 * x).toFixed(1)} %`;
at("finish").onclick = () => { if (done() === total()) { state.finished = true; keep(); end(); } };
function end() {
  const right = truth();
  let before = 0, all = 0;
  at("scores").replaceChildren();
  parts.forEach((part, p) => {
    const mine = state.answers[p], n = mine.length;
    const k = mine.filter((a, i) => a === right[before + i]).length;
    const [low, high] = wilson(k, n), row = make("tr", "", at("scores"));
    make("td", `${part.number}: ${part.title}`, row);
    make("td", `${k} of ${n}`, row);
    make("td", percent(k / n), row);
    make("td", `${percent(low)} to ${percent(high)}`, row);
    before += n; all += k;
  });
  const [low, high] = wilson(all, before);
  at("total").textContent = `${state.person}: ${all} of ${before} right, ${percent(all / before)} ` +
    `(95 % interval ${percent(low)} to ${percent(high)}). Answers can no longer be changed.`;
  show("end");
  at("save").focus();
}
function csv() {
  const cell = value => /[",\r\n]/.test(value) ? `"${String(value).replace(/"/g, '""')}"` : value;
  const rows = [["person", "years", "part", "number", "answer", "sheet"]];
  parts.forEach((part, p) => state.answers[p].forEach((a, i) => rows.push(
    [state.person, state.years, part.number, i + 1, part.classes[a], sheet.sheet])));
  return rows.map(row => row.map(cell).join(",") + "\n").join("");
}
at("save").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `answers-${state.person.replace(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
  link.click();
  at("saved").textContent = `Saved as ${link.download} where your browser puts downloads.`;
};
begin();
