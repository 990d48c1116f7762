"""Probes: tiny MDPs whose values are known exactly, for testing agents. Built directly, not through the registry.

Each isolates one ability, so that the first probe which an agent fails says what is wrong with it. The idea is folklore
of the field (A. Jones, "Debugging RL", 2021); rejax tests its agents this way.

| probe | what an agent must get right | optimal values V* |
|---|---|---|
| `ConstantReward` | regress a value; stop at a termination | 1 |
| `RandomReward` | average over random rewards | 1 |
| `ObservedReward` | tell observations apart | −1, 1 |
| `DelayedReward` | discount | γ, 1 |
| `ActionReward` | prefer the better action | 1 (continuous actions: 0) |
| `ActionObservation` | … and let it depend on the observation | 1, 1 (continuous: 0, 0) |
| `DelayedActionReward` | … and assign credit to an earlier action | γ, 0, 1 (continuous: 0 at the start) |
| `Recall` | remember the first observation | γ, γ, 1 with memory; 0 on average without |
| `TimeLimit` | bootstrap where the time limit cuts, from the true successor | γ², γ, 1, each over 1 − γ² |

Every probe has two switches. `tabular`: observations are the index of the state (Discrete) instead of its one-hot
vector (Box f32, which a linear function can represent exactly). `continuous`: actions are f32[1] in −1 … 1 (Box)
instead of 0 and 1 (Discrete). `params.scale` multiplies every reward and therefore every value.

`Chosen` is any of them but `Recall` by a parameter, so that all are learned in one `vmap`.

Two have a cost beside the reward (`ALL` leaves them out):

| probe | what an agent must get right | known |
|---|---|---|
| `ActionCost` | keep a cost within its limit, and spend it where it pays most | best policy, return, multiplier |
| `CostTimeLimit` | bootstrap costs, too, where the time limit cuts | V of the cost: γ², γ, 1, each over 1 − γ² |

Two have other actions (`ALL` leaves them out, too):

| probe | what an agent must get right | optimal values V* |
|---|---|---|
| `ActionCombination` | choose several actions at once (MultiDiscrete) | 1, 1, 1 |
| `ForbiddenAction` | neither take nor hope for an action that the observation's mask forbids | −γ, −1 |

Where a probe terminates, the successor's observation is the last one again: an agent that bootstraps through a
termination is caught by a value that is too large.
"""

from envs.probes.actions import ACTIONS, ActionCombination, ForbiddenAction
from envs.probes.costs import COSTS, ActionCost, Constrained, CostTimeLimit
from envs.probes.rewards import (
    ALL,
    ActionObservation,
    ActionReward,
    Chosen,
    ChosenParams,
    ConstantReward,
    DelayedActionReward,
    DelayedReward,
    ObservedReward,
    Params,
    Probe,
    RandomReward,
    Recall,
    State,
    TimeLimit,
    Treatment,
)

__all__ = [
    "ACTIONS",
    "ALL",
    "COSTS",
    "ActionCombination",
    "ActionCost",
    "ActionObservation",
    "ActionReward",
    "Chosen",
    "ChosenParams",
    "ConstantReward",
    "Constrained",
    "CostTimeLimit",
    "DelayedActionReward",
    "DelayedReward",
    "ForbiddenAction",
    "ObservedReward",
    "Params",
    "Probe",
    "RandomReward",
    "Recall",
    "State",
    "TimeLimit",
    "Treatment",
]
