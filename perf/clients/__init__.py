"""The clients of a comparison, one file each: how each is started, when it is done, and where it keeps its content."""
