"""Benchmarks: figures for docs/performance.md, repeatable by `make bench`."""
