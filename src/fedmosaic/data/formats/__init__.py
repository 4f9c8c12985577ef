"""Formats of records, one a file: each turns a record that it recognises into turns and images."""
