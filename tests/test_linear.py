"""The batched deep linear network against the ordinary one: models, normalizers and probes on all samples, float64."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from bnutils import data, linear, models, norms, probes, seeds

SEEDS, LR = (0, 3), 1e-6
NORMALIZED = [norm for norm in linear.NORMS if norm != "none"]


def setting(last: str = "affine", **changes) -> linear.Linear:
    small = {"samples": 60, "steps": 4, "probe_every": 2, "seeds": SEEDS, "variance_A": 1.0, "layers": (1, 9, 17)}
    return linear.Linear(net=models.DeepLinear(last=last), **small | changes)


def trained(networks: linear.Networks, *, steps: int = 3) -> linear.Parameters:
    """Parameters a few steps away from where they start, gammas and betas too."""
    parameters = networks.parameters
    for _ in range(steps):
        parameters = linear.moved(parameters, networks.gradient(parameters)[1], LR)
    return parameters


def alone(chosen: linear.Linear, norm: str, parameters: linear.Parameters, place: int) -> models.Network:
    """The ordinary network of one of the seeds, with these parameters."""
    make_norm = partial(norms.make, norm)
    network = chosen.net.build(make_norm, generator=seeds.generator(chosen.seeds[place], "weights"))
    with torch.no_grad():
        for number, layer in enumerate(network):
            layer.linear.weight.copy_(parameters.W[number, place])
            for own, part in zip(layer.norm.parameters(), parameters[1:], strict=False):
                own.copy_(part[number, place])
    return network


def task(chosen: linear.Linear, place: int) -> data.Regression:
    variances = (chosen.variance_x, chosen.variance_A)
    return data.gaussian(chosen.seeds[place], samples=chosen.samples, variances=variances)


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().sum()


CASES = [("none", "affine"), ("none", "norm"), *[(norm, last) for norm in NORMALIZED for last in ("nothing", "affine")]]


@pytest.mark.parametrize(("norm", "last"), CASES)
def test_probes_are_the_ordinary_ones(norm, last):
    """Loss, distances, betas, cosines and covariate shift of each seed: `probes` on its own network, all samples."""
    chosen, etas = setting(last), (1e-8, 1e-6, 3e-5)
    networks = linear.Networks(chosen, norm, SEEDS)
    parameters = trained(networks)
    loss, g = networks.gradient(parameters)
    ours = linear.along(networks, parameters, g, etas=etas)
    shift = linear.covariate_shift(networks, parameters, g, lr=LR, layers=chosen.layers)
    for place in range(len(SEEDS)):
        model, images = alone(chosen, norm, parameters, place), task(chosen, place)
        theirs = probes.along(model, squared, images.x, images.y, etas=etas)
        torch.testing.assert_close(loss[place], theirs.loss, rtol=1e-11, atol=0)
        for name in ("gradient_norm", "losses", "distances", "betas", "cosines"):
            torch.testing.assert_close(getattr(ours, name)[place], getattr(theirs, name), rtol=1e-8, atol=1e-12)
        moved = probes.covariate_shift(model, squared, images.x, images.y, lr=LR, layers=chosen.layers)
        for column, layer in enumerate(chosen.layers):
            for mine, other in zip(shift, moved[layer], strict=True):
                torch.testing.assert_close(mine[place, column], other, rtol=1e-7, atol=1e-9)
        assert shift.l2[place, 0] == 0, "nothing stands before the first layer"


@pytest.mark.parametrize("norm", linear.BY_MOMENTS)
def test_few_samples_stand_for_all(norm):
    """Loss and gradients by mean and covariance alone are those of the thousand samples."""
    chosen = setting(samples=1000)
    networks = linear.Networks(chosen, norm, SEEDS)
    all_of_them = linear.Networks(chosen, norm, SEEDS, by_moments=False)
    assert networks.task.x.shape[2] == 11 and all_of_them.task.x.shape[2] == 1000
    parameters = trained(networks)
    loss, g = networks.gradient(parameters)
    loss_all, g_all = all_of_them.gradient(parameters)
    torch.testing.assert_close(loss, loss_all, rtol=1e-13, atol=0)
    for mine, other in zip(g[: 1 if norm == "none" else 3], g_all, strict=False):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12 * max(1.0, other.abs().max().item()))


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_normalizers_that_see_samples_keep_them(norm):
    assert linear.Networks(setting(), norm, SEEDS).task.x.shape[2] == 60


def test_condensed_samples_have_the_same_mean_and_covariance():
    x = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    few = linear.condense(x)
    assert few.shape == (5, 4)
    torch.testing.assert_close(few.mean(0), x.mean(0))
    torch.testing.assert_close(torch.cov(few.mT, correction=0), torch.cov(x.mT, correction=0))


def test_a_last_layer_without_gamma_and_beta_keeps_them_still():
    networks = linear.Networks(setting("norm"), "batch", SEEDS)
    parameters = trained(networks)
    assert (parameters.gamma[-1] == 1).all() and (parameters.beta[-1] == 0).all()
    assert (parameters.gamma[-2] != 1).any()
    free = linear.Networks(setting("affine"), "batch", SEEDS)
    torch.testing.assert_close(networks.losses(parameters), free.losses(parameters))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_training_is_gradient_descent_by_hand(norm):
    chosen = setting()
    frame = linear.train(chosen, norm, LR, SEEDS)
    for place, seed in enumerate(SEEDS):
        images = task(chosen, place)
        model = chosen.net.build(partial(norms.make, norm), generator=seeds.generator(seed, "weights")).train()
        losses = []
        for _ in range(chosen.steps + 1):
            loss = squared(model(images.x), images.y)
            losses.append(loss.item())
            for parameter, g in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.data -= LR * g
        rows = frame[(frame.seed == seed) & (frame.quantity == "squared_error")]
        assert rows.step.tolist() == [0, 2, 4]
        np.testing.assert_allclose(rows.value, losses[::2], rtol=1e-9)


def test_rows_are_those_of_the_probes():
    chosen = setting(steps=2)
    frame = linear.train(chosen, "batch", LR, SEEDS)
    networks = linear.Networks(chosen, "batch", SEEDS)
    parameters = trained(networks, steps=2)
    _, g = networks.gradient(parameters)
    look = linear.along(networks, parameters, g, etas=[eta * LR for eta in chosen.etas])
    shift = linear.covariate_shift(networks, parameters, g, lr=LR, layers=chosen.layers)
    last = frame[(frame.step == 2) & (frame.seed == SEEDS[1])].set_index("quantity")
    for name, values in {"beta": look.betas, "loss_along": look.losses, "gradient_distance": look.distances}.items():
        np.testing.assert_allclose(last.value[name], values[1], rtol=1e-9)
        np.testing.assert_allclose(last.eta[name], [eta * LR for eta in chosen.etas])
    np.testing.assert_allclose(last.value["shift_cosine"], shift.cosine[1], rtol=1e-9)
    assert last.layer["shift_cosine"].tolist() == list(chosen.layers)


def test_a_seed_that_diverges_is_recorded_and_ends():
    frame = linear.train(setting(steps=40), "none", 1.0, SEEDS)
    ends = frame[frame.quantity == "diverged"]
    assert sorted(ends.seed) == list(SEEDS) and (ends.value == ends.step).all()
    for _, end in ends.iterrows():
        rest = frame[(frame.seed == end.seed) & (frame.quantity == "squared_error")]
        assert rest.step.max() < end.step and np.isfinite(rest.value).all()


def test_the_default_is_one_of_the_choices():
    chosen = linear.Linear()
    assert chosen in linear.choices(chosen)
    found = {choice.words for choice in linear.choices(chosen)}
    assert len(found) == len(linear.choices(chosen)), "each choice has words of its own"


def test_fit_holds_the_first_steps_of_every_choice():
    chosen = setting(steps=200, probe_every=50)
    frame = linear.fit(chosen)
    assert set(frame.arm) == {choice.words for choice in linear.choices(chosen)}
    assert set(frame.step) == {0, 50, 100} and set(frame.lr) == {1e-6, 1e-7}
    choice = linear.choices(chosen)[0]
    again = linear.train(replace(choice, steps=100), "batch", 1e-6, SEEDS, probing=False)
    rows = frame[(frame.arm == choice.words) & (frame.norm == "batch") & (frame.lr == 1e-6)]
    np.testing.assert_allclose(rows.value, again.value, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: linear.Linear(samples=10), "linear samples is 10: accepted is a whole number of at least 11"),
        (lambda: linear.Linear(steps=0), "linear steps is 0: accepted is a whole number of at least 1"),
        (lambda: linear.Linear(variance_x=-1.0), "linear variance_x is -1.0: accepted is a number above 0"),
        (lambda: linear.Linear(seeds=(1,)), r"linear seeds \(1,\): accepted are two or more different ones"),
        (lambda: models.DeepLinear(last="bn"), "last layer 'bn' .*: accepted are nothing, norm, affine"),
        (lambda: linear.Networks(setting(), "noisy", SEEDS), "norm 'noisy' .*: accepted are none, batch, l2, l1, linf"),
    ],
)
def test_what_is_not_accepted_is_said_in_one_line(make, words):
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert len(str(error.value).splitlines()) == 1
