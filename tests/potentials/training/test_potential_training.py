"""Parts of a potential's training: self energies, descent, ensembles, frozen parameters, added elements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from structures import ATOMS, METHANE, TRUTH, WATER, Linear, labelled, truth
from test_potential_passes import SMALL, model
from torch import nn

from fusion.datasets import Labelled
from fusion.errors import InputError
from fusion.potentials import PotentialMethod
from fusion.potentials.batch import batch_of
from fusion.potentials.training.composition import counts, fit, guess
from fusion.potentials.training.descent import Descent, trained
from fusion.potentials.training.fitting import Fitting
from fusion.potentials.training.loss import Weights
from fusion.potentials.training.passes import passes
from fusion.potentials.training.predictions import errors, predict
from fusion.potentials.training.references import referenced
from fusion.potentials.training.settings import Settings, Weight

SETTINGS: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
    OmegaConf.load(Path(__file__).parents[3] / "conf" / "training" / "potential.yaml")
)


def fitting(module: nn.Module, data: Labelled, members: int = 1, **changes: Any) -> Fitting:
    settings = Settings.read({**SETTINGS, "epochs": 10, "loss": {"energy": 1.0, "forces": 1.0}, **changes}, 48)
    parts = np.arange(len(data))
    held = parts[parts % 4 == 3]
    labels = referenced(module, data, parts[parts % 4 != 3], settings, None)
    return Fitting(module, passes(module, data, 1.0), labels, parts[parts % 4 != 3], held, members, settings, 0, {})


def train(module: Fitting) -> None:
    """Make all steps, without Lightning."""
    with torch.no_grad():
        while not module.finished:
            indices, epoch = module._drawn()
            module.losses.append(module._step(indices, epoch))
            if module.descent.done % module.per_epoch == 0:
                module.end_epoch()


# -- self energies ----------------------------------------------------------------------------------------------------
def test_self_energies_of_enough_compositions_are_exact() -> None:
    random = np.random.default_rng(0)
    compositions = random.integers(0, 6, size=(40, 3)).astype(float)
    values = np.array([-0.5, -38.0, -75.0])
    fitted = fit(compositions, compositions @ values, guess([1, 6, 8]))
    assert fitted == pytest.approx(values, abs=1e-10)


@pytest.mark.parametrize("molecules", [[(2, 6, 1)], [(4, 1, 0), (8, 2, 0), (12, 3, 0)]])
def test_directions_that_compositions_do_not_determine_keep_the_prior(molecules: Any) -> None:
    compositions, prior = np.repeat(np.array(molecules, dtype=float), 5, axis=0), np.array([-0.6, -38.1, -75.2])
    energies = compositions @ np.array([-0.5, -38.0, -75.0]) + np.tile([0.01, -0.01, 0.0, 0.02, -0.02], len(molecules))
    fitted = fit(compositions, energies, prior)
    assert (compositions @ fitted).mean() == pytest.approx(energies.mean(), abs=1e-9)
    along = compositions[0] / np.linalg.norm(compositions[0])
    change = fitted - prior
    assert change - along * (along @ change) == pytest.approx(np.zeros(3), abs=1e-10)  # nothing across


def test_an_element_that_does_not_occur_keeps_its_prior() -> None:
    data = labelled(6, molecules=(WATER,))
    compositions = counts(data.numbers, data.offsets, [1, 6, 8])
    assert compositions.tolist() == [[2.0, 0.0, 1.0]] * 6
    assert fit(compositions, np.full(6, -76.0), np.array([-0.5, -1.0, -75.0]))[1] == -1.0


def test_the_guess_is_within_a_few_per_cent_of_atomic_energies() -> None:
    exact = {1: -0.5, 6: -37.845, 7: -54.589, 8: -75.067, 10: -128.938}  # Chakravorty et al., 1993
    assert guess(list(exact)) == pytest.approx(list(exact.values()), rel=0.05)


def test_sources_of_a_mixture_have_their_own_self_energies() -> None:
    data = labelled(40)
    other = np.arange(40) >= 20
    data.source[other] = 1
    shift = {1: 0.1, 6: -2.0, 8: 3.0}
    for index in np.flatnonzero(other):
        data.energy[index] += sum(shift[z] for z in data.numbers[data.offsets[index] : data.offsets[index + 1]])
    labels = referenced(Linear(), data, np.arange(40), Settings.read(SETTINGS, 40), None)
    plain = labelled(40)
    same = (labels.energy - plain.energy)[other]
    # Labels are shifted to the zero of the first source, up to the difference of the mean conformations.
    assert np.ptp(same[::2]) < 1e-9 and np.ptp(same[1::2]) < 1e-9 and np.abs(same).max() < 0.05


# -- descent ----------------------------------------------------------------------------------------------------------
def test_a_linear_model_learns_linear_labels_exactly() -> None:
    data = labelled(48)
    rates = {"learning_rate": 0.05, "final_learning_rate": 1e-6, "clip": None}
    module = fitting(Linear(), data, epochs=400, batch=12, self_energies=ATOMS, **rates)
    train(module)
    predictions = predict(module.passes, module.labels, module.validation_set, 1, 16)
    measured = errors(predictions, module.labels, Weights(1.0, 1.0, 0.0))
    assert measured.energy_mae_kcal_mol < 1e-2 and measured.forces_mae_mev_angstrom < 0.1
    sums = module.model.weights + module.model.weights.T
    difference = (sums - (TRUTH + TRUTH.T)).detach()
    assert float(difference[[0, 0, 0], [0, 1, 2]].abs().max()) < 1e-4  # C and O never meet, nor two of them


@pytest.mark.slow
def test_ani_learns_the_labels_of_another_potential() -> None:
    data = labelled(60, molecules=(WATER,))
    ani = model().restricted(["H", "O"]).double()
    module = fitting(ani, data, 2, epochs=60, batch=15, learning_rate=5e-3, final_learning_rate=1e-5)
    before = predict(module.passes, module.labels, module.validation_set, 2, 16)
    train(module)
    after = predict(module.passes, module.labels, module.validation_set, 2, 16)
    weights = Weights(1.0, 1.0, 0.0)
    assert errors(after, module.labels, weights).loss < 0.1 * errors(before, module.labels, weights).loss
    assert module.descent.members == 2 and not np.allclose(after.energy[0], after.energy[1], atol=1e-7)


def test_members_do_not_learn_from_left_out_structures() -> None:
    data = labelled(24)
    module = fitting(model(), data, 2, leave_out=True)
    used = module._used(module.training_set)
    assert (used.sum(0) == 1).all() and used.sum(1).tolist() == [9, 9]
    alone = fitting(model(), data, 2)
    assert alone._used(alone.training_set).all()


def test_plateaus_lower_the_rate_and_end_the_training() -> None:
    linear = Linear()
    plateau = {"factor": 0.1, "patience": 2, "stop_below": 1e-4}
    descent = Descent(linear, Settings.read({**SETTINGS, "plateau": plateau, "final_learning_rate": None}, 8), 100, 1)
    rates = []
    for score in (5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0):
        descent.judge(score)
        rates.append(descent.rate)
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6])
    assert descent.over and descent.best_score == 3.0


def test_fine_tuning_has_a_smaller_default_learning_rate() -> None:
    rates = [Settings.read(SETTINGS, 800, tuned).learning_rate for tuned in (False, True)]
    assert 0 < rates[1] < rates[0]
    assert Settings.read({**SETTINGS, "learning_rate": 0.5}, 800, tuned=True).learning_rate == 0.5


def test_default_epochs_depend_on_the_number_of_structures() -> None:
    by_number = {number: Settings.read(SETTINGS, number) for number in (5, 800, 35_000, 10**7)}
    assert [one.batch for one in by_number.values()] == [8, 8, 64, 64]
    assert [one.epochs for one in by_number.values()] == [1000, 300, 54, 1]
    assert Settings.read({**SETTINGS, "batch": 16}, 800).epochs == 600


def test_gradients_of_members_are_clipped_separately() -> None:
    ani = model()
    descent = Descent(ani, Settings.read({**SETTINGS, "clip": 1.0, "average": 0.0}, 8), 100, 2)
    descent.clear()
    for parameter in descent.parameters:
        parameter.grad[0], parameter.grad[1] = 1e-6, 1e3  # type: ignore[index]
    descent.step()
    norms = [sum(float(p.grad[m].square().sum()) for p in descent.parameters) ** 0.5 for m in (0, 1)]  # type: ignore[index]
    assert norms[1] == pytest.approx(1.0, rel=1e-5) and norms[0] < 1e-3


def test_the_mean_parameters_follow_the_steps() -> None:
    linear = Linear()
    descent = Descent(linear, Settings.read({**SETTINGS, "average": 0.5}, 8), 100, 1)
    expected = linear.weights.detach().clone()
    for step in range(4):
        descent.clear()
        linear.weights.grad.fill_(1.0 + step)
        descent.step()
        decay = min(0.5, (2.0 + step) / (11.0 + step))
        expected = decay * expected + (1.0 - decay) * linear.weights.detach()
    last = linear.weights.detach().clone()
    with descent.averaged():
        assert torch.allclose(linear.weights, expected)
    assert torch.equal(linear.weights, last)


def test_parameters_can_be_frozen_or_have_a_smaller_rate() -> None:
    ani = model()
    settings = Settings.read({**SETTINGS, "frozen": ["networks.H.*"], "rates": {"*.weights.0": 0.1}}, 8)
    factors = trained(ani, settings)
    assert not any(name.startswith("networks.H") for name in factors)
    assert factors["networks.C.weights.0"] == 0.1 and factors["networks.C.weights.1"] == 1.0
    assert trained(ani, settings) == factors
    with pytest.raises(InputError, match=r"no parameter of the model is called 'networks\.Xe"):
        trained(ani, Settings.read({**SETTINGS, "frozen": ["networks.Xe*"]}, 8))


# -- elements ---------------------------------------------------------------------------------------------------------
def test_an_untrained_model_gets_the_elements_of_the_data() -> None:
    method = PotentialMethod("ani", {"_target_": "fusion_ani.network.ANI", **SMALL})
    model: Any = method.trainable(0, ("H", "O"))
    assert model.elements == ("H", "O") and model.members == 2 and set(model.networks) == {"H", "O"}
    with pytest.raises(InputError, match="the data also have Si"):
        method.trainable(0, ("H", "Si"))


def test_an_added_element_does_not_change_other_molecules() -> None:
    ani, data = model(), labelled(4)
    wider = ani.extended(["F"])
    batch = batch_of(data, np.arange(4), torch.float64)
    assert wider.elements == ("H", "C", "N", "O", "F")
    assert torch.allclose(wider(batch).members, ani(batch).members, atol=1e-13)
    with pytest.raises(InputError, match="cannot be added"):
        ani.extended(["C"])
    batch.numbers[batch.numbers == 8] = 9
    assert not torch.allclose(wider(batch).members[0], wider(batch).members[1])


def test_arguments_build_the_model_again() -> None:
    ani = model()
    again = type(ani)(**ani.arguments)
    again.load_state_dict(ani.state_dict())
    batch = batch_of(labelled(4), np.arange(4), torch.float64)
    assert torch.equal(again.double()(batch).energy, ani(batch).energy)


# -- settings ---------------------------------------------------------------------------------------------------------
def test_loss_weights_are_interpolated_over_the_training() -> None:
    weight = Weight.read("energy", [1.0, 0.0, 2.0])
    assert [weight.at(fraction) for fraction in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 0.5, 0.0, 1.0, 2.0]
    assert Weight.read("energy", 3).at(0.7) == 3.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"learning_rate": -1}, "learning_rate must be a positive"),
        ({"average": 1.0}, "average must lie between 0 and 1"),
        ({"loss": {"energy": 0.0, "forces": 0.0}}, "a weight must be more than 0"),
        ({"loss": {"charges": 1.0}}, "the loss takes energy, forces, stress, dipole"),
        ({"loss": {"energy": [0, -1.0]}}, "loss.energy must be a number of at least 0"),
        ({"loss": 3}, "loss is a group"),
        ({"exponential": 0}, "exponential must be a positive"),
        ({"leave_out": 2}, "leave_out must be true or false"),
        ({"speed": 2}, "has no setting 'speed'"),
    ],
)
def test_wrong_settings_are_refused(changes: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        Settings.read({**SETTINGS, **changes}, 8)
    assert "\n" not in str(error.value)


def test_labels_are_those_of_the_reference_model() -> None:
    """The labels are the energies and forces of the reference model."""
    data = labelled(3, molecules=(METHANE,))
    assert truth()(batch_of(data, np.arange(3), torch.float64)).energy.tolist() == pytest.approx(data.energy.tolist())
