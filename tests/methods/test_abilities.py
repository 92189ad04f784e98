"""Optional abilities of methods: those of a sum follow from its terms, and a method without one has its default."""

from fusion.methods import abilities
from fusion.methods.sums import SumMethod

HF = {"method": "hf", "basis": "sto-3g"}


def test_a_sum_reports_and_remembers_if_a_term_does(with_toy: None) -> None:
    with_scf, without = SumMethod("sum", [HF, "toy"]), SumMethod("sum", ["toy", "toy"])
    assert abilities.reporting(with_scf) is with_scf and abilities.remembering(with_scf) is with_scf
    assert abilities.reporting(without) is None and abilities.remembering(without) is None


def test_abilities_that_a_method_lacks_have_their_defaults(with_toy: None) -> None:
    (toy,) = SumMethod("sum", ["toy"]).terms
    abilities.check(toy.method, [])
    assert abilities.weights(toy.method) is abilities.licence(toy.method) is abilities.spread_factor(toy.method) is None
    assert abilities.costly(toy.method) == frozenset()
