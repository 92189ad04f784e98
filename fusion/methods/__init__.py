"""Methods: their protocol, methods by name, sums of methods, and ASE calculators."""
