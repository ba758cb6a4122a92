import { createContext, useContext } from "react";
import type { Bands } from "../api";
import type { Loaded } from "./load";

export const BandsContext = createContext<Loaded<Bands>>({ state: "loading" });

/** Wavelengths and molecules; a chart that needs them fails by itself where they can't be had. */
export function useBands(): Bands {
  const loaded = useContext(BandsContext);
  if (loaded.state === "ready") return loaded.data;
  throw new Error(loaded.state === "error" ? loaded.message : "the wavelengths are missing");
}

/** "FGS1, 0.70 µm" or "2.345 µm" */
export function binName(bands: Bands, bin: number): string {
  const wavelength = bands.wavelength_um[bin];
  return bin === 0 ? `FGS1, ${wavelength.toFixed(2)} µm` : `${wavelength.toFixed(3)} µm (bin ${bin})`;
}
