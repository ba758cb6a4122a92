/** Light or dark: as the system has it until the reader chooses. */
import { useSyncExternalStore } from "react";

export type Theme = "light" | "dark";

const KEY = "spectramind-theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function chosen(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function apply(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
  listeners.forEach((listener) => listener());
}

function current(): Theme {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

export function startTheme(): void {
  const wanted = chosen();
  apply(wanted === "dark" || wanted === "light" ? wanted : system.matches ? "dark" : "light");
  system.addEventListener("change", (event) => {
    if (!chosen()) apply(event.matches ? "dark" : "light");
  });
}

export function chooseTheme(theme: Theme): void {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // The choice then lasts as long as the page.
  }
  apply(theme);
}

export function useTheme(): Theme {
  return useSyncExternalStore((changed) => {
    listeners.add(changed);
    return () => listeners.delete(changed);
  }, current);
}
