"""The datasets that scenarios can name, a file each."""
