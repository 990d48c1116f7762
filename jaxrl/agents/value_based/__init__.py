"""Action values by networks, and what is chosen from them among Discrete actions."""
