"""Methods: their protocol, how they are named, combined and used as ASE calculators."""
