"""Fuzzing: every reader of what comes from outside, fed with damaged input. `python -m tests.fuzz` runs it for long."""
