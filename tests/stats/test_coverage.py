"""Intervals keep their promise in simulations (the short form of tests/perf/interval_coverage.py, same worlds)."""

from simulated_coverage import Coverage, by_voter, calibrated, corrected, iid


def by_name(found: list[Coverage]) -> dict[str, float]:
    return {coverage.name: coverage.share for coverage in found}


def test_independent_votes() -> None:
    assert 0.94 <= by_name(iid(1000, seed=2))["independent votes, sandwich"] <= 0.96


def test_heavy_tailed_voters_need_clusters() -> None:
    share = by_name(by_voter(150, seed=2))
    assert share["clustered by voter"] >= 0.91
    assert share["heavy-tailed voters, taken as independent"] <= 0.75


def test_200_human_labels_mend_a_biased_judge() -> None:
    share = by_name(corrected(300, seed=2))
    assert share["PPI++ board"] >= 0.94
    assert share["PPI++ win rate"] >= 0.94
    assert share["judge's board"] == share["judge's win rate"] == 0.0


def test_a_share_corrected_by_sensitivity_and_specificity() -> None:
    share = by_name(calibrated(500, seed=2))
    assert share["Rogan-Gladen"] >= 0.94
    assert share["judge's share"] == 0.0
