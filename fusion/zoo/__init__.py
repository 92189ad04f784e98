"""The zoo: published models by name, downloaded once, verified and kept in a cache."""
