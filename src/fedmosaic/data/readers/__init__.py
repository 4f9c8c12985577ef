"""Readers of files and folders, one a file: each yields the records of what it recognises by its content."""
