// Elements built from values. Everything from outside becomes a text node; no function here reads markup.

const SVG = "http://www.w3.org/2000/svg";

// Return an element. `attributes`: functions become listeners (`click`), true a bare attribute, false and null none.
export const element = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

// Return an element of a drawing.
export const drawn = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// Return the address of a view; `query` is encoded, and members without a value are left out.
export function address(path, query = {}) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#/${path}${search && "?" + search}`;
}

export const link = (text, path, query = {}) => element("a", { href: address(path, query) }, text);

// Return links of which one is the current one; `choices`: pairs of a name and its text.
export function choices(label, current, items, target) {
  return element("nav", { class: "choices", "aria-label": label }, items.map(([name, text]) =>
    element("a", { href: target(name), "aria-current": name === current && "true" }, text)));
}

// Return a heading with what belongs next to it.
export const heading = (...parts) => element("div", { class: "heading" }, parts);

// Return a field with its visible label. The names of fields are unique on the page.
export function labelled(text, field, kind = "") {
  field.id = `field-${field.name}`;
  const label = element("label", { for: field.id }, text);
  return element("div", { class: field.type === "checkbox" ? "check" : `field ${kind}` }, field.type === "checkbox" ? [field, label] : [label, field]);
}

// Return a list of choices that begins with "all"; `options`: pairs of a value and its text.
export function select(name, all, options, chosen) {
  return element("select", { name }, element("option", { value: "" }, all),
    options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
}

// Return a table; `rows` are pairs of a key, which is unique, and cells. Each cell has its column's name for narrow screens.
export function table(caption, columns, rows) {
  const cells = (row) => row.map((cell, index) => element("td", { "data-label": columns[index] }, cell));
  return element("div", { class: "table" }, element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, columns.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", { "data-list": true }, rows.map(([key, row]) => element("tr", { "data-key": key }, cells(row))))));
}

// Return a list of names and values; pairs without a value are left out.
export function pairs(entries) {
  const given = entries.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return element("dl", {}, given.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

export const empty = (text) => element("p", { class: "empty" }, text);

// Change `parent` to have these children. What did not change stays: its focus, selection, and what is unfolded. If the
// focused element is gone, its successor gets the focus: the same link, or the view, so that Tab continues there.
export function update(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  reconcile(parent, element("div", {}, ...children));
  if (focused && !parent.contains(document.activeElement)) {
    const same = [...parent.querySelectorAll("a")].find((each) => each.hash === focused.hash);
    (same ?? parent.closest("main"))?.focus({ preventScroll: true });
  }
}

// Give `old` the children of `fresh`. Children with a `data-key` are matched by it, others by their position.
function reconcile(old, fresh) {
  const key = (node, index) => node.dataset?.key ?? index;
  const known = new Map([...old.childNodes].map((node, index) => [key(node, index), node]));
  let next = old.firstChild;
  [...fresh.childNodes].forEach((node, index) => {
    const former = known.get(key(node, index));
    known.delete(key(node, index));
    const kept = former === undefined ? node : merged(former, node);
    if (kept !== former && former === next) next = next?.nextSibling ?? null;
    if (kept !== former) former?.remove();
    if (kept === next) next = next.nextSibling;
    else old.insertBefore(kept, next);
  });
  known.forEach((node) => node.remove());
}

// Return the old node if it shows the same, or has been changed to; otherwise the new one. Only lists, which have no
// listeners of their own, are changed: the listeners of anything else may be about another value.
function merged(old, fresh) {
  const [before, after] = [normalized(old), normalized(fresh)];
  if (before.isEqualNode(after)) {
    showTimes(old, fresh);
    return old;
  }
  if (listIn(old) && listIn(fresh)) {
    [before, after].forEach((node) => listIn(node).replaceChildren());
    if (before.isEqualNode(after)) {
      reconcile(listIn(old), listIn(fresh));
      return old;
    }
  }
  const unfolded = new Map([...(old.querySelectorAll?.("details") ?? [])].map((each) => [each.dataset.name, each.open]));
  fresh.querySelectorAll?.("details").forEach((each) => { each.open = unfolded.get(each.dataset.name) ?? each.open; });
  return fresh;
}

const listIn = (node) => (node.matches?.("[data-list]") ? node : node.querySelector?.("[data-list]"));

// Return a copy without what changes by itself (relative times) or by the user (what is unfolded).
function normalized(node) {
  const copy = element("div", {}, node.cloneNode(true));
  copy.querySelectorAll("time").forEach((each) => { each.textContent = ""; });
  copy.querySelectorAll("details").forEach((each) => each.removeAttribute("open"));
  return copy;
}

function showTimes(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  const times = fresh.querySelectorAll("time");
  old.querySelectorAll("time").forEach((each, index) => {
    if (each.textContent !== times[index].textContent) each.textContent = times[index].textContent;
  });
}
