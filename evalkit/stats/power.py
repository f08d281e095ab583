"""Planning: how many items or votes a comparison needs, and the smallest effect that a given number detects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import pandas as pd
from scipy import optimize, special

from evalkit.errors import UserError
from evalkit.stats.ranks import critical_value
from evalkit.stats.variances import VarianceComponents

_ELO = 400.0 / math.log(10.0)


class Design(Protocol):
    """What is compared. `spread` gives (distance, s0, s1): n = ((z_(1-alpha/2) s0 + z_power s1) / distance)^2."""

    @property
    def unit(self) -> str:
        """What n counts."""

    @property
    def definition(self) -> str:
        """Effect and formula in words."""

    @property
    def largest(self) -> float:
        """Largest possible effect; infinite if there is none."""

    def spread(self, effect: float) -> tuple[float, float, float]:
        """Distance from the null hypothesis, and standard deviation of one unit under it and under the effect."""


@dataclass(frozen=True)
class MeanTest:
    """Difference of two models' mean values: paired (both on the same n items) or unpaired (n items each)."""

    components: VarianceComponents
    paired: bool = True
    samples_a: int = 1
    samples_b: int = 1

    @property
    def unit(self) -> str:
        """What n counts."""
        return "items" if self.paired else "items for each model"

    @property
    def definition(self) -> str:
        """Effect and formula in words."""
        kind = "paired" if self.paired else "unpaired"
        between = "omega^2" if self.paired else "Var(x_a) + Var(x_b)"
        return (
            f"{kind} difference of two means, n = (z_(1-alpha/2) + z_power)^2 ({between} + sigma_a^2/{self.samples_a} "
            f"+ sigma_b^2/{self.samples_b}) / difference^2 (Miller 2024)"
        )

    @property
    def largest(self) -> float:
        """No limit."""
        return math.inf

    def spread(self, effect: float) -> tuple[float, float, float]:
        """The standard deviation does not depend on the effect."""
        parts = self.components
        between = parts.omega2 if self.paired else parts.var_a + parts.var_b
        factor = parts.design_effect if self.paired else parts.design_effect_unpaired
        deviation = math.sqrt((between + parts.sampling(self.samples_a, self.samples_b)) * factor)
        return effect, deviation, deviation


@dataclass(frozen=True)
class ShareTest:
    """A share above a fixed one (`base`), or above another group's that is `base` (`two_groups`)."""

    base: float
    two_groups: bool = False

    @property
    def unit(self) -> str:
        """What n counts."""
        return "items for each group" if self.two_groups else "items"

    @property
    def definition(self) -> str:
        """Effect and formula in words."""
        against = "another group's share" if self.two_groups else "the fixed share"
        return f"difference of a share from {against} {self.base:g}, normal approximation (Fleiss, Levin & Paik 2003)"

    @property
    def largest(self) -> float:
        """Up to a share of 1."""
        return 1.0 - self.base

    def spread(self, effect: float) -> tuple[float, float, float]:
        """Binomial standard deviations; the null of two groups takes their mean share."""
        share = self.base + effect
        if not self.two_groups:
            return effect, math.sqrt(self.base * (1 - self.base)), math.sqrt(share * (1 - share))
        pooled = (self.base + share) / 2
        return (
            effect,
            math.sqrt(2 * pooled * (1 - pooled)),
            math.sqrt(self.base * (1 - self.base) + share * (1 - share)),
        )


@dataclass(frozen=True)
class WinRateTest:
    """A win rate of one model against another above 1/2, a tie counting half; `ties` is the expected share of ties."""

    ties: float = 0.0

    @property
    def unit(self) -> str:
        """What n counts."""
        return "votes"

    @property
    def definition(self) -> str:
        """Effect and formula in words."""
        return f"win rate above 1/2, ties half, variance of a vote (1 - {self.ties:g})/4 - (win rate - 1/2)^2"

    @property
    def largest(self) -> float:
        """Every vote that is no tie is won."""
        return (1.0 - self.ties) / 2.0

    def spread(self, effect: float) -> tuple[float, float, float]:
        """A vote is 1, 1/2 or 0."""
        null = (1.0 - self.ties) / 4.0
        return effect, math.sqrt(null), math.sqrt(max(null - effect**2, 0.0))


@dataclass(frozen=True)
class EloTest:
    """A rating difference in Elo points, from votes of the two models against each other or against others.

    Against others, each model takes part in n votes with models of about its strength, whose ratings count as known.
    """

    ties: float = 0.0
    opponents: Literal["each other", "others"] = "each other"

    @property
    def unit(self) -> str:
        """What n counts."""
        return "votes" if self.opponents == "each other" else "votes for each model"

    @property
    def definition(self) -> str:
        """Effect and formula in words."""
        if self.opponents == "each other":
            return (
                f"Elo difference d, votes between the two, win rate 1 / (1 + 10^(-d/400)), share of ties {self.ties:g}"
            )
        return (
            "Elo difference d, votes of each against models of like strength, variance of the difference "
            f"(400/ln 10)^2 8 (1 - {self.ties:g}) / n"
        )

    @property
    def largest(self) -> float:
        """With ties half a win, a win rate cannot pass 1 - ties / 2."""
        if self.opponents == "others" or self.ties == 0:
            return math.inf
        top = 1.0 - self.ties / 2.0
        return _ELO * math.log(top / (1.0 - top))

    def spread(self, effect: float) -> tuple[float, float, float]:
        """Between the two: the test of their win rate. Against others: two independent strengths."""
        if self.opponents == "each other":
            return WinRateTest(self.ties).spread(float(special.expit(effect / _ELO)) - 0.5)
        deviation = _ELO * math.sqrt(8.0 * (1.0 - self.ties))
        return effect, deviation, deviation


@dataclass(frozen=True)
class PowerAnalysis:
    """With n units, a two-sided test at `alpha` finds a true `effect` with probability `power`.

    Attributes:
        effect: In the units of the values (shares as 0 to 1, ratings in Elo points); NaN where no effect is found.
        n: Units, see `unit`.
        unit: What n counts.
        alpha, power: Of the two-sided test, normal approximation.
        definition: Effect and formula in words.
        warnings: Sentences.
    """

    effect: float
    n: int
    unit: str
    alpha: float
    power: float
    definition: str
    warnings: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """One row: effect, n, unit, alpha, power."""
        return pd.DataFrame([{name: getattr(self, name) for name in ("effect", "n", "unit", "alpha", "power")}])


def sample_size(design: Design, effect: float, *, alpha: float = 0.05, power: float = 0.8) -> PowerAnalysis:
    """Units that a two-sided test needs to find an effect.

    n = ((z_(1-alpha/2) s0 + z_power s1) / distance)^2, s0 and s1 the standard deviation of one unit without and with
    the effect; for two models on the same items n = (z_(1-alpha/2) + z_power)^2 (omega^2 + sigma_a^2 / K_a +
    sigma_b^2 / K_b) / effect^2 (Miller 2024, "Adding error bars to evals", arXiv:2411.00640, section 5).

    Args:
        design: `MeanTest`, `ShareTest`, `WinRateTest` or `EloTest`.
        effect: Difference to be found, above 0 (its sign does not matter to a two-sided test).
        alpha: Level of the two-sided test.
        power: Chance of finding the effect.

    Raises:
        UserError: The effect is not above 0 or is more than possible, or an option is outside its range.
    """
    _check(design, alpha, power)
    if not 0 < effect <= design.largest or math.isinf(effect):
        limit = "" if math.isinf(design.largest) else f" and at most {design.largest:.4g}"
        raise UserError(f"the effect is {effect:g}; it must be above 0{limit} ({design.definition}).", code=2)
    n = max(1, math.ceil(_needed(design, effect, alpha, power) - 1e-9))
    return PowerAnalysis(effect, n, design.unit, alpha, power, design.definition, _warnings(design, n))


def minimum_detectable_effect(design: Design, n: int, *, alpha: float = 0.05, power: float = 0.8) -> PowerAnalysis:
    """Smallest effect that a two-sided test of n units finds with the given power: `sample_size` solved for the effect.

    Args:
        design: As in `sample_size`.
        n: Units (see the design's `unit`).
        alpha, power: As in `sample_size`.

    Raises:
        UserError: n is below 1, or an option is outside its range.
    """
    _check(design, alpha, power)
    if n < 1:
        raise UserError(f"{n} {design.unit} detect nothing; give 1 or more.", code=2)
    upper = design.largest if math.isfinite(design.largest) else 1.0
    while math.isinf(design.largest) and upper < 1e12 and _needed(design, upper, alpha, power) > n:
        upper *= 2.0
    if _needed(design, upper, alpha, power) > n:
        sentence = f"With {n} {design.unit} no possible effect is found with a power of {power:.0%}."
        return PowerAnalysis(math.nan, n, design.unit, alpha, power, design.definition, (sentence,))
    lower = upper * 1e-15
    if _needed(design, lower, alpha, power) <= n:  # no variance at all
        return PowerAnalysis(0.0, n, design.unit, alpha, power, design.definition, _warnings(design, n))
    found = optimize.brentq(lambda effect: _needed(design, effect, alpha, power) - n, lower, upper, xtol=upper * 1e-13)
    return PowerAnalysis(float(found), n, design.unit, alpha, power, design.definition, _warnings(design, n))


def achieved_power(design: Design, effect: float, n: int, *, alpha: float = 0.05) -> float:
    """Chance that a two-sided test of n units finds the effect: Phi((distance sqrt(n) - z_(1-alpha/2) s0) / s1).

    Args:
        design, effect, n, alpha: As in `sample_size`.
    """
    _check(design, alpha, 0.8)
    distance, null, alternative = design.spread(abs(effect))
    excess = distance * math.sqrt(n) - critical_value(1 - alpha, math.inf) * null
    if alternative == 0:
        return float(excess > 0)
    return float(special.ndtr(excess / alternative))


def _needed(design: Design, effect: float, alpha: float, power: float) -> float:
    distance, null, alternative = design.spread(effect)
    spread = critical_value(1 - alpha, math.inf) * null + float(special.ndtri(power)) * alternative
    return max(spread, 0.0) ** 2 / distance**2


def _warnings(design: Design, n: int) -> tuple[str, ...]:
    found = design.components.warnings if isinstance(design, MeanTest) else ()
    if design.spread(1e-9)[2] == 0:
        found = (*found, "The values show no variation, so there is nothing to plan with.")
    if n < 30:
        found = (*found, f"The formula is a normal approximation; for {n} {design.unit} it is rough.")
    return found


def _check(design: Design, alpha: float, power: float) -> None:
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0.0 < value < 1.0:
            raise UserError(f"{name} is {value}; it must lie between 0 and 1.", code=2)
    if isinstance(design, WinRateTest | EloTest) and not 0.0 <= design.ties < 1.0:
        raise UserError(f"the share of ties is {design.ties}; it must be 0 or more and below 1.", code=2)
    if isinstance(design, ShareTest) and not 0.0 <= design.base < 1.0:
        raise UserError(f"the base share is {design.base}; it must be 0 or more and below 1.", code=2)
    if isinstance(design, MeanTest):
        parts = design.components
        values = (parts.var_a, parts.var_b, parts.sigma2_a or 0.0, parts.sigma2_b or 0.0)
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise UserError("a variance is negative or not finite; give variances of 0 or more.", code=2)
