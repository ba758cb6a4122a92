import forms from "@tailwindcss/forms";
import headless from "@headlessui/tailwindcss";
import type { Config } from "tailwindcss";

/** Colours are CSS variables (src/index.css), the same names in both themes; Tremor's light and dark tokens are one. */
const tremor = {
  brand: { faint: "var(--accent-faint)", muted: "var(--accent-soft)", subtle: "var(--accent)", DEFAULT: "var(--accent)", emphasis: "var(--accent)", inverted: "var(--card)" },
  background: { muted: "var(--page)", subtle: "var(--sunken)", DEFAULT: "var(--card)", emphasis: "var(--ink)" },
  border: { DEFAULT: "var(--line)" },
  ring: { DEFAULT: "var(--line)" },
  content: { subtle: "var(--muted)", DEFAULT: "var(--muted)", emphasis: "var(--ink)", strong: "var(--ink)", inverted: "var(--card)" },
};

export default {
  content: ["./index.html", "./src/**/*.{ts,tsx}", "./node_modules/@tremor/react/dist/components/{layout-elements,list-elements,icon-elements,input-elements/Tabs}/**/*.js"],
  darkMode: ["selector", "[data-theme=dark]"],
  theme: {
    extend: {
      colors: {
        tremor,
        "dark-tremor": tremor,
        page: "var(--page)", card: "var(--card)", sunken: "var(--sunken)", line: "var(--line)", ink: "var(--ink)", muted: "var(--muted)",
        accent: { DEFAULT: "var(--accent)", soft: "var(--accent-soft)", faint: "var(--accent-faint)" },
        good: "var(--good)", bad: "var(--bad)", warn: "var(--warn)",
      },
      boxShadow: { "tremor-card": "var(--shadow)", "dark-tremor-card": "var(--shadow)", "tremor-input": "none", "dark-tremor-input": "none" },
      borderRadius: { "tremor-small": "0.375rem", "tremor-default": "0.625rem" },
      fontSize: {
        "tremor-label": ["0.75rem", "1rem"],
        "tremor-default": ["0.8125rem", "1.25rem"],
        "tremor-title": ["1rem", "1.5rem"],
        "tremor-metric": ["1.875rem", "2.25rem"],
        xs: ["0.75rem", "1.125rem"],
        sm: ["0.8125rem", "1.25rem"],
      },
    },
  },
  plugins: [headless, forms({ strategy: "class" })],
} satisfies Config;
