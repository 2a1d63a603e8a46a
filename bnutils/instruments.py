"""What a run carries: the measurements that are made on its way, as rows about the model on the batch of the step."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bnutils import data, folklore, norms, probes, seeds, theory
from bnutils.models import rescaled, smoothed
from bnutils.presets import BALLS, ETAS, FINE, HALVES, SHARPNESS, SHRINKING, TESTED
from bnutils.quantities import LEVEL
from bnutils.train import Row, accuracy

LOSS = nn.functional.cross_entropy  # the mean over the batch, as `train` trains it


class RunProbe:
    """What one run measures on its way: rows about the model on the batch of the step.

    every: the field of the schedule that says every how many steps. passes: what a look costs, about, in forward and
    backward passes. measures: the quantities of its rows.
    """

    every: str
    passes: float
    measures: tuple[str, ...]

    def __init__(self, run, images: data.Images):
        self.run, self.lr, self.seed = run, run.arm.lr, run.seed

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        raise NotImplementedError


class ActivationProbe(RunProbe):
    """Rows about the activations of some layers: one sampled unit as the paper draws it, and the average over all
    units.

    For the sampled unit: density, mean, variance. For all units of a layer: the mean over units of the absolute
    change of mean and of variance since the probe before, and of the standard deviation. The sampled unit depends on
    seed and layer alone, so arms share it.
    """

    every = "probe_every"
    passes = 0.5
    measures = ("density", "mean", "variance", "layer_deviation", "layer_mean_step", "layer_variance_step")

    def __init__(self, run, images: data.Images):
        super().__init__(run, images)
        self.layers = run.setting.probed
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, model: nn.Module, x: Tensor, _y: Tensor) -> Iterator[Row]:
        for layer, a in probes.activations(model, x, layers=self.layers).items():
            mean, variance = probes.moments(a)
            unit = int(torch.randint(a.shape[1], (), generator=seeds.generator(self.seed, "unit", layer)))
            centres, density = probes.histogram(a[:, unit])
            yield Row("density", density, layer=layer, bin=centres)
            yield Row("mean", mean[unit], layer=layer)
            yield Row("variance", variance[unit], layer=layer)
            yield Row("layer_deviation", variance.sqrt().mean(), layer=layer)
            if layer in self.before:
                mean_before, variance_before = self.before[layer]
                yield Row("layer_mean_step", (mean - mean_before).abs().mean(), layer=layer)
                yield Row("layer_variance_step", (variance - variance_before).abs().mean(), layer=layer)
            self.before[layer] = mean, variance


class MovementProbe(ActivationProbe):
    """The rows of `ActivationProbe` on all units of a layer, for runs that are judged and not drawn."""

    measures = ("layer_deviation", "layer_mean_step", "layer_variance_step")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        yield from (row for row in super().__call__(model, x, y) if row.quantity in self.measures)


class GradientProbe(RunProbe):
    """Rows about the gradient on the batch of the step: how far it moves when layers before it do (Fig. 3), when the
    whole network moves along it (Figs 4, 11), and how long it is.

    Step lengths are `ETAS` in units of the learning rate; `loss_along` also has the loss at the point itself, eta 0.
    """

    every = "gradient_every"
    passes = 9
    measures = (
        *("loss_along", "gradient_distance", "gradient_cosine", "beta", "gradient_norm"),
        *("layer_gradient_norm", "shift_l2", "shift_cosine", "shift_relative"),
    )

    def __init__(self, run, images: data.Images):
        super().__init__(run, images)
        self.layers = run.setting.layers("shift")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        yield from self.along(model, LOSS, x, y)
        for layer, norm in probes.gradient_norms(model, LOSS, x, y).items():
            yield Row("layer_gradient_norm", norm, layer=layer)
        for layer, shift in probes.covariate_shift(model, LOSS, x, y, lr=self.lr, layers=self.layers).items():
            for name, value in shift._asdict().items():
                yield Row(f"shift_{name}", value, layer=layer)

    def along(self, model: nn.Module, loss_of: probes.Loss, x: Tensor, y: Tensor) -> Iterator[Row]:
        """The rows of the landscape along the gradient."""
        look = probes.along(model, loss_of, x, y, etas=[eta * self.lr for eta in ETAS])
        etas = self.lr * torch.tensor(ETAS, dtype=torch.float64)
        here = torch.cat([look.loss[None], look.losses])
        yield Row("loss_along", here, eta=torch.cat([etas.new_zeros(1), etas]))
        yield Row("gradient_distance", look.distances, eta=etas)
        yield Row("gradient_cosine", look.cosines, eta=etas)
        yield Row("beta", look.betas, eta=etas)
        yield Row("gradient_norm", look.gradient_norm)


class PenalisedProbe(GradientProbe):
    """The landscape of a network that is trained with a penalty: along the gradient of all that it is trained on."""

    passes = 6
    measures = ("loss_along", "gradient_distance", "gradient_cosine", "beta", "gradient_norm")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        whole = probes.Penalised(model, self.run.setting.recipe.decay)
        yield from self.along(whole, probes.Penalised.loss, x, y)


class StepLengthProbe(RunProbe):
    """Rows about beta as a function of eta: on a fine grid, also in float64 and without kinks; along a random direction
    as long as the gradient; and the curvature along the gradient."""

    every = "landmark_every"
    passes = 100
    measures = (
        *("beta_float32", "beta_float64", "beta_smooth", "curvature"),
        *("random_loss_along", "random_distance", "random_beta"),
    )

    def __init__(self, run, images: data.Images):
        super().__init__(run, images)
        self.looks = 0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        fine = [eta * self.lr for eta in FINE]
        double = copy.deepcopy(model).double()
        networks = {"beta_float32": model, "beta_float64": double, "beta_smooth": smoothed(double, sharpness=SHARPNESS)}
        for name, network in networks.items():
            xs = x if network is model else x.double()
            betas = probes.along(network, LOSS, xs, y, etas=fine).betas
            yield Row(name, betas, eta=torch.tensor(fine, dtype=torch.float64))
        yield Row("curvature", probes.curvature(model, LOSS, x, y))
        generator = seeds.generator(self.seed, "direction", self.looks, device=x.device)
        self.looks += 1
        etas = [eta * self.lr for eta in ETAS]
        look = probes.along(model, LOSS, x, y, etas=etas, random=generator)
        for name, values in {"loss_along": look.losses, "distance": look.distances, "beta": look.betas}.items():
            yield Row(f"random_{name}", values, eta=torch.tensor(etas, dtype=torch.float64))


class MistakeProbe(RunProbe):
    """Rows that put each mistake of chapter 5 beside the right measurement, at one point of training.

    Right: what `GradientProbe` finds there, and the distance of gradients far below the learning rate, where it must
    vanish. Wrong: `folklore`, at the same network and batch. `other` is a second batch and `test` the images whose
    accuracy says what an unprotected probe leaves behind. The model, its buffers and every random stream are left as
    they were.
    """

    every = "landmark_every"
    passes = 35
    measures = (
        *("right_distances", "right_accuracy", "right_noise", "right_content", "right_deviation"),
        *("wrong_batches", "wrong_after_update", "wrong_last_layer", "wrong_eval_mode", "wrong_accuracy"),
        *("wrong_noise", "wrong_content", "wrong_deviation", "wrong_step"),
    )

    def __init__(self, run, images: data.Images):
        super().__init__(run, images)
        self.layers = run.setting.probed
        order = torch.randperm(len(images.train_x), generator=seeds.generator(run.seed, "second batch"))
        drawn = order[: run.setting.batch].to(images.train_x.device)
        self.other = images.train_x[drawn], images.train_y[drawn]
        self.test = images.test_x[:TESTED], images.test_y[:TESTED]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        lr, at = self.lr, (model, LOSS, x, y)
        far, near = [lr * eta for eta in ETAS], [lr * eta for eta in SHRINKING]
        near_eta = torch.tensor(near, dtype=torch.float64)
        yield Row("right_distances", probes.along(*at, etas=near).distances, eta=near_eta)
        between = folklore.between_batches(*at[:2], (x, y), self.other, lrs=near)
        yield Row("wrong_batches", between, eta=near_eta)
        yield Row("wrong_after_update", folklore.after_update(*at, lr=lr, etas=near), eta=near_eta)
        yield Row("wrong_last_layer", folklore.last_layer(*at, eta=lr))
        yield Row("wrong_eval_mode", folklore.eval_mode(*at, eta=lr))
        with probes.untouched(model):  # also the modes of single layers
            before = accuracy(model, *self.test)
        yield Row("right_accuracy", before)
        yield Row("wrong_accuracy", accuracy(folklore.unprotected(*at, etas=far), *self.test))
        for name, kind in (("right", norms.Noise), ("wrong", folklore.SharedNoise)):
            disturbance = folklore.disturbance(model, x, noise=kind, seed=self.seed)
            yield Row(f"{name}_content", disturbance.content)
            yield Row(f"{name}_noise", disturbance.following)
        for name, hooked in (("right", probes.activations), ("wrong", folklore.linear_outputs)):
            seen = hooked(model, x, layers=self.layers).values()
            yield Row(f"{name}_deviation", torch.stack([a.std(0, correction=0).mean() for a in seen]).mean())
        yield Row("wrong_step", folklore.adam_length(*at))


class TermProbe(RunProbe):
    r"""Rows about each hidden layer: what the terms of Theorem 4.1 do to its gradient on the batch of the step.

    With batch normalization y is what enters it and z what leaves it, and sigma has the epsilon of training. Without a
    normalizer :math:`z = y`, and :math:`\gamma/\sigma` is 1 as in Observation 4.3: what batch normalization would do if
    it were put in just here, outputs unchanged.
    """

    every = "gradient_every"
    passes = 2
    measures = ("term_scale", "term_mean", "term_correlation", "term_premise")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        inputs, outputs = [], []
        with probes.untouched(model), torch.enable_grad():
            model.train()
            for layer in model:
                inputs.append(layer.linear(x))
                outputs.append(layer.norm(inputs[-1]))
                x = layer.tail(outputs[-1])
            gradients = torch.autograd.grad(LOSS(x, y), outputs)
        for number, (layer, a, g) in enumerate(zip(model[:-1], inputs, gradients, strict=False), start=1):
            a, g = (each.detach().movedim(1, -1).flatten(0, -2) for each in (a, g))
            ratio = a.new_ones(a.shape[1])
            for module in layer.norm:
                ratio = module.weight.detach() / (a.var(0, correction=0) + module.eps).sqrt()
            for name, value in theory.terms(a, g, ratio)._asdict().items():
                yield Row(f"term_{name}", value, layer=number)


class TheoremProbe(RunProbe):
    """Rows with both sides of Theorems 4.1 and 4.2 and Observation 4.3, for one unit of a few layers, in float64.

    The unit whose gradient is longest. gamma and beta are those of training, or without a normalizer those of
    Observation 4.3. All other units and layers are as the run has them. A layer of which no unit varies has no rows.
    """

    every = "landmark_every"
    passes = 25
    measures = (
        *("theorem_4_1_left", "theorem_4_1_right", "theorem_4_1_printed", "theorem_4_1_plain"),
        *("theorem_4_2_left", "theorem_4_2_right", "theorem_4_2_printed"),
        *("observation_4_3_outputs", "observation_4_3_loss", "scale_invariance"),
    )

    def __init__(self, run, images: data.Images):
        super().__init__(run, images)
        self.layers = sorted({*run.setting.layers("shift"), run.setting.layers("noise")[-1]})

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        double = copy.deepcopy(model).double().train()
        for number in self.layers:
            unit = self.unit(double, x.double(), y, number)
            if unit is not None:
                yield from (row._replace(layer=number) for row in both_sides(unit))

    def unit(self, model: nn.Module, x: Tensor, y: Tensor, number: int) -> theory.Unit | None:
        """The unit of layer `number` whose gradient is longest, of those that vary."""
        layer, after = model.layer(number), model[number:]
        with torch.no_grad():
            a = layer.linear(model[: number - 1](x))
            z = layer.norm(a)
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(LOSS(after(layer.tail(z)), y), z)
        columns, z = a.movedim(1, -1).flatten(0, -2), z.detach()
        deviation, mean = torch.std_mean(columns, dim=0, correction=0)
        varies = deviation > 1e-6 * mean.abs()  # or its y_hat would be rounding
        if not varies.any():
            return None
        length = gradient.movedim(1, -1).flatten(0, -2).norm(dim=0)
        place = int(length.where(varies, -1).argmax())

        def loss(column: Tensor) -> Tensor:
            column = column.view(z.movedim(1, -1).shape[:-1])[:, None]
            return LOSS(after(layer.tail(torch.cat([z[:, :place], column, z[:, place + 1 :]], dim=1))), y)

        own = columns[:, place].contiguous()
        for module in layer.norm:
            return theory.Unit(own, module.weight[place].detach(), module.bias[place].detach(), loss)
        return theory.same_outputs(own, loss)


class MinimaProbe(RunProbe):
    """Rows about the surroundings of one network: once in a run, at the first look at which its loss is that at which
    networks are compared, or at the last look where that never comes.

    The loss is that of the trained function (train mode) on a fixed batch of training images, the same for all arms of
    a seed; everything is measured on these images. Compared is between half of `LEVEL` and it: a lower end too, for a
    loss that jumps must not be called equal to one that does not. `minimum_accuracy` is that of the test images there.
    Radii are those with which Foret et al. (2021) and Kwon et al. (2021) train CIFAR-10. A curve along one random
    direction for every seed, a surface over two for seed 0.
    """

    every = "probe_every"
    passes = 3
    measures = (
        *("minimum_loss", "minimum_accuracy", "eigenvalue", "eigenvalue_normalized"),
        *("sharpness", "sharpness_adaptive", "loss_around"),
    )
    factors: tuple[float, ...] = (1.0,)

    def __init__(self, run, images: data.Images):
        super().__init__(run, images)
        order = torch.randperm(len(images.train_x), generator=seeds.generator(run.seed, "fixed images"))
        drawn = order[: run.setting.batch].to(images.train_x.device)
        self.fixed = images.train_x[drawn], images.train_y[drawn]
        self.test = images.test_x, images.test_y
        schedule = run.setting.schedule
        self.looks_left = -(-schedule.steps // schedule.probe_every)
        self.done = False

    def __call__(self, model: nn.Module, _x: Tensor, _y: Tensor) -> Iterator[Row]:
        self.looks_left -= 1
        if self.done:
            return
        loss = probes.loss(model, LOSS, *self.fixed)
        if not LEVEL / 2 <= loss <= LEVEL and self.looks_left >= 0:
            return
        self.done = True
        yield Row("minimum_loss", loss)
        with probes.untouched(model):
            yield Row("minimum_accuracy", accuracy(model, *self.test))
        yield from self.eigenvalues(model)
        for name, (radius, adaptive) in BALLS.items():
            look = probes.sharpness(model, LOSS, *self.fixed, radius=radius, adaptive=adaptive)
            yield Row(name, look)
        across, up = (torch.arange(-half, half + 1, dtype=torch.float64) / half for half in HALVES)
        up = up if self.seed == 0 else torch.zeros(1, dtype=torch.float64)
        generator = seeds.generator(self.seed, "surface", device=loss.device)
        losses = probes.around(model, LOSS, *self.fixed, first=across.tolist(), second=up.tolist(), random=generator)
        yield Row("loss_around", losses.flatten(), eta=across.repeat(len(up)), bin=up.repeat_interleave(len(across)))

    def eigenvalues(self, model: nn.Module) -> Iterator[Row]:
        """The top eigenvalue, naive and filter-normalized, of the network and of its rescaled copies."""
        for name, normalized in {"eigenvalue": False, "eigenvalue_normalized": True}.items():
            found = []
            for factor in self.factors:
                copied = rescaled(model, factor=factor)
                random = seeds.generator(self.seed, "lanczos")
                found.append(
                    probes.top_eigenvalues(
                        copied, LOSS, *self.fixed, count=1, random=random, normalized=normalized, tolerance=0.01
                    )
                )
            yield Row(name, torch.cat(found), eta=torch.tensor(self.factors, dtype=torch.float64))


class RescaledMinimaProbe(MinimaProbe):
    """`MinimaProbe`, with the eigenvalues also of networks with rescaled weights that compute the same function."""

    passes = 8
    factors = (0.25, 0.5, 1.0, 2.0, 4.0)


# What the arms of an experiment carry, beside the activations that every run carries. An arm of several carries all.
CARRIED: dict[str, tuple[type[RunProbe], ...]] = {
    "shift": (GradientProbe,),
    "landscape": (GradientProbe, StepLengthProbe, MistakeProbe, TermProbe, TheoremProbe),
}
CARRIED["norms"] = (GradientProbe,)
CARRIED["minima"] = (MinimaProbe,)


class MapProbe:
    """Rows about each layer at step 0 and at the map's `early` step: how long the gradient of its weights is and the
    gradient on its way back, and the average standard deviation of its units."""

    def __init__(self):
        self.looks = 0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        self.looks += 1
        if self.looks > 2:
            return
        for name, norms_of in (
            ("layer_gradient_norm", probes.gradient_norms),
            ("layer_signal_norm", probes.signal_norms),
        ):
            for layer, norm in norms_of(model, LOSS, x, y).items():
                yield Row(name, norm, layer=layer)
        for layer, a in probes.activations(model, x, layers=range(1, len(model) + 1)).items():
            yield Row("layer_deviation", probes.moments(a)[1].sqrt().mean(), layer=layer)


def both_sides(unit: theory.Unit) -> Iterator[Row]:
    """Rows of Theorems 4.1 and 4.2, Observation 4.3 and what Lemma 4.5 rests on, for one unit."""
    for name, statement in (("theorem_4_1", theory.theorem_4_1), ("theorem_4_2", theory.theorem_4_2)):
        for side, value in statement(unit)._asdict().items():
            yield Row(f"{name}_{side}", value)
    yield Row("theorem_4_1_plain", unit.g @ unit.g)
    outputs, loss = theory.observation_4_3(unit.y, unit.loss)
    yield Row("observation_4_3_outputs", outputs)
    yield Row("observation_4_3_loss", loss)
    yield Row("scale_invariance", theory.scale_invariance(unit, times=3.0))
