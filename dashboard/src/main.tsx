import { createRoot } from "react-dom/client";
import { App } from "./App";
import "./index.css";
import { startTheme } from "./lib/theme";

startTheme();
const root = document.getElementById("root");
if (root) createRoot(root).render(<App />);
