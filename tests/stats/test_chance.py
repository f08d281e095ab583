"""Kappas, AC1 and alpha: published values, peers, the jackknife, and simulated coverage."""

import numpy as np
import pandas as pd
import pytest

from evalkit.errors import UserError
from evalkit.stats import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha

# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", part D: four observers, twelve units, "." is missing.
OBSERVERS = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
EXAMPLE = np.array([[np.nan if x == "." else float(x) for x in row] for row in OBSERVERS]).T
# Fleiss 1971: counts of five diagnoses by fourteen raters of ten subjects.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def raters(n: int, k: int, noise: float, seed: int, q: int = 4, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    table = np.where(rng.random((n, k)) < noise, rng.integers(q, size=(n, k)), rng.integers(q, size=n)[:, None]) * 1.0
    table[rng.random((n, k)) < missing] = np.nan
    return table


@pytest.mark.parametrize("level, value", [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_own_example(level: str, value: float) -> None:
    result = krippendorff_alpha(EXAMPLE, level=level)
    assert result.value == pytest.approx(value, abs=5e-4)
    assert (result.n, result.n_failed) == (12, 1)
    assert result.lower < value < result.upper <= 1
    assert "1 of 12 items" in result.warnings[0]


def test_fleiss_own_example() -> None:
    ratings = [[c for c, count in enumerate(row) for _ in range(count)] for row in FLEISS]
    assert fleiss_kappa(ratings).value == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize("weights, peer", [("unweighted", None), ("linear", "linear"), ("quadratic", "quadratic")])
def test_cohen_against_scikit_learn_and_statsmodels(weights: str, peer: str | None) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater", reason="statsmodels is not installed")
    a, b = raters(300, 2, 0.4, 1).T
    result = cohen_kappa(a, b, weights=weights)
    assert result.value == pytest.approx(metrics.cohen_kappa_score(a, b, weights=peer), abs=1e-12)
    found = inter_rater.cohens_kappa(pd.crosstab(a, b).to_numpy(), wt=peer)
    assert result.value == pytest.approx(found.kappa, abs=1e-12)
    assert result.se * np.sqrt(299 / 300) == pytest.approx(found.std_kappa, rel=1e-9)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("missing", [0.0, 0.35])
def test_alpha_against_krippendorff(level: str, missing: float) -> None:
    peer = pytest.importorskip("krippendorff", reason="krippendorff is not installed")
    table = raters(150, 4, 0.5, 2, missing=missing) ** 2  # unequal steps
    expected = peer.alpha(reliability_data=table.T, level_of_measurement=level)
    assert krippendorff_alpha(table, level=level).value == pytest.approx(expected, abs=1e-12)


def test_fleiss_against_statsmodels() -> None:
    peer = pytest.importorskip("statsmodels.stats.inter_rater", reason="statsmodels is not installed")
    table = raters(120, 5, 0.5, 3)
    expected = peer.fleiss_kappa(peer.aggregate_raters(table.astype(int))[0])
    assert fleiss_kappa(table).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_gwet_and_fleiss_against_irrcac(missing: float) -> None:
    peer = pytest.importorskip("irrCAC.raw", reason="irrCAC is not installed")
    table = raters(150, 4, 0.5, 4, missing=missing)
    found = peer.CAC(pd.DataFrame(table), categories=[0.0, 1.0, 2.0, 3.0])
    for ours, theirs in ((gwet_ac1(table), found.gwet()["est"]), (fleiss_kappa(table), found.fleiss()["est"])):
        assert ours.value == pytest.approx(theirs["coefficient_value"], abs=6e-5)  # it rounds
        assert ours.se == pytest.approx(theirs["se"], rel=0.06)


def coefficients(table: np.ndarray, clusters: np.ndarray | None = None) -> dict[str, object]:
    return {
        "cohen": cohen_kappa(table[:, 0], table[:, 1], clusters=clusters),
        "quadratic": cohen_kappa(table[:, 0], table[:, 1], weights="quadratic", clusters=clusters),
        "fleiss": fleiss_kappa(table, clusters=clusters),
        "ac1": gwet_ac1(table, categories=[0, 1, 2, 3], clusters=clusters),
        "nominal": krippendorff_alpha(table, clusters=clusters),
        "ordinal": krippendorff_alpha(table, level="ordinal", clusters=clusters),
        "interval": krippendorff_alpha(table, level="interval", clusters=clusters),
    }


def test_the_standard_errors_are_those_of_the_jackknife() -> None:
    table = raters(80, 3, 0.4, 5, missing=0.1)
    left_out = [{k: c.value for k, c in coefficients(np.delete(table, i, 0)).items()} for i in range(len(table))]
    values = pd.DataFrame(left_out)
    jackknife = np.sqrt(79 / 80 * ((values - values.mean()) ** 2).sum())
    for name, found in coefficients(table).items():
        assert found.se == pytest.approx(jackknife[name], rel=0.05), name


def test_repeating_every_item_changes_nothing_where_items_are_clusters() -> None:
    table = raters(60, 3, 0.4, 6)
    items = np.arange(60)
    once, thrice = coefficients(table, items), coefficients(np.tile(table, (3, 1)), np.tile(items, 3))
    for name, found in once.items():
        # Alpha alone has a correction for small samples, which the repeats reduce.
        assert thrice[name].value == pytest.approx(found.value, abs=0.01)
        assert thrice[name].se == pytest.approx(found.se, rel=0.02), name
        assert thrice[name].n_clusters == 60


@pytest.mark.parametrize("noise", [0.08, 0.4])
def test_coverage(noise: float) -> None:
    rounds, n = 120, 60
    truth = {name: found.value for name, found in coefficients(raters(100_000, 3, noise, 7)).items()}
    hits = dict.fromkeys(truth, 0)
    for seed in range(rounds):
        for name, found in coefficients(raters(n, 3, noise, 100 + seed)).items():
            hits[name] += found.lower <= truth[name] <= found.upper
    assert {name: count / rounds for name, count in hits.items() if count < 0.9 * rounds} == {}


def test_coverage_needs_the_clusters() -> None:
    """Each of 40 items is easy or hard for both raters, and rated ten times."""
    rng = np.random.default_rng(8)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        noise = np.repeat(np.where(rng.random(n) < 0.5, 0.05, 0.95), 10)
        truth = rng.integers(3, size=10 * n)
        sides = [np.where(rng.random(10 * n) < noise, rng.integers(3, size=10 * n), truth) for _ in range(2)]
        return (*sides, np.repeat(np.arange(n), 10))

    a, b, _ = draw(30_000)
    truth, hits = cohen_kappa(a, b).value, np.zeros(2)
    for _ in range(150):
        a, b, items = draw(40)
        for i, found in enumerate((cohen_kappa(a, b), cohen_kappa(a, b, clusters=items))):
            hits[i] += found.lower <= truth <= found.upper
    assert hits[1] / 150 >= 0.92
    assert hits[0] / 150 < 0.85


def test_full_agreement_still_has_a_lower_limit() -> None:
    table = np.tile(np.arange(30)[:, None] % 3, (1, 2))
    for found in (cohen_kappa(*table.T), fleiss_kappa(table), gwet_ac1(table), krippendorff_alpha(table)):
        assert found.value == found.upper == 1
        assert 0.5 < found.lower < 0.95
        assert "no disagreement" in found.warnings[0]


def test_one_category_has_no_value() -> None:
    table = np.ones((20, 2))
    for found in (cohen_kappa(*table.T), fleiss_kappa(table), gwet_ac1(table), krippendorff_alpha(table)):
        assert np.isnan(found.value) and np.isnan(found.lower)
        assert "one category" in found.warnings[0]
    assert gwet_ac1(table, categories=[0, 1]).value == 1


def test_missing_ratings_stay_in_n() -> None:
    found = cohen_kappa(["a", "b", None, "a", ""], ["a", "b", "a", "b", "b"])
    assert (found.n, found.n_failed) == (5, 2)
    assert found.frame().loc[0, "value"] == found.value
    nothing = fleiss_kappa([[1, None], [None, 2]])
    assert np.isnan(nothing.value) and "No item" in nothing.warnings[0]


def test_texts_on_an_ordinal_scale_take_the_given_order() -> None:
    table = raters(50, 3, 0.4, 9)
    names = ["bad", "fair", "good", "best"]
    words = pd.DataFrame(table).map(lambda x: names[int(x)])
    assert krippendorff_alpha(words, level="ordinal", categories=names).value == pytest.approx(
        krippendorff_alpha(table, level="ordinal").value
    )
    assert cohen_kappa(words[0], words[1], weights="linear", categories=names).value == pytest.approx(
        cohen_kappa(table[:, 0], table[:, 1], weights="linear").value
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: krippendorff_alpha([["x", "y"]], level="interval"), "ratings are texts"),
        (lambda: krippendorff_alpha([["x", "y"]], level="ordinal"), "categories in order"),
        (lambda: gwet_ac1([[1, 2]], categories=[1]), "rating 2 is none of the categories"),
        (lambda: cohen_kappa([1, 2], [1]), "differ in length"),
        (lambda: fleiss_kappa([1, 2]), "table"),
        (lambda: fleiss_kappa([[1, 2]], clusters=["x", "y"]), "2 cluster labels"),
        (lambda: fleiss_kappa([[1, 2], [1, 1]], clusters=["x", None]), "no cluster label"),
    ],
)
def test_bad_input_ends_in_a_sentence(call, message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
