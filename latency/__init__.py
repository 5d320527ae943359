"""Latency: runners, timing, the table of operator times, and the prediction of a network's time from it."""
