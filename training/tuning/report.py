"""Report of a search, for people and programs.

`trials.json` and `trials.csv` contain every trial; `report.html` is self-contained.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from training.config import Config
from training.reports.page import render_figures, render_page, render_trials
from training.reports.pictures import Picture, draw_importance, draw_scatters, draw_trials
from training.support.files import atomic_folder
from training.tuning.study import Search

TRIALS: Final = "trials.json"
_MIN_TRIALS_FOR_IMPORTANCE: Final = 4
"""Minimum number of complete trials for the importance of fields."""


def write_tune_report(
    folder: Path, config: Config, search: Search, trials: Sequence[FrozenTrial], best: FrozenTrial
) -> None:
    """Write the report of a search, replacing an earlier one.

    Args:
        folder: Output folder.
        config: The recipe.
        search: How settings were chosen.
        trials: The trials that are complete or were stopped early, by number.
        best: The best of them.
    """
    importance = _importance(search, trials)
    rows = [_row(search, trial) for trial in trials]
    summary = {
        "recipe": config.name,
        "space": search.space.name,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "seed": search.seed,
        "best": _row(search, best),
        "importance": importance,
        "trials": rows,
    }
    pictures = _draw(search, trials, importance)
    with atomic_folder(folder, replaces=TRIALS) as partial:
        for name, picture in pictures.items():
            (partial / f"{name}.png").write_bytes(picture.png)
        text = json.dumps(summary, indent=1, ensure_ascii=False)
        (partial / TRIALS).write_text(f"{text}\n", encoding="utf-8")
        _write_csv(partial / "trials.csv", rows)
        page = _compose(config, search, rows, _row(search, best), pictures)
        (partial / "report.html").write_text(page, encoding="utf-8")


def _row(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """A trial as `trials.json` has it; `figure` is its validation accuracy."""
    duration = trial.duration
    return {
        "trial": trial.number,
        "state": "ended early" if trial.state == TrialState.PRUNED else "complete",
        "figure": trial.value,
        "figures": list(trial.intermediate_values.values()),
        "seconds": None if duration is None else round(duration.total_seconds(), 1),
        "repeats": trial.user_attrs.get("repeats"),
        "setting": search.space.setting(trial.params),
    }


def _complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def _importance(search: Search, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Importance of each field for the accuracy, largest first; they sum to 1.

    Empty if there are too few complete trials, or all have the same accuracy.

    Source:
        Functional ANOVA over a random forest: Hutter, Hoos and Leyton-Brown (2014).
    """
    complete = _complete(trials)
    if len(complete) < _MIN_TRIALS_FOR_IMPORTANCE or len({trial.value for trial in complete}) == 1:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(complete)
    shares = optuna.importance.get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=search.seed)
    )
    return {name: round(share, 6) for name, share in shares.items()}


def _draw(
    search: Search, trials: Sequence[FrozenTrial], importance: dict[str, float]
) -> dict[str, Picture]:
    complete = _complete(trials)
    settings = [search.space.setting(trial.params) for trial in complete]
    logarithmic = [
        field
        for field, distribution in search.space.fields.items()
        if isinstance(distribution, IntDistribution | FloatDistribution) and distribution.log
    ]
    stopped = [trial.state == TrialState.PRUNED for trial in trials]
    numbers, accuracies = [trial.number for trial in trials], [trial.value for trial in trials]
    pictures = {"history": draw_trials(numbers, accuracies, stopped)}
    if importance:
        pictures["importance"] = draw_importance(importance)
    pictures["slices"] = draw_scatters(
        {field: [setting[field] for setting in settings] for field in search.space.fields},
        [trial.values[0] for trial in complete],
        logarithmic,
    )
    return pictures


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    flat = [
        {key: value for key, value in row.items() if key not in ("figures", "setting")}
        | {"epochs": len(row["figures"])}
        | row["setting"]
        for row in rows
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def _compose(
    config: Config,
    search: Search,
    rows: Sequence[dict[str, Any]],
    best: dict[str, Any],
    pictures: dict[str, Picture],
) -> str:
    early = sum(row["state"] == "ended early" for row in rows)
    ranked = sorted(rows, key=lambda row: (row["state"], -(row["figure"] or 0.0), row["trial"]))
    return render_page(
        title=f"{config.name}: {search.space.name}",
        summary=f"{len(rows)} settings of the recipe {config.name}, chosen by the sampler "
        f"{search.sampler}. Each is scored by the validation accuracy of the model that training "
        "would keep. Test texts were not read.",
        figures={
            "Best validation accuracy": f"{best['figure']:.2%}",
            "Trials": f"{len(rows):,}",
            "Ended early": f"{early:,}",
            **{field: str(value) for field, value in best["setting"].items()},
        },
        sections={
            **{name.capitalize(): render_figures(picture) for name, picture in pictures.items()},
            "Trials, best first": render_trials(
                [
                    (f"{row['trial']}, {row['state']}", row["setting"], row["figure"])
                    for row in ranked
                ]
            ),
        },
    )
