"""Making the embedded models: needs the benchmark's public part; nothing at run time imports it."""
