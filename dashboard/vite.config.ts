import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

const server = process.env.SPECTRAMIND_SERVER ?? "http://127.0.0.1:8000";
const onlyWhatIsUsed = /node_modules\/(@tremor|recharts|d3-|date-fns|react-day-picker|@headlessui|@floating-ui)/;

export default defineConfig({
  plugins: [react(), viteSingleFile({ removeViteModuleLoader: true })],
  server: { proxy: { "/api": server } },
  build: {
    target: "es2022",
    rollupOptions: { treeshake: { moduleSideEffects: (id) => !onlyWhatIsUsed.test(id) } },
  },
});
