"use strict";
// Sends one file and shows what comes back. Every text becomes a text node: nothing that a file or a head is called is
// read as HTML.
const at = (id) => document.getElementById(id);
const made = (tag, text = "", name = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  if (name) node.className = name;
  return node;
};
let latest = 0;

function row(name, share, inSet) {
  const line = made("tr"), head = made("th", name), cell = made("td"), meter = made("meter");
  head.scope = "row";
  meter.min = 0; meter.max = 1; meter.value = share;
  meter.setAttribute("aria-label", `probability of ${name}`);
  cell.append(meter);
  line.append(head, made("td", share.toFixed(3), "number"), cell, made("td", inSet ? "likely" : ""));
  return line;
}

function shown(answer, several) {
  const parts = several ? [made("h3", answer.case)] : [];
  parts.push(made("p", answer.answer || "No answer", "said"));
  const why = answer.fault || answer.doubt;
  if (why) parts.push(made("p", `Why: ${why}`, "doubt"));
  const shares = Object.entries(answer.probabilities).sort((one, other) => other[1] - one[1]);
  if (!shares.length) return parts;
  if (answer.likely.length) parts.push(made("p", `Likely classes: ${answer.likely.join(", ")}`, "likely"));
  if (answer.over && answer.over.length) parts.push(made("p", `Over the threshold of: ${answer.over.join(", ")}`));
  const table = made("table"), head = made("tr"), top = made("thead"), body = made("tbody");
  for (const word of ["class", "probability", "bar", "set"]) {
    const cell = made("th", word);
    cell.scope = "col";
    head.append(cell);
  }
  top.append(head);
  body.append(...shares.map(([name, share]) => row(name, share, answer.likely.includes(name))));
  table.append(made("caption", "Probability of each class"), top, body);
  parts.push(table);
  if (answer.alike) {
    const list = made("ul");
    list.append(...answer.alike.map((near) => made("li", `${near.label}: ${near.name} (${near.cosine.toFixed(2)})`)));
    parts.push(made("p", "Most alike of the own cases:"), list);
  }
  return parts;
}

function show(said, file) {
  at("title").textContent = `Answer for ${file.name}`;
  at("answers").replaceChildren(...said.answers.flatMap((answer) => shown(answer, said.answers.length > 1)));
  at("map").hidden = !said.map;
  if (said.map) {
    const shares = Object.entries(said.answers[0].probabilities);
    const name = shares.reduce((best, one) => (one[1] > best[1] ? one : best))[0];
    at("picture").src = said.map;
    at("picture").alt = `The picture in grey, red where it speaks for ${name} and blue where against`;
    const beyond = said.answers[0].alike ? ", beyond what the own cases of other classes show there" : "";
    at("legend").textContent = `Red speaks for ${name}, blue against${beyond}. Take it as a way to notice a wrong reason.`;
  }
  at("result").hidden = false;
  at("title").focus();
}

async function ask(file) {
  const mine = ++latest, limit = Number(document.body.dataset.limit);
  at("result").hidden = true;
  if (file.size > limit) {
    at("state").textContent = `No answer: the file has more than ${limit / 1e6} MB.`;
    return;
  }
  at("state").textContent = "Reading the file ...";
  let said;
  try {
    const query = document.body.dataset.maps === "1" ? "?map=1" : "";
    const reply = await fetch(`v1/answers${query}`, { method: "POST", body: file, credentials: "omit" });
    said = await reply.json();
  } catch {
    said = { fault: "the service did not answer; is it still running?" };
  }
  if (mine !== latest) return; // another file was asked meanwhile
  at("state").textContent = said.fault ? `No answer: ${said.fault}` : "Answered.";
  if (!said.fault) show(said, file);
}

at("ask").addEventListener("submit", (event) => event.preventDefault());
at("file").addEventListener("change", () => at("file").files.length && ask(at("file").files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
  });
}
