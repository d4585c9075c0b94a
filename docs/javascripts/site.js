/* Keyboard access to what scrolls sideways, and names of landmarks that the theme leaves without one. */
function markScrolling() {
  document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  document.querySelectorAll(".md-code__nav").forEach((bar, n) => bar.setAttribute("aria-label", `Code ${n + 1}`));
  const names = new Set();
  document.querySelectorAll(".md-nav").forEach((menu) => {
    const label = document.getElementById(menu.getAttribute("aria-labelledby"));
    let name = (label ? label.textContent : menu.getAttribute("aria-label") || "Menu").trim();
    while (names.has(name)) name += ", below";
    names.add(name);
    menu.removeAttribute("aria-labelledby");
    menu.setAttribute("aria-label", name);
  });
}
addEventListener("load", () => setTimeout(markScrolling, 50));
addEventListener("resize", markScrolling);
