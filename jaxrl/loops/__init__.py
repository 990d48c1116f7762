"""How experience is gathered and handed to a learner: the only places with such a loop.

`on_policy` learns from each rollout at once, `off_policy` from what a replay holds, `offline` from a dataset that all
runs share.
"""
