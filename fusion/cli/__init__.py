"""The command line: words typed and lines printed."""
