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

  // Search and filters, of figures and of samples: what is chosen stands in the address.
  all(".tools").forEach((tools) => { tools.hidden = false; });
  const chooser = (place, fields, items, fits, told) => {
    const texts = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
    const words = () => fields[0].value.toLowerCase().split(/\s+/);
    const filter = () => {
      let count = 0;
      for (const item of items) {
        item.hidden = !(fits(item) && words().every((word) => texts.get(item).includes(word)));
        count += !item.hidden;
      }
      told(count);
    };
    const keep = () => {
      const state = new URLSearchParams();
      for (const field of fields) if (field.value) state.set(field.id, field.value);
      history.replaceState(null, "", `#${place}${state.size ? `?${state}` : ""}`);
    };
    for (const field of fields) field.addEventListener("input", () => { filter(); keep(); });
    const set = (query) => {
      const state = new URLSearchParams(query ?? "");
      if (query !== undefined) for (const field of fields) field.value = state.get(field.id) ?? "";
      filter();
    };
    return { place, filter, set };
  };
  const choosers = [];

  // The samples that changed sides.
  if (one("#sample")) {
    const albums = all(".album"), sides = one("#sides"), condition = one("#condition");
    const cards = all(".album li");
    choosers.push(chooser("samples", [one("#sample"), sides, condition], cards,
      (card) => (!sides.value || card.dataset.sides === sides.value)
        && (!condition.value || card.closest(".album").dataset.condition === condition.value),
      (count) => {
        for (const album of albums) album.hidden = !all("li", album).some((card) => !card.hidden);
        one("#samples-told").textContent = `${count} of ${cards.length} samples`;
      }));
  }

  // The table of figures.
  const table = one("#figures");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const search = one("#search"), show = one("#show"), suite = one("#suite"), told = one("#told");
  const figures = chooser("all-figures", [search, show, suite], rows,
    (row) => (!show.value || row.dataset.kinds.split(" ").includes(show.value))
      && (!suite.value || row.dataset.suite === suite.value),
    (count) => { told.textContent = `${count} of ${rows.length} figures`; });
  choosers.push(figures);

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

  // Links: #figure/… opens that figure, #all-figures?show=fail&search=fog and #samples?sides=lost set filters.
  const follow = () => {
    const [named, query] = location.hash.slice(1).split("?");
    let place = named;
    try { place = decodeURIComponent(named); } catch { /* a stray %: taken as it is */ }
    const found = place && document.getElementById(place);
    if (!found) return;
    const chosen = choosers.find((one) => one.place === place);
    if (chosen) {
      chosen.set(query);
      if (query !== undefined) found.scrollIntoView();
      return;
    }
    all("tr.found").forEach((row) => row.classList.remove("found"));
    if (found.matches("details")) found.open = true;
    if (found.matches("#figures tr")) {
      if (found.hidden) { search.value = show.value = suite.value = ""; figures.filter(); }
      found.classList.add("found");
      const more = found.querySelector("details");
      if (more) more.open = true;
      found.scrollIntoView({ block: "center" });
    }
  };
  addEventListener("hashchange", follow);
  // More than a thousand figures: those that were judged first, the rest at a touch.
  if (rows.some((row) => row.dataset.kinds.includes("judged"))) show.value = "judged";
  choosers.forEach((one) => one.filter());
  follow();
})();
