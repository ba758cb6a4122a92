/** What the dashboard shows, as the server answers it. The only file that knows where types come from. */

/** Why a panel is empty, and the command that fills it. */
export interface Missing {
  what: string;
  command: string;
}

/** A panel's data, or why there are none. */
export interface Panel<T> {
  data?: T | null;
  missing?: Missing | null;
}

/** One predictor on one set of planets; errors are RMS, z the standard deviation of error / sigma. */
export interface Score {
  predictor: string;
  planets: string;
  count: number;
  score?: number | null;
  fgs1_ppm?: number | null;
  fgs1_median_ppm?: number | null;
  airs_mean_ppm?: number | null;
  airs_mean_median_ppm?: number | null;
  airs_shape_ppm?: number | null;
  airs_shape_median_ppm?: number | null;
  coverage68?: number | null;
  coverage90?: number | null;
  z_fgs1?: number | null;
  z_airs?: number | null;
}

export interface StageTime {
  stage: string;
  seconds: number;
  peak_gb?: number | null;
  finished: string;
}

export interface Overview {
  run: string;
  version: string;
  cfg_hash?: string | null;
  git_sha?: string | null;
  seed?: number | null;
  device?: string | null;
  profile?: string | null;
  simulated: boolean;
  predictor?: string | null;
  weights?: string | null;
  scores: Score[];
  stages: StageTime[];
  planets: number;
  seconds_per_planet?: number | null;
  projected_hours?: number | null;
  budget_hours: number;
  rules_violated: Record<string, number>;
}

/** A planet in one line. Errors are |predicted - true| of the submitted predictor, ppm. */
export interface PlanetRow {
  id: number;
  planets: "out of fold" | "test";
  failed: boolean;
  detailed: boolean;
  depth_ppm: number;
  sigma_ppm: number;
  signal_to_noise: number;
  score?: number | null;
  fgs1_error_ppm?: number | null;
  airs_mean_error_ppm?: number | null;
  airs_shape_error_ppm?: number | null;
  z_rms?: number | null;
  inside90?: number | null;
  unknown?: number | null;
  latent_distance?: number | null;
  residual_distance?: number | null;
  violations: number;
  teff_k?: number | null;
  transit_h?: number | null;
}

/** Lists have a value for each of the 283 bins. */
export interface Spectrum {
  depth_ppm: (number | null)[];
  depth_sigma_ppm: (number | null)[];
  mu_ppm: Record<string, number[]>;
  sigma_ppm: Record<string, number[]>;
  half_width_ppm?: (number | null)[] | null;
  truth_ppm?: number[] | null;
}

/** White light of one channel in one visit; flux relative to the star's. */
export interface LightCurve {
  channel: "FGS1" | "AIRS";
  visit: number;
  time_h: number[];
  flux: number[];
  model: number[];
  drift: number[];
  residual_ppm: number[];
}

export interface Pointing {
  visit: number;
  time_h: number[];
  x_px: (number | null)[];
  y_px: (number | null)[];
  jitter_x_px: (number | null)[];
  jitter_y_px: (number | null)[];
}

/** A raw detector frame (end minus start of one exposure), row by row from the top. */
export interface Frame {
  channel: "FGS1" | "AIRS-CH0";
  rows: number;
  columns: number;
  adu: number[];
  time_h: number;
  extraction: number[];
}

export interface Violation {
  rule: string;
  status: "ok" | "violated" | "not judged";
  significance_sigma?: number | null;
  value_ppm?: number | null;
  bound_ppm?: number | null;
  bins: number[];
}

/** The edges that the graph attends to most. */
export interface Attention {
  source: number[];
  target: number[];
  kind: string[];
  share: number[];
  received: number[];
}

export interface Influence {
  by_rule: Record<string, number[]>;
}

export interface Attribution {
  by_output: Record<string, number[]>;
  planet_features: Record<string, number>;
}

export interface Periodogram {
  channel: "FGS1" | "AIRS";
  frequency_mhz: number[];
  power: number[];
}

export interface Planet {
  row: PlanetRow;
  star: Record<string, number>;
  spectrum: Panel<Spectrum>;
  light_curves: Panel<LightCurve[]>;
  pointing: Panel<Pointing[]>;
  frames: Panel<Frame[]>;
  violations: Panel<Violation[]>;
  attention: Panel<Attention>;
  influence: Panel<Influence>;
  attribution: Panel<Attribution>;
  periodograms: Panel<Periodogram[]>;
}

export interface Embedding {
  of: string;
  planet: number[];
  maps: Record<string, [number, number][]>;
}

export interface Overlays {
  shap: Record<string, number[]>;
  influence: Record<string, number[]>;
  planets: number;
  features: Record<string, number>;
}

export interface JitterLine {
  name: string;
  frequency_mhz: number;
}

export interface ResidualSpectrum {
  channel: "FGS1" | "AIRS";
  frequency_mhz: number[];
  median: number[];
  low: number[];
  high: number[];
}

export interface Residuals {
  channels: ResidualSpectrum[];
  lines: JitterLine[];
  planets: number;
}

export interface Quantiles {
  predictor: string;
  q: (number | null)[];
  q_by_itself: (number | null)[];
  factor: number[];
}

/** Share of truths inside 90% intervals, with binomial 95% bounds. */
export interface Coverage {
  group: string;
  planets: number;
  bins: number;
  before: number;
  before_low: number;
  before_high: number;
  sigma: number;
  sigma_low: number;
  sigma_high: number;
  interval: number;
  interval_low: number;
  interval_high: number;
}

export interface Histogram {
  quantity: "z" | "pit";
  edges: number[];
  before: number[];
  after: number[];
}

export interface Calibrated {
  alpha: number;
  planets: number;
  tau: Record<string, number>;
  tau_interval: Record<string, [number, number]>;
  widening: number;
  quantiles: Quantiles[];
  coverage: Coverage[];
  histograms: Histogram[];
}

export interface RunScore {
  run: string;
  cfg_hash: string;
  finished: string;
  score: Record<string, number>;
  seed?: number | null;
}

export interface Event {
  ts: string;
  cmd: string;
  run_id?: string | null;
  status: string;
  duration_ms?: number | null;
  cfg_hash?: string | null;
  git_sha?: string | null;
  seed?: number | null;
  args: string;
}

/** What holds for every run: wavelengths (the first is FGS1's), and which bins molecules mark. */
export interface Bands {
  wavelength_um: number[];
  molecules: Record<string, number[][]>;
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
}
