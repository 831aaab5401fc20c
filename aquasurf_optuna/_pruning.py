"""Why a trial was pruned: Optuna keeps no reason, so it stands in the trial's attributes."""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

INVALID_KEY = "aquasurf:fisher_invalid"
"""User attribute of a trial whose Fisher eigenvalues are invalid: the reason, a string."""
PREDICTION_KEY = "aquasurf:prediction"
"""User attribute of a trial whose value was predicted: `predicted` and `worse_than`."""
PRUNED_KEY = "aquasurf:pruned"
"""User attribute of a trial that was pruned for another reason: the reason, a string."""


def reason_of(trial: FrozenTrial) -> str:
    """Say why a trial has no value; empty for one that has.

    Args:
        trial: A finished trial.
    """
    if trial.state == TrialState.COMPLETE:
        return ""
    if trial.state == TrialState.FAIL:
        return "the objective raised an error"
    known = trial.user_attrs
    if INVALID_KEY in known:
        return f"invalid Fisher eigenvalues: {known[INVALID_KEY]}"
    if PRUNED_KEY in known:
        return str(known[PRUNED_KEY])
    record = known.get(PREDICTION_KEY) or {}
    if record.get("predicted") is not None:
        return f"predicted {record['predicted']:.4g}, worse than {record['worse_than']:.4g}"
    if trial.intermediate_values:
        return f"stopped by the pruner at step {max(trial.intermediate_values)}"
    return "no reason was kept"
