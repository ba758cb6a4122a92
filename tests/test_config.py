"""Settings: what composes, what is refused, and in which words."""

import pytest

from spectramind_nb.lib.config import ConfigError, cfg_hash, compose, flat, profiles, section
from spectramind_nb.rules import SPECIFICATION


@pytest.mark.parametrize("profile", ["demo", "example", "laptop", "full"])
def test_profiles_compose_and_know_their_name(profile: str) -> None:
    assert profile in profiles()
    assert compose(profile=profile).profile == profile
    assert compose([f"profile={profile}"]) == compose(profile=profile)


@pytest.mark.parametrize("key", ["loss.λ_sm", "transit.clip_sigma"])
@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_an_override_means_the_same_for_every_alphabet(key: str, sign: str) -> None:
    assert flat(compose([f"{sign}{key}=0.2"]))[key] == 0.2
    assert flat(compose([f"{sign}{key}=2"]))[key] == 2
    with pytest.raises(ConfigError, match="not float"):
        compose([f"{sign}{key}=much"])


@pytest.mark.parametrize("key", ["model.fusion.type", "loss.λ_new"])
def test_plus_adds_and_tilde_removes(key: str) -> None:
    assert flat(compose([f"+{key}=cross-attend"]))[key] == "cross-attend"
    with pytest.raises(ConfigError, match="unknown key"):
        compose([f"{key}=cross-attend"])
    assert "loss.λ_sm" not in flat(compose(["~loss.λ_sm"]))
    assert "training.rank" not in flat(compose(["~training.rank"]))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("feature.folds=4", "did you mean 'features.folds'"),
        ("folds=4", "did you mean 'features.folds'"),
        ("loss.λ_smooth=1", "did you mean 'loss.λ_sm'"),
        ("features.folds=2.5", "'2.5' is float, not int"),
        ("features.folds=true", "'true' is bool, not int"),
        ("calib.temp=3", "not dict"),
        ("data.planets=1,2", r"write lists as \[1,2\]"),
        ("data.planets=[1", r"write lists as \[1,2\]"),
        ("loss=spek", "did you mean 'spec'"),
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
