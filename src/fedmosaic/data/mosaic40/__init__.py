"""mosaic40: 40 tasks for ten clients, drawn from the images of installed packages, without a network."""
