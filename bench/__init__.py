"""Benchmarks: figures for docs/performance.md, reproducible with `make bench`."""
