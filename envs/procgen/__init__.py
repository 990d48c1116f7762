"""Games whose levels are drawn from numbered seeds, to measure generalisation to levels never trained on."""
