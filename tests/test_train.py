"""The loop against plain SGD by hand; what it yields; how it ends when the loss is no longer finite."""

import os
import pty
from dataclasses import replace

import pytest
import torch
from torch import nn

from bnutils import data, instruments, presets, records, train


def setting(**changes) -> presets.Setting:
    return presets.get("smoke", device="cpu", **changes)


def digits() -> data.Images:
    """In float64, so that sums in another order agree to many digits."""
    images = data.load("digits")
    return replace(images, train_x=images.train_x.double(), test_x=images.test_x.double())


def run(
    arm: presets.Arm, *, seed: int = 0, steps: int = 6, probes=(), decay: float = 0.0, crops=None
) -> tuple[nn.Module, dict[str, list]]:
    images = digits()
    model = records.build(setting(), arm, seed, images).double()
    order = data.batches(len(images.train_x), 32, steps=steps, seed=seed)
    schedule = train.Schedule(steps=steps, probe_every=2, gradient_every=4, test_every=3, landmark_every=steps)
    more = {"probes": probes, "decay": decay, "crops": crops}
    rows = train.train(model, images, order=order, lr=arm.lr, schedule=schedule, **more)
    return model, train.collect(rows)


def values(columns: dict[str, list], quantity: str) -> dict[int, float]:
    triples = zip(columns["quantity"], columns["step"], columns["value"], strict=True)
    return {step: value for name, step, value in triples if name == quantity}


def test_a_batch_is_trained_on_as_it_is_cropped():
    seen = []
    crops = data.crops(4, 32, seed=1)
    run(presets.Arm("batch", 0.1), steps=4, probes=[(1, lambda _, x, y: seen.append((x, y)) or ())], crops=crops)
    images = digits()
    order = data.batches(len(images.train_x), 32, steps=4, seed=0)
    for at, (x, y) in enumerate(seen[:4]):
        assert torch.equal(x, data.augmented(images.train_x[order[at]], crops[at]))
        assert torch.equal(y, images.train_y[order[at]])
    arm = presets.Arm("none", 0.1)
    assert values(run(arm, steps=4, crops=crops)[1], "loss") != values(run(arm, steps=4)[1], "loss")


def test_loop_is_plain_sgd():
    """theta <- theta - lr grad, by hand with autograd, gives the same losses, accuracies and weights."""
    model, columns = run(presets.Arm("batch", 0.1))
    images = digits()
    by_hand = records.build(setting(), presets.Arm("batch", 0.1), 0, images).double().train()
    losses, accuracies = [], []
    for batch in data.batches(len(images.train_x), 32, steps=6, seed=0):
        x, y = images.train_x[batch], images.train_y[batch]
        logits = by_hand(x)
        loss = nn.functional.cross_entropy(logits, y)
        losses.append(loss.item())
        accuracies.append((logits.argmax(1) == y).float().mean().item())
        gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(by_hand.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    assert list(values(columns, "loss").values()) == pytest.approx(losses, rel=1e-7)
    assert list(values(columns, "train_accuracy").values()) == accuracies
    for ours, theirs in zip(model.state_dict().values(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-7)


def test_decay_is_the_gradient_of_the_penalised_loss():
    """w <- w - lr (g + decay w) for weights of linear maps, the plain update for all else; the loss is the whole."""
    decay = 0.05
    model, columns = run(presets.Arm("batch", 0.1), steps=3, decay=decay)
    images = digits()
    by_hand = records.build(setting(), presets.Arm("batch", 0.1), 0, images).double().train()
    losses, names = [], [f"{place}.linear.weight" for place in range(len(by_hand))]
    for batch in data.batches(len(images.train_x), 32, steps=3, seed=0):
        parameters = dict(by_hand.named_parameters())
        loss = nn.functional.cross_entropy(by_hand(images.train_x[batch]), images.train_y[batch])
        losses.append(loss.item() + decay / 2 * sum(parameters[name].square().sum().item() for name in names))
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                parameter -= 0.1 * (gradient + (decay * parameter if name in names else 0))
    assert list(values(columns, "loss").values()) == pytest.approx(losses, rel=1e-7)
    for ours, theirs in zip(model.state_dict().values(), by_hand.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-7)


def test_schedule_of_rows():
    calls = []

    def probe(model, x, y):
        calls.append(x)
        return [train.Row("probe", torch.tensor(float(len(calls))))]

    _, columns = run(presets.Arm("none", 0.1), probes=[(2, probe)], steps=5)
    assert list(values(columns, "loss")) == [0, 1, 2, 3, 4]
    assert list(values(columns, "probe")) == [0, 2, 4, 5]
    assert list(values(columns, "test_accuracy")) == [0, 3, 5]


def test_probes_change_nothing():
    arm = presets.Arm("noisy", 0.1, 1.0)
    plain, columns = run(arm)
    probed, again = run(arm, probes=[(2, instruments.ActivationProbe(records.Run(setting(), arm, 0, ""), digits()))])
    assert values(columns, "loss") == values(again, "loss")
    for a, b in zip(plain.state_dict().values(), probed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_accuracy_is_in_eval_mode_and_puts_the_mode_back():
    images = data.load("digits")
    model = records.build(setting(), presets.Arm("batch", 0.1), 0, images).train()
    before = [buffer.clone() for buffer in model.buffers()]
    ours = train.accuracy(model, images.test_x, images.test_y)
    assert model.training and all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    by_hand = model.eval()(images.test_x).argmax(1)
    assert ours.item() == (by_hand == images.test_y).float().mean().item()


def test_what_is_logged_comes_at_every_look():
    """A stretch of steps each, so that a run can be watched; together they are every step once."""
    images = digits()
    schedule = train.Schedule(steps=7, probe_every=7, gradient_every=7, test_every=3, landmark_every=7)
    model = records.build(setting(), presets.Arm("batch", 0.1), 0, images).double()
    order = data.batches(len(images.train_x), 32, steps=7, seed=0)
    rows = list(train.train(model, images, order=order, lr=0.1, schedule=schedule))
    assert [row.step for row in rows if row.quantity == "loss"] == [range(0, 3), range(3, 6), range(6, 7)]
    assert [row.step for row in rows if row.quantity == "test_accuracy"] == [0, 3, 6, 7]
    assert [row.quantity for row in rows].index("loss") < [row.step for row in rows].index(3)


def test_a_run_that_diverges_is_recorded_as_diverged():
    _, columns = run(presets.Arm("none", 1e60), steps=6)
    (step,) = values(columns, "diverged").values()
    losses = values(columns, "loss")
    assert 0 < step < 6 and list(losses) == list(range(int(step)))
    assert all(torch.tensor(list(losses.values())).isfinite())
    assert max(values(columns, "test_accuracy")) <= step


def test_vectors_along_bins_and_step_lengths_are_spread_out():
    rows = [
        train.Row("beta", torch.tensor([3.0]), step=1, eta=torch.tensor([0.5])),
        train.Row("density", torch.tensor([1.0, 2.0]), step=3, layer=2, bin=torch.tensor([-0.5, 0.5])),
        train.Row("loss", torch.tensor([7.0, 8.0]), step=range(2)),
    ]
    columns = train.collect(rows)
    assert columns["value"] == [3, 1, 2, 7, 8] and columns["bin"][1:3] == [-0.5, 0.5] and columns["eta"][0] == 0.5
    assert columns["step"] == [1, 3, 3, 0, 1] and columns["layer"] == [None, 2, 2, None, None]
    assert all(nan != nan for nan in [columns["bin"][0], *columns["bin"][3:], *columns["eta"][1:]])


def test_denormal_numbers_are_flushed():
    assert (torch.tensor([1e-39]) * 1.0).item() == 0.0


def test_progress_is_silent_outside_a_terminal_and_shows_in_the_one_named(capfd, monkeypatch):
    assert list(train.progress(range(3), unit="step")) == [0, 1, 2]
    assert capfd.readouterr().err == ""
    leader, follower = pty.openpty()
    monkeypatch.setenv("BNUTILS_TTY", os.ttyname(follower))
    assert list(train.progress(range(3), unit="step")) == [0, 1, 2]
    assert b"step" in os.read(leader, 4096)


def test_network_learns_the_digits():
    """Real images, real training: batch normalization brings a small network far above chance within forty steps."""
    _, columns = run(presets.Arm("batch", 0.1), steps=40)
    losses = list(values(columns, "loss").values())
    assert values(columns, "test_accuracy")[0] < 0.3
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_gpu_convolves_in_full_float32():
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
