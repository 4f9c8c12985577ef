"""Samples, images, tasks, benchmarks and streams."""
