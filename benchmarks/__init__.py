"""Measures ibkr_oauth against other people's code: `make bench`, or `pytest benchmarks --smoke` to see only that it runs."""
