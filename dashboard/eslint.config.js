import js from "@eslint/js";
import a11y from "eslint-plugin-jsx-a11y";
import hooks from "eslint-plugin-react-hooks";
import ts from "typescript-eslint";

export default ts.config(
  js.configs.recommended,
  ts.configs.strict,
  a11y.flatConfigs.recommended,
  hooks.configs["recommended-latest"],
  {
    rules: {
      // A region that scrolls has to take the focus.
      "jsx-a11y/no-noninteractive-tabindex": ["error", { roles: ["region", "img"], tags: ["main", "h1"] }],
      "@typescript-eslint/no-non-null-assertion": "off",
    },
  },
);
