"""Ball games on an 84 × 84 screen, as an agent sees the Atari 2600 after the usual preprocessing."""
