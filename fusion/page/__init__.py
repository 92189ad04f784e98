"""Report page: one self-contained HTML file on one or several runs, which needs no network."""
