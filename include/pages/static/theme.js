// Light or dark as Airflow's UI has it: within the UI the frame around us knows, and tells when it changes; by
// itself a page asks what the UI remembered, else the system (style.css). Without this file the system decides.
(() => {
  const root = document.documentElement;
  const setTheme = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  try {
    if (window.parent !== window) {
      root.dataset.embedded = "";
      const ui = window.parent.document.documentElement;
      const follow = () => setTheme(ui.classList.contains("dark") ? "dark" : "light");
      follow();
      new MutationObserver(follow).observe(ui, { attributes: true, attributeFilter: ["class"] });
    } else {
      setTheme(localStorage.getItem("theme"));
    }
  } catch {
    // Another site's frame, or no storage: the system decides.
  }
  document.addEventListener("DOMContentLoaded", () => {
    if ("embedded" in root.dataset) {
      // A frame may not lead the window elsewhere, but the UI around us may go to one of its own pages.
      for (const link of document.querySelectorAll("a[data-ui]")) {
        link.addEventListener("click", (event) => {
          if (link.origin !== location.origin) return;
          event.preventDefault();
          window.parent.history.pushState(null, "", link.href);
          window.parent.dispatchEvent(new PopStateEvent("popstate"));
        });
      }
    }
    for (const button of document.querySelectorAll("[data-reload]")) {
      button.hidden = false;
      // The UI asks for a login when it starts, and leads back here.
      button.addEventListener("click", () => window.parent.location.reload());
    }
  });
})();
