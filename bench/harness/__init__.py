"""The benchmark harness behind bench/run. Python's standard library only."""
