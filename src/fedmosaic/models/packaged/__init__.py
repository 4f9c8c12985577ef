"""Base models whose weights come inside pip packages, one family per file."""
