"""Bayesian optimization: an Optuna sampler on scikit-learn's Gaussian process.

Optuna's own `GPSampler` needs PyTorch, which is larger than all other training packages together.

Source:
    Jones, Schonlau and Welch, "Efficient Global Optimization" (1998): expected improvement.
    Snoek, Larochelle and Adams, "Practical Bayesian Optimization of Machine Learning Algorithms"
    (2012): kernel, running trials, and one length scale per field.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

Points = NDArray[np.float64]
_RANDOM_TRIALS: Final = 8
"""Number of first trials that are drawn at random."""
_CANDIDATES: Final = 1_000
"""Number of candidates per draw."""
_NEARBY: Final = 0.2
"""Share of the candidates that differ from the best setting so far in one field only."""


class GaussianProcessSampler(BaseSampler):
    """Chooses the setting with the largest expected improvement among random candidates.

    A pruned trial counts with its last accuracy. A running trial counts with its predicted
    accuracy, so that parallel trials do not try similar settings.

    Args:
        fields: Distribution of each field; the same in every trial.
        seed: Seed of the candidates and of the fit.
    """

    def __init__(self, fields: Mapping[str, BaseDistribution], *, seed: int) -> None:
        self._fields, self._seed = dict(fields), seed
        self._random = RandomSampler(seed)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All fields: they are drawn together."""
        return self._fields

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next setting; empty for one at random, while there are few trials to learn from."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        others = [
            other
            for other in study.get_trials(deepcopy=False, states=states)
            if other.number != trial.number and other.params.keys() == self._fields.keys()
        ]
        finished = [other for other in others if other.value is not None]
        if len(finished) < _RANDOM_TRIALS:
            return {}
        accuracies = np.array([other.value for other in finished])  # (trials,)
        best = finished[int(accuracies.argmax())].params
        tried = {_key(other.params) for other in others}
        candidates = [c for c in self._draw_candidates(best) if _key(c) not in tried]
        if not candidates:
            return {}  # a finite space, and all of it has been tried

        points = self._encode([other.params for other in finished])
        running = [other.params for other in others if other.state == TrialState.RUNNING]
        improvement = self._expect(points, accuracies, running, candidates)
        return candidates[int(improvement.argmax())]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """A random value."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _expect(
        self,
        points: Points,
        accuracies: Points,
        running: Sequence[Mapping[str, Any]],
        candidates: Sequence[Mapping[str, Any]],
    ) -> Points:
        """Expected improvement of each candidate, (candidates,).

        Args:
            points: Finished trials, (trials, columns).
            accuracies: Their accuracies, (trials,).
            running: Settings of running trials.
            candidates: Settings to choose from.
        """
        process = self._fit(points, accuracies)
        if running:
            more = self._encode(running)
            accuracies = np.concatenate([accuracies, process.predict(more)])
            process = self._fit(np.concatenate([points, more]), accuracies)
        mean, deviation = process.predict(self._encode(candidates), return_std=True)
        return _expected_improvement(mean, deviation, accuracies.max())

    def _draw_candidates(self, best: Mapping[str, Any]) -> list[dict[str, Any]]:
        generator = np.random.default_rng(self._seed)
        columns = {field: _draw(of, generator) for field, of in self._fields.items()}
        candidates = [{f: drawn[k] for f, drawn in columns.items()} for k in range(_CANDIDATES)]
        for k in range(int(_NEARBY * _CANDIDATES)):
            changed = list(self._fields)[k % len(self._fields)]
            candidates[k] = {**best, changed: candidates[k][changed]}
        return candidates

    def _encode(self, settings: Sequence[Mapping[str, Any]]) -> Points:
        """Settings as points, (settings, columns).

        A number is scaled to [0, 1], logarithmically if its distribution is. A choice is one-hot.
        """
        columns: list[list[float]] = []
        for field, of in self._fields.items():
            values = [setting[field] for setting in settings]
            if isinstance(of, IntDistribution | FloatDistribution):
                low, high = _scaled(of.low, of), _scaled(of.high, of)
                columns.append([(_scaled(v, of) - low) / (high - low) for v in values])
            elif isinstance(of, CategoricalDistribution):
                columns += [[float(v == choice) for v in values] for choice in of.choices]
        return np.array(columns).T

    def _fit(self, points: Points, accuracies: Points) -> GaussianProcessRegressor:
        kernel = ConstantKernel() * Matern(
            length_scale=np.ones(points.shape[1]), length_scale_bounds=(0.05, 20.0), nu=2.5
        ) + WhiteKernel(1e-2, noise_level_bounds=(1e-6, 1.0))
        process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=self._seed)
        with warnings.catch_warnings():
            # The length scale of an unimportant field ends at its bound, which is fine.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return process.fit(points, accuracies)


def _draw(of: BaseDistribution, generator: np.random.Generator) -> list[Any]:
    """`_CANDIDATES` random values of a field."""
    if isinstance(of, CategoricalDistribution):
        return [of.choices[k] for k in generator.integers(len(of.choices), size=_CANDIDATES)]
    assert isinstance(of, IntDistribution | FloatDistribution)  # noqa: S101 - there are three kinds
    if of.step is not None and not of.log:
        steps = generator.integers(round((of.high - of.low) / of.step) + 1, size=_CANDIDATES)
        drawn = of.low + steps * of.step
    else:
        drawn = generator.uniform(_scaled(of.low, of), _scaled(of.high, of), _CANDIDATES)
        drawn = np.exp(drawn) if of.log else drawn
    if isinstance(of, IntDistribution):
        return [int(value) for value in np.clip(np.rint(drawn), of.low, of.high)]
    return [float(value) for value in np.clip(drawn, of.low, of.high)]


def _scaled(value: float, of: IntDistribution | FloatDistribution) -> float:
    return math.log(value) if of.log else value


def _expected_improvement(mean: Points, deviation: Points, best: float) -> Points:
    """Expected improvement of each candidate over `best`, (candidates,)."""
    deviation = np.maximum(deviation, 1e-12)
    z = (mean - best) / deviation
    improvement: Points = deviation * (z * norm.cdf(z) + norm.pdf(z))
    return improvement


def _key(setting: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted(setting.items()))
