"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);

  // Light and dark: the reader's system decides until the button is pressed.
  const theme = one("#theme");
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  label();

  // On paper whatever can be opened is open.
  addEventListener("beforeprint", () => all("details.suite").forEach((part) => { part.open = true; }));

  // The table of figures: search, filters, order.
  const table = one("#figures");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const search = one("#search"), show = one("#show"), suite = one("#suite"), told = one("#told");
  all(".tools").forEach((tools) => { tools.hidden = false; });
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const fits = (row) => {
    const kinds = row.dataset.kinds.split(" ");
    return (!show.value || kinds.includes(show.value)) && (!suite.value || row.dataset.suite === suite.value)
      && search.value.toLowerCase().split(/\s+/).every((word) => texts.get(row).includes(word));
  };
  const filter = () => {
    let count = 0;
    for (const row of rows) { row.hidden = !fits(row); count += !row.hidden; }
    told.textContent = `${count} of ${rows.length} figures`;
  };
  const keep = () => {
    const state = new URLSearchParams();
    for (const field of [search, show, suite]) if (field.value) state.set(field.id, field.value);
    history.replaceState(null, "", `#all-figures${state.size ? `?${state}` : ""}`);
  };
  for (const field of [search, show, suite]) field.addEventListener("input", () => { filter(); keep(); });

  for (const button of all("thead button", table)) button.addEventListener("click", () => {
    const head = button.closest("th"), place = head.cellIndex;
    const down = head.getAttribute("aria-sort") !== "ascending";
    all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "ascending" : "descending");
    const value = (row) => row.cells[place].dataset.sort ?? row.cells[place].textContent.trim();
    const numbers = rows.some((row) => row.cells[place].dataset.sort !== undefined);
    const order = (a, b) => numbers ? Number(value(a)) - Number(value(b)) : value(a).localeCompare(value(b));
    rows.sort((a, b) => (down ? 1 : -1) * order(a, b));
    body.append(...rows);
  });

  // Links: #figure/… opens that figure, #all-figures?show=fail&search=fog sets the filters.
  const follow = () => {
    const [place, query] = decodeURIComponent(location.hash.slice(1)).split("?");
    const found = place && document.getElementById(place);
    if (!found) return;
    if (place === "all-figures") {
      const state = new URLSearchParams(query ?? "");
      if (query !== undefined) for (const field of [search, show, suite]) field.value = state.get(field.id) ?? "";
      filter();
      if (query !== undefined) found.scrollIntoView();
      return;
    }
    all("tr.found").forEach((row) => row.classList.remove("found"));
    if (found.matches("details")) found.open = true;
    if (found.matches("#figures tr")) {
      if (found.hidden) { search.value = show.value = suite.value = ""; filter(); }
      found.classList.add("found");
      const more = found.querySelector("details");
      if (more) more.open = true;
      found.scrollIntoView({ block: "center" });
    }
  };
  addEventListener("hashchange", follow);
  // More than a thousand figures: those that were judged first, the rest at a touch.
  if (rows.some((row) => row.dataset.kinds.includes("judged"))) show.value = "judged";
  filter();
  follow();
})();
