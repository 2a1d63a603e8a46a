"""The wrong measurements are wrong in the way they say, against brute force, and harm nothing."""

import copy
from dataclasses import replace

import pytest
import torch
from test_landscape_probes import ETAS, batch, by_hand, flat, linear, loss_of, moved
from test_probes import images, network, same, state
from test_train import digits, run, setting, values
from torch import nn

from bnutils import data, folklore, instruments, norms, presets, probes, records, train

LOSS = nn.functional.cross_entropy
LABELS = torch.arange(8)


class Quadratic(nn.Module):
    """L(w; x) = w'Hw / 2 - x'w: the gradient is Hw - x, so two batches differ by their x whatever the point."""

    def __init__(self):
        super().__init__()
        self.w, self.hessian = nn.Parameter(torch.tensor([1.0, -2.0])), torch.diag(torch.tensor([1.0, 5.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w @ self.hessian @ self.w / 2 - x @ self.w


def test_two_batches_differ_by_what_no_learning_rate_makes_smaller():
    model, one, other = Quadratic(), torch.tensor([0.0, 0.0]), torch.tensor([3.0, 4.0])
    g, lrs = torch.tensor([1.0, -10.0]), (0.1, 1e-3, 1e-6)
    found = folklore.between_batches(model, lambda out, _: out, (one, one), (other, other), lrs=lrs)
    torch.testing.assert_close(found, torch.stack([(lr * model.hessian @ g + other).norm() for lr in lrs]))
    assert found[-1].item() == pytest.approx(5.0, rel=1e-4)
    right = probes.along(model, lambda out, _: out, one, one, etas=lrs).distances
    assert right[-1] < 1e-3


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
def test_one_batch_twice_is_the_right_distance(norm):
    found = folklore.between_batches(linear(norm), loss_of, batch(), batch(), lrs=ETAS)
    torch.testing.assert_close(found, probes.along(linear(norm), loss_of, *batch(), etas=ETAS).distances)


def test_after_the_update_by_hand():
    model, lr = linear("batch"), 0.05
    g = by_hand(model)[1]
    updated = moved(model, g, lr)
    expected = [(flat(by_hand(moved(updated, g, eta))[1]) - flat(g)).norm() for eta in ETAS]
    found = folklore.after_update(model, loss_of, *batch(), lr=lr, etas=ETAS)
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_last_layer_is_autograds(norm):
    model = linear(norm)
    g = by_hand(model)[1]
    expected = (by_hand(moved(model, g, 0.1))[1][-1] - g[-1]).norm()  # the last layer has one weight and no normalizer
    torch.testing.assert_close(folklore.last_layer(model, loss_of, *batch(), eta=0.1), expected)


def test_eval_mode_is_autograds_in_eval_mode_and_another_function():
    model, x = network("batch").double(), images().double()
    own = copy.deepcopy(model).eval()
    g = torch.autograd.grad(LOSS(own(x), LABELS), list(own.parameters()))
    there = moved(own, g, 0.1)
    expected = (flat(torch.autograd.grad(LOSS(there(x), LABELS), list(there.parameters()))) - flat(g)).norm()
    found = folklore.eval_mode(model, LOSS, x, LABELS, eta=0.1)
    torch.testing.assert_close(found, expected)
    assert not torch.isclose(found, probes.along(model, LOSS, x, LABELS, etas=[0.1]).distances[0], rtol=0.1)


def test_without_a_normalizer_eval_mode_and_the_other_place_are_right():
    model, x = network("none"), images()
    right = probes.along(model, LOSS, x, LABELS, etas=[0.1]).distances[0]
    torch.testing.assert_close(folklore.eval_mode(model, LOSS, x, LABELS, eta=0.1), right)
    for number, seen in probes.activations(model, x, layers=[1, 8]).items():
        torch.testing.assert_close(folklore.linear_outputs(model, x, layers=[1, 8])[number], seen)


def test_an_unprotected_probe_moves_the_statistics_of_its_copy_alone():
    """By hand: one train-mode pass at the point itself and one at each step length."""
    model, x = network("batch"), images()
    before = copy.deepcopy(model.state_dict())
    probed = folklore.unprotected(model, LOSS, x, LABELS, etas=[0.1, 0.4])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    moved_buffers = dict(probed.named_buffers())
    mean = probes.moments(folklore.linear_outputs(model, x, layers=[1])[1])[0]
    assert moved_buffers["0.norm.0.num_batches_tracked"] == 3
    own = copy.deepcopy(model).train()
    step = torch.autograd.grad(LOSS(own(x), LABELS), list(own.parameters()))
    expected = 0.1 * mean
    for eta in (0.1, 0.4):
        there = probes.moments(folklore.linear_outputs(moved(model, step, eta), x, layers=[1])[1])[0]
        expected = 0.9 * expected + 0.1 * there
    torch.testing.assert_close(moved_buffers["0.norm.0.running_mean"], expected)
    for a, b in zip(model.parameters(), probed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 4)])
def test_shared_noise_is_one_draw_of_algorithm_1_for_all_samples(shape):
    a = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    real, shared = (kind(norms.NoiseConstants(), seed=0, layer=1) for kind in (norms.Noise, folklore.SharedNoise))
    for own, all_alike in zip(real.draw(a), shared.draw(a), strict=True):
        units = all_alike.movedim(1, -1).reshape(-1, 3)
        assert units.shape[0] > 1 and (units == own.movedim(1, -1).reshape(-1, 3)[0]).all()
    assert not torch.equal(real(a), shared(a))


def test_shared_noise_leaves_the_content_of_a_batch():
    model, x = network("batch"), images()
    real, shared = (folklore.disturbance(model, x, noise=kind, seed=0) for kind in (norms.Noise, folklore.SharedNoise))
    assert shared.content < 1e-5 < 0.05 < real.content
    assert real.following > 0 and shared.following > 0


def test_adams_first_step_is_torchs():
    model, lr = linear("batch"), 0.01
    g = by_hand(model)[1]
    stepped = copy.deepcopy(model)
    optimizer = torch.optim.Adam(stepped.parameters(), lr=lr)
    for parameter, gradient in zip(stepped.parameters(), g, strict=True):
        parameter.grad = gradient
    optimizer.step()
    length = (flat(list(stepped.parameters())) - flat(list(model.parameters()))).norm()
    torch.testing.assert_close(
        folklore.adam_length(model, loss_of, *batch()), (length / (lr * flat(g).norm())).detach()
    )


def probe(drawn: data.Images) -> instruments.MistakeProbe:
    return instruments.MistakeProbe(
        records.Run(replace(setting(depth="A"), batch=8), presets.Arm("batch", 0.1), 0, ""), drawn
    )


@pytest.mark.parametrize("norm", ["none", "batch", "noisy"])
@pytest.mark.parametrize("training", [True, False])
def test_the_probe_leaves_the_model_as_it_was(norm, training):
    """Parameters, buffers, gradients, mode, the noise's steps, torch's own stream."""
    drawn = data.load("digits")
    model = network(norm).train(training)
    model[2].eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state(model)
    list(probe(drawn)(model, drawn.train_x[:8], drawn.train_y[:8]))
    assert same(before, state(model))
    assert all(parameter.grad.eq(1).all() for parameter in model.parameters())


def test_the_probe_changes_no_run():
    arm = presets.Arm("noisy", 0.1, 1.0)
    plain, columns = run(arm)
    probed, again = run(arm, probes=[(3, probe(digits()))])
    assert values(columns, "loss") == values(again, "loss")
    for a, b in zip(plain.state_dict().values(), probed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_probe_says_the_same_twice_and_its_rows_are_those_of_the_functions():
    drawn = data.load("digits")
    model, x, y = records.build(setting(), presets.Arm("batch", 0.1), 0, drawn), drawn.train_x[:8], drawn.train_y[:8]
    rows = [each._replace(step=0) for each in probe(drawn)(model, x, y)]
    again = [each._replace(step=0) for each in probe(drawn)(model, x, y)]
    assert train.collect(rows)["value"] == train.collect(again)["value"]
    by_name = {each.quantity: each for each in rows}
    right = by_name["right_distances"]
    at_lr = right.value[torch.isclose(right.eta, torch.tensor(0.1, dtype=torch.float64))]
    torch.testing.assert_close(at_lr, probes.along(model, LOSS, x, y, etas=[0.1]).distances)
    torch.testing.assert_close(by_name["wrong_eval_mode"].value, folklore.eval_mode(model, LOSS, x, y, eta=0.1))
    assert by_name["wrong_batches"].value[0] > 10 * right.value[0]
