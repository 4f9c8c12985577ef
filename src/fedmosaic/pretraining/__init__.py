"""Training the embedded models; needs the benchmark's public part. Nothing at run time imports it."""
