"""The twenty checks: what was declared about a system beside what is declared elsewhere, or seen in production."""
