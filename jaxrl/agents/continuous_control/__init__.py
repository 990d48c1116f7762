"""Actor-critics that learn from a replay, for bounded Boxes of actions."""
