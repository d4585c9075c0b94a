// Filter the tables of methods by words and by what stands in a column. Without this script all rows are shown.
document$.subscribe(() => {
  const place = document.getElementById("method-filter");
  if (!place || place.childElementCount) return;
  const tables = [...document.querySelectorAll(".md-content table")].filter((table) =>
    [...table.querySelectorAll("th")].some((cell) => cell.textContent.trim() === "trains first"));
  const titles = [...tables[0].querySelectorAll("th")].map((cell) => cell.textContent.trim());
  const rows = tables.flatMap((table) => [...table.querySelectorAll("tbody tr")]);
  const text = (row, at) => row.children[at].textContent.trim();
  const words = document.createElement("input");
  words.type = "search";
  words.placeholder = "words";
  words.setAttribute("aria-label", "Words in a row");
  const choices = ["items", "labels", "works on", "trains first"].map((title) => {
    const at = titles.indexOf(title), choice = document.createElement("select");
    choice.setAttribute("aria-label", title);
    choice.add(new Option(`${title}: any`, ""));
    [...new Set(rows.map((row) => text(row, at)))].sort().forEach((value) => choice.add(new Option(value, value)));
    return { at, choice };
  });
  const count = document.createElement("output");
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      row.hidden = !choices.every(({ at, choice }) => !choice.value || text(row, at) === choice.value)
        || !wanted.every((word) => row.textContent.toLowerCase().includes(word));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length} methods`;
  };
  place.append(words, ...choices.map(({ choice }) => choice), count);
  place.addEventListener("input", show);
  show();
});
