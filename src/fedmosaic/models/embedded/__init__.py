"""The embedded models, one family and size per file; what they differ in is here, their weights are assets."""
