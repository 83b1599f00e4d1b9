"""Benchmarks against other ways to build it, load tests with many users, and perf_analyzer."""
