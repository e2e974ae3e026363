// Light, dark, or as the system: before anything is drawn, so that nothing flashes.
const CHOSEN = "kb-theme";

export const theme = () => localStorage.getItem(CHOSEN) ?? "system";

export function show(name) {
  localStorage.setItem(CHOSEN, name);
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

show(theme());
