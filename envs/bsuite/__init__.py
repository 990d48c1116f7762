"""The environments of DeepMind's Behaviour Suite.

Source: I. Osband et al., "Behaviour Suite for Reinforcement Learning" (ICLR 2020, arXiv 1908.03568), and the behaviour
of its package bsuite 0.3.6, whose random draws the tests replay.

Common to all: an episode ends by itself, also where the original counts steps or seconds. Those endings are
terminations, as the original's are (discount 0), and the observation shows the time; there is no time limit beside
them, though `max_steps` can set one. What a step from a terminal state does is undefined; the original starts anew.
Common deviations: vector observations are f32[n], without the original's leading axis of length 1. An experiment of
the suite is one of these environments with other parameters or static fields, as its file says, and with the wrappers
`NoisyReward` (standard deviations 0.1, 0.3, 1, 3, 10) and `ScaleReward` (0.001, 0.03, 1, 30, 1000) around it.
"""
