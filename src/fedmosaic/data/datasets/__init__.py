"""The datasets that scenarios can name, a file each: how the options of a scenario open one."""
