"""Settings: what composes, what is refused, and in which words."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from spectramind_nb.pipeline.config import CONFIGS, GROUPS, ConfigError, cfg_hash, compose, flatten, profiles, section
from spectramind_nb.rules.losses import SPECIFICATION


@pytest.mark.parametrize("profile", ["demo", "example", "laptop", "full", "spec", "kaggle", "kaggle_fast"])
def test_profiles_compose_and_know_their_name(profile: str) -> None:
    assert profile in profiles()
    assert compose(profile=profile).profile == profile
    assert compose([f"profile={profile}"]) == compose(profile=profile)


def test_the_tree_is_the_specifications() -> None:
    tree = {
        "data": "local kaggle",
        "model": "fgs1_mamba airs_gnn decoder sigma_head fusion",
        "train": "mae contrastive supervised",
        "calib": "temp corel",
        "diag": "dashboard umap tsne fft shap",
        "overrides": "kaggle_fast",
        "experiment": "exp_baseline exp_kaggle_fast",
    }
    assert not [
        path for group in tree for one in tree[group].split() if not (path := CONFIGS / group / f"{one}.yaml").is_file()
    ]
    choices = {path.stem for group in GROUPS for path in (CONFIGS / group).glob("*.yaml")}
    assert choices - {name for names in GROUPS.values() for name in names} == {*tree["model"].split()}


def test_the_specifications_network_is_its_own() -> None:
    model = compose(["model=spec"]).model
    assert model.fgs1_mamba == {"d_model": 256, "n_layers": 8, "bidir": True, "dropout": 0.1}
    assert (model.airs_gnn.d_model, model.airs_gnn.layers, model.airs_gnn.type) == (192, 4, "gat")
    assert model.airs_gnn.edge_features == ["delta_lambda", "mol_i", "mol_j", "seam"]
    assert model.fusion == {"type": "concat_mlp", "hidden": 384, "dropout": 0.1}
    assert model.decoder_mu == {"scales": [64, 32, 283], "aux_loss": True}
    assert (model.head_sigma.type, model.head_sigma.sigma_min, model.head_sigma.quantiles) == ("flow", 1e-4, False)
    assert compose(["model=full"]).model.head_sigma.sigma_min == 1e-6


@pytest.mark.parametrize("key", ["loss.λ_sm", "transit.clip_sigma"])
@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_an_override_means_the_same_for_every_alphabet(key: str, sign: str) -> None:
    assert flatten(compose([f"{sign}{key}=0.2"]))[key] == 0.2
    assert flatten(compose([f"{sign}{key}=2"]))[key] == 2
    with pytest.raises(ConfigError, match="not float"):
        compose([f"{sign}{key}=much"])


def test_plus_adds_or_changes_and_tilde_removes() -> None:
    assert compose(["+model.fusion.type=gated"]) == compose(["model.fusion.type=gated"])
    assert compose(["+note=mine", "+notes={a: 1}"]).notes == {"a": 1}
    with pytest.raises(ConfigError, match=r"unknown key.*\+note=\.\.\. adds one of your own"):
        compose(["note=mine"])
    assert "loss.λ_sm" not in flatten(compose(["~loss.λ_sm"]))
    assert "training.rank" not in flatten(compose(["~training.rank"]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("loss.lambda_sm=0.2", "loss.λ_sm=0.2"),
        ("+training.lambda_factors=0.1", "training.λ_factors=0.1"),
        ("+model.fusion.type=cross-attend", "model.fusion.type=cross_attend"),
        ("calib.temp={enabled: false}", "calib.temp.enabled=false"),
        ("train=mae", "train.start=finetune train.phases=[mae]"),
        ("+model=full", "model=full"),
    ],
)
def test_two_spellings_are_one(one: str, other: str) -> None:
    assert compose([one]) == compose(other.split()) != compose()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("feature.folds=4", "did you mean 'features.folds'"),
        ("folds=4", "did you mean 'features.folds'"),
        ("loss.λ_smooth=1", "did you mean 'loss.λ_sm'"),
        ("features.folds=2.5", "2.5 is float, not int"),
        ("features.folds=true", "True is bool, not int"),
        ("calib.temp=3", "not dict"),
        ("model.decoder_mu.scales=[a]", r"\['a'\] is list of str, not list of int"),
        ("train.phases=[mae,1]", "is list of int, str, not list of str"),
        ("data.planets=1,2", r"write lists as \[1,2\]"),
        ("data.planets=[1", r"write lists as \[1,2\]"),
        ("loss=spek", "did you mean 'spec'"),
        ("+loss.λ_smooth=1", "did you mean 'loss.λ_sm'"),
        ("+model.fusoin.type=gated", "did you mean 'model.fusion.type'"),
        ("calib.temp={enabld: false}", "did you mean 'calib.temp.enabled'"),
        ("model=ful", "did you mean 'full'"),
        ("model.fusion.type=xyz", "known are concat_mlp, cross_attend, gated"),
        ("training.model.fusion.type=gated", "did you mean 'model.fusion.type'"),
        ("experiment=exp", "'exp' is unknown"),
        ("loss.form=x", "known are excess, literal"),
        ("submission.spelling=x", "known are challenge, specification"),
        ("profile=dem", "did you mean 'demo'"),
        ("features.folds", "write key=value"),
        ("~nothing", "unknown key"),
    ],
)
def test_what_fits_nowhere_is_one_clear_line(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        compose([override])
    assert "\n" not in str(caught.value) and "Fix: " in str(caught.value)


def test_values_have_their_types() -> None:
    cfg = compose(["data.planets=[1,2]", "data.raw='a b=c'", "calibration.cosmic_sigma=1e1", "data.weights=größe"])
    assert list(cfg.data.planets) == [1, 2]
    assert (cfg.data.raw, cfg.data.weights, cfg.calibration.cosmic_sigma) == ("a b=c", "größe", 10.0)


def test_the_hash_names_what_changes_results() -> None:
    base = cfg_hash(compose())
    assert len(base) == 8 and int(base, 16) >= 0
    assert base == cfg_hash(compose(["chain.workers=7", "data.raw=elsewhere"]))
    assert (
        len(
            {
                base,
                cfg_hash(compose(["seed=1"])),
                cfg_hash(compose(["loss.λ_sm=0.1"])),
                cfg_hash(compose(profile="example")),
            }
        )
        == 4
    )


def test_a_section_may_be_chosen_as_a_whole() -> None:
    chosen, plain = section(compose(["loss=spec"]), "05_symbolic"), section(compose(), "05_symbolic")
    assert chosen.keys() == plain.keys() and chosen["form"] == plain["form"] == "excess"
    assert {name: weight for name, weight in chosen.items() if name != "form"} == SPECIFICATION
    assert not any(weight for name, weight in plain.items() if name != "form")
    assert compose(["loss.λ_sm=0.5", "loss=spec"]).loss["λ_sm"] == 0.5, "single weights win, wherever they stand"
    assert cfg_hash(compose(["loss=spec"])) != cfg_hash(compose(["loss=default"])) == cfg_hash(compose())


def test_a_stage_without_a_section_has_no_settings() -> None:
    assert section(compose(), "07_uncertainty")["temp"] == {"enabled": True, "tau_init": 1.0}
    assert section(compose(), "03_unheard_of") == {}


@pytest.mark.slow
def test_files_change_several_sections(tmp_path: Path) -> None:
    fast = compose(files=["overrides/kaggle_fast.yaml"])
    assert fast == compose(["+overrides=kaggle_fast"]) == compose(files=["overrides/kaggle_fast"])
    assert fast.submission.batch_predict == 2048 and fast.diag.skip_heavy_diag
    assert compose(["diag.skip_heavy_diag=false"], files=["overrides/kaggle_fast"]).diag.skip_heavy_diag is False
    assert compose(files=["experiment/exp_kaggle_fast"]).data == compose(["data=kaggle"]).data

    mine = tmp_path / "mine.yaml"
    mine.write_text("loss: spec\nmodel: {fusion: {type: cross-attend}}\ntrain.epochs: 7\nprofile: example\n")
    wanted = ["loss=spec", "model.fusion.type=cross_attend", "train.epochs=7"]
    assert compose(files=[str(mine)]) == compose(wanted, profile="example")
    assert compose(["loss.lambda_sm=0.5"], files=[str(mine)]).loss["λ_sm"] == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("features: {fold: 3}", "features.fold: unknown key. Fix: did you mean 'features.folds'"),
        ("features: {folds: many}", "'many' is str, not int"),
        ("- 1", "holds no settings"),
        ("a: [", "can't be read"),
        (None, "there is no such file. Fix: known are overrides/kaggle_fast"),
    ],
)
def test_a_file_that_fits_nowhere_is_one_clear_line(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose(files=[str(tmp_path / "mine.yaml")])
    assert words in str(caught.value) and "\n" not in str(caught.value) and "Fix: " in str(caught.value)


EXACT_KNOBS = """
model:
  fgs1_mamba: { d_model: 256, n_layers: 8, bidir: true, dropout: 0.1 }
  airs_gnn:
    d_model: 192
    layers: 4
    type: gat
    edge_features: [delta_lambda, mol_i, mol_j, seam]
  fusion: { type: "concat_mlp", hidden: 384, dropout: 0.1 }
  decoder_mu: { scales: [64, 32, 283], aux_loss: true }
  head_sigma: { type: "flow", sigma_min: 1.0e-4, quantiles: false }
train:
  optim: { name: adamw, lr: 2.5e-4, wd: 0.01 }
  sched: { name: cosine, warmup_steps: 2000 }
  amp: true
  grad_accum: 2
  ckpt_every_epochs: 1
loss:
  λ_sm: 0.2
  λ_nn: 0.05
  λ_coh: 0.1
  λ_seam: 0.05
  λ_ratio: 0.05
  λ_qm: 0.02
calib:
  temp:  { enabled: true, tau_init: 1.0 }
  corel: { enabled: true, alpha: 0.1 }
diag:
  html: { open: false, out: "outputs/diagnostics/v1.html" }
"""


def test_the_profile_spec_has_every_exact_knob_of_the_specification_as_written() -> None:
    wanted, found = flatten(OmegaConf.create(EXACT_KNOBS)), flatten(compose(profile="spec"))
    leaves = {key: value for key, value in wanted.items() if not isinstance(value, dict)}
    assert len(leaves) == 36 and {key: found[key] for key in leaves} == leaves
    chapter = {key: found[f"training.{key}"] for key in leaves if key.startswith(("model.", "train."))}
    assert chapter == {key: leaves[key] for key in chapter}  # what chapter 06 is given
    fast = flatten(compose(profile="spec", files=["overrides/kaggle_fast.yaml"]))
    assert (fast["submission.batch_predict"], fast["diag.skip_heavy_diag"]) == (2048, True)
