// Before anything is painted: the theme that was chosen, else the system's.
(() => {
  let t = null;
  try { t = localStorage.getItem("theme"); } catch { /* not allowed: the system's */ }
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => { document.documentElement.dataset.theme = t || (system.matches ? "dark" : "light"); };
  apply();
  system.addEventListener("change", () => { if (!t) { apply(); dispatchEvent(new Event("themechange")); } });
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      t = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("theme", t); } catch { /* for this page only, then */ }
      apply();
      dispatchEvent(new Event("themechange"));
    });
  });
})();
