"""Files: atomic writes, and limits on untrusted files."""
