"""Several runs, or more than a run: sweeps, comparisons, adaptation, scores of other answers."""
