/** What the dashboard shows, as the server answers it: types made from its description by `npm run types`. */
import type { Bands, Calibrated, Embedding, Event, Frame, Missing, Overlays, Overview, Planet, PlanetRow, Residuals, RunScore } from "./schema";

export type {
  Attention,
  Attribution,
  Bands,
  Calibrated,
  Coverage,
  Embedding,
  Event,
  Frame,
  Histogram,
  Influence,
  JitterLine,
  LightCurve,
  Missing,
  Overlays,
  Overview,
  Periodogram,
  Planet,
  PlanetRow,
  Pointing,
  Quantiles,
  ResidualSpectrum,
  Residuals,
  RetrievedAtmosphere,
  RetrievedPair,
  RetrievedParameter,
  RunScore,
  Score,
  Spectrum,
  StageTime,
  StepMap,
  Violation,
} from "./schema";

/** A panel's data, or why there are none. */
export interface Panel<T> {
  data?: T | null;
  missing?: Missing | null;
}

/** The API: what each path answers. */
export interface Answers {
  "api/bands": Bands;
  "api/overview": Panel<Overview>;
  "api/planets": Panel<PlanetRow[]>;
  "api/embedding": Panel<Embedding>;
  "api/overlays": Panel<Overlays>;
  "api/residuals": Panel<Residuals>;
  "api/calibration": Panel<Calibrated>;
  "api/runs": Panel<RunScore[]>;
  "api/log": Panel<Event[]>;
  [planet: `api/planets/${number}`]: Planet;
  [frames: `api/planets/${number}/frames`]: Panel<Frame[]>;
}
