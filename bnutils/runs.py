"""Arms x seeds to one tidy frame: what one run is, where runs are kept, and how missing ones are measured.

The atom is the run: one arm, one seed, trained once with every quantity that any chapter needs. It is kept as one
Parquet file (compact, typed; its provenance in the file's own metadata) under a key of the setting, the data's
fingerprint and the versions of its quantities. Device and library versions are provenance, not key.
"""

import collections
import copy
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bnutils import data, folklore, linear, norms, probes, seeds, theory
from bnutils.linear import Linear
from bnutils.models import rescaled, smoothed
from bnutils.presets import ETAS, LAYERS, PRESETS, Arm, Map, Setting
from bnutils.quantities import LEVEL, QUANTITIES
from bnutils.train import Probe, Row, Schedule, accuracy, collect, progress, train

LOSS = nn.functional.cross_entropy  # the mean over the batch, as `train` trains it

# The one schema. `bin` is the centre of a histogram's bin, `dose` the strength of the noise and `scale` the factor on
# the initial weights where it is varied: the design's columns and these, since figures draw against all of them. Of
# what is measured around a minimum, `eta` is how far along the first direction and `bin` along the second, and of its
# eigenvalues, by what its weights were multiplied.
COLUMNS = ["arm", "norm", "lr", "dose", "scale", "seed", "step", "layer", "eta", "bin", "quantity", "value"]
# A centred mean over this many logged steps takes the noise of a single batch's accuracy (k/128) out: ours, logged at
# every step, and the paper's, logged at every hundredth.
SMOOTH, SMOOTH_PAPER = 11, 5
# The paper's curves, by the words of its file: our quantity and the factor to its unit. A band has two.
PAPER_QUANTITIES = {
    "train_loss": ("squared_error", 1.0),
    "cos": ("shift_cosine", 1.0),
    "l2": ("shift_l2", 1.0),
    "loss_landscape min": ("loss_low", 1.0),
    "loss_landscape max": ("loss_high", 1.0),
    "grad_pred min": ("distance_low", 1.0),
    "grad_pred max": ("distance_high", 1.0),
    "beta": ("beta_max", 1.0),
    "train_acc": ("train_accuracy", 0.01),
    "test_acc": ("test_accuracy", 0.01),
    "mu_step": ("mean_step", 1.0),
    "var_step": ("variance_step", 1.0),
    "mu_from0": ("mean_from_start", 1.0),
    "var_from0": ("variance_from_start", 1.0),
}
# Derived from what each step length gave: the edges of the paper's bands, over the paper's own step lengths, and the
# largest beta with ours, which is shorter, among them.
BANDS = {
    "loss_low": ("loss_along", "min"),
    "loss_high": ("loss_along", "max"),
    "distance_low": ("gradient_distance", "min"),
    "distance_high": ("gradient_distance", "max"),
    "beta_max": ("beta", "max"),
}
# Step lengths of the fine grid, in units of the learning rate, and how sharp the kinkless copy is.
FINE = (1e-6, 1e-4, 1e-2, 0.1, 1.0, 4.0)
SHARPNESS = 10.0
# Radii of the balls in which sharpness is sought, and whether they are relative to the filters.
BALLS = {"sharpness": (0.05, False), "sharpness_adaptive": (0.5, True)}
# The surface around a network has so many points on each side of it, along its first and its second direction.
HALVES = (7, 5)
# The figures of v3 that can be asked for, with the interval in steps at which the paper logged them.
PAPER_FIGURES = {"1a": 100, "1b": 1000, "2": 100, "3a": 100, "3b": 50, "4": 100, "8": 100, "10": 50}
PAPER_FIGURES |= {"5a": 100, "5b": 50, "12": 100, "13": 50}


# Random layers of chapter 7: batch sizes, gamma over sigma, correlations of gradient and output, and lambda; what the
# layers behind have for a non-linearity; sigma of outputs that are free; and the
# largest batch whose Hessian is computed in full.
BATCHES, RATIOS, CORRELATIONS, BOUND = (4, 16, 64), (0.5, 1.0, 2.0), (-0.8, -0.4, 0.0, 0.4, 0.8), 2.0
ACTIVATIONS = {"tanh": torch.tanh, "ReLU": torch.relu}
SIGMAS, FULL = (1e-1, 1e-2, 1e-3), 16
# What worker processes share, rather than import each for itself: with it what reading digits, finding eigenvalues and
# keeping a run import late.
PRELOADED = ["bnutils.runs", "sklearn.datasets", "scipy.sparse.linalg", "pyarrow.parquet"]
# Step lengths of chapter 5 in units of the learning rate, down to where a distance between gradients must vanish.
SHRINKING = (1e-6, 1e-4, 1e-2, 1)
PAPER_CURVES = Path(__file__).parents[1] / "book" / "paper" / "curves.csv"
# The records that the book publishes, each under its key: what costs too much to measure while a page is read.
RESULTS = Path(__file__).parents[1] / "book" / "results"


class Record:
    """What is measured in one go and kept in one file, under a key of all that can change a value.

    measures: the quantities that it holds. passes: about how many passes forward and backward it takes, where records
    of one experiment differ in that.
    """

    measures: tuple[str, ...]
    passes: float = 0.0

    def key_of(self, what: dict) -> str:
        """16 hex digits over what it is and the versions of its quantities."""
        what["versions"] = {name: QUANTITIES[name].version for name in self.measures}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        """Where it is kept on this machine."""
        return data.cache_dir() / "runs" / f"{self.key}.parquet"

    @property
    def published(self) -> Path:
        """Where the book keeps it, if it does."""
        return RESULTS / f"{self.key}.parquet"

    @property
    def exists(self) -> bool:
        """Whether it is published or kept on this machine."""
        return self.published.exists() or self.path.exists()

    def kept(self) -> pd.DataFrame | None:
        """It, as published or else as kept on this machine; None where there is neither."""
        if not self.published.exists():
            return load(self.path)
        try:
            frame = _read(self.published)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            print(f"damaged published record {self.published.name}, not used: {reason}; restore it from the repository")
            return load(self.path)
        frame.attrs["provenance"]["published"] = True
        return frame


@dataclass(frozen=True)
class Run(Record):
    """One arm and one seed of a setting, on data with this fingerprint."""

    setting: Setting
    arm: Arm
    seed: int
    fingerprint: str

    @property
    def preset(self) -> str:
        """The name of its setting."""
        return self.setting.preset

    @property
    def carries(self) -> tuple[str, ...]:
        """The experiments whose gradients this arm is measured for, beside the activations that every run carries."""
        return tuple(name for name in CARRIED if self.arm in self.setting.arms(name))

    @property
    def kinds(self) -> list[type["RunProbe"]]:
        """The probes that it carries."""
        return list(dict.fromkeys([ActivationProbe, *(kind for name in self.carries for kind in CARRIED[name])]))

    @property
    def measures(self) -> tuple[str, ...]:
        """What training logs and what the probes find."""
        logged = ("loss", "train_accuracy", "test_accuracy", "diverged")
        return tuple(dict.fromkeys([*logged, *(name for kind in self.kinds for name in kind.measures)]))

    @property
    def passes(self) -> float:
        """Those of training, and what its probes cost."""
        schedule = self.setting.schedule
        looks = ((schedule.steps // getattr(schedule, kind.every) + 1) * kind.passes for kind in self.kinds)
        return schedule.steps + sum(looks)

    @property
    def key(self) -> str:
        """What tells this run from every other."""
        what = asdict(self.setting) | {"arm": asdict(self.arm), "seed": self.seed, "data": self.fingerprint}
        for name in ("preset", "dataset", "device", "minutes", "seeds", "lrs", "slow_lr", "doses", "linear", "map"):
            del what[name]
        return self.key_of(
            what | {"probed": self.setting.probed, "probes": sorted(kind.__name__ for kind in self.kinds)}
        )

    def probes(self, images: data.Images) -> list[tuple[int, Probe]]:
        """What is measured during training, each with every how many steps."""
        return [(getattr(self.setting.schedule, kind.every), kind(self, images)) for kind in self.kinds]

    def measure(self) -> pd.DataFrame:
        """Train it."""
        return train_one(self, _images(self.setting.dataset, self.setting.device))

    def seconds(self) -> float:
        """About how long it takes on this device."""
        return _step_seconds(self) * self.passes


class ShallowRun(Run):
    """A run of the shallow network of chapter 9: it is measured for that chapter and for no other."""

    carries = ()

    @property
    def kinds(self) -> list[type["RunProbe"]]:
        """The probes that it carries."""
        return [RescaledMinimaProbe]


@dataclass(frozen=True)
class LinearRun(Record):
    """One arm of the deep linear network with all its seeds, which are trained in one batched pass."""

    linear: Linear
    arm: Arm
    preset: str

    @property
    def measures(self) -> tuple[str, ...]:
        """What `linear.train` logs."""
        return linear.MEASURES

    @property
    def key(self) -> str:
        """What tells this run from every other."""
        what = asdict(self.linear) | {"arm": asdict(self.arm)}
        del what["lrs"]
        return self.key_of(what)

    def measure(self) -> pd.DataFrame:
        """Train all its seeds."""
        began = time.perf_counter()
        frame = linear.train(self.linear, self.arm.norm, self.arm.lr, self.linear.seeds)
        return _kept(frame, self, began, dataset="Gaussian data", device=_cpu())

    def seconds(self) -> float:
        """About how long it takes on this device."""
        networks = linear.Networks(self.linear, self.arm.norm, self.linear.seeds)
        times = [_timed(lambda: networks.gradient(networks.parameters)) for _ in range(5)]
        looks = self.linear.steps // self.linear.probe_every + 1
        return min(times) * (self.linear.steps + looks * (len(self.linear.etas) + len(self.linear.layers)))


@dataclass(frozen=True)
class LinearChoices(Record):
    """The first steps of every choice that the paper leaves open for the deep linear network, for one share of the
    sum of squares: `linear.choices`."""

    linear: Linear
    share: float
    preset: str
    measures = ("squared_error", "diverged")

    @property
    def key(self) -> str:
        """What tells this record from every other."""
        return self.key_of(asdict(self.linear) | {"choices": [asdict(choice) for choice in self.choices]})

    @property
    def choices(self) -> list[Linear]:
        """What is tried."""
        return linear.choices(self.linear, shares=[self.share])

    def measure(self) -> pd.DataFrame:
        """Train every choice for as many steps as the choices are fitted on."""
        began = time.perf_counter()
        return _kept(linear.fit(self.linear, shares=[self.share]), self, began, dataset="Gaussian data", device=_cpu())

    def seconds(self) -> float:
        """About how long it takes on this device."""
        networks = linear.Networks(self.linear, "batch", self.linear.seeds)
        step = min(_timed(lambda: networks.gradient(networks.parameters)) for _ in range(5))
        return step * linear.FITTED * len(self.linear.lrs) * len(self.choices) * 2


@dataclass(frozen=True)
class RandomLayers(Record):
    """Both sides of every theorem on random units: a loss that sets the correlation of gradient and output, and losses
    that go on with further layers. An arm is a case; nothing is trained."""

    seeds: tuple[int, ...]
    preset: str
    measures = (
        *("theorem_4_1_left", "theorem_4_1_right", "theorem_4_1_printed", "theorem_4_1_plain"),
        *("theorem_4_2_left", "theorem_4_2_right", "theorem_4_2_printed"),
        *("observation_4_3_outputs", "observation_4_3_loss", "scale_invariance"),
        *("theorem_4_4_left", "theorem_4_4_right", "theorem_4_4_printed", "theorem_4_4_free"),
        *("theorem_c_1_left", "theorem_c_1_right", "theorem_c_1_maximum", "theorem_c_1_printed"),
        *("lemma_4_5_left", "lemma_4_5_right", "lemma_4_5_unmet"),
    )

    @property
    def key(self) -> str:
        """What tells this record from every other."""
        grid = [BATCHES, RATIOS, CORRELATIONS, BOUND, list(ACTIVATIONS), SIGMAS, FULL]
        return self.key_of({"random layers": grid, "seeds": self.seeds})

    def cases(self, seed: int) -> Iterator[tuple[str, theory.Unit]]:
        """The units of one seed, each with the words of its case."""
        for m in BATCHES:
            for ratio in RATIOS:
                for correlation in CORRELATIONS:
                    random = seeds.generator(seed, "quadratic", m)  # what the control leaves alone stays the same
                    unit = theory.quadratic_unit(m, ratio=ratio, correlation=correlation, random=random)
                    yield quadratic_case(m, ratio, correlation), unit
                for name, activation in ACTIVATIONS.items():
                    random = seeds.generator(seed, name, m, str(ratio))
                    unit = theory.network_unit(m, ratio=ratio, activation=activation, random=random)
                    yield f"{name} network, m {m}, gamma/sigma {ratio:g}", unit

    def measure(self) -> pd.DataFrame:
        """Both sides of every statement in every case."""
        began, parts = time.perf_counter(), []
        for seed in self.seeds:
            for words, unit in self.cases(seed):
                rows = [*both_sides(unit), *both_sides_over_inputs(unit), *_initialisation(seed, words)]
                parts.append(pd.DataFrame(collect(rows)).assign(arm=words, seed=seed))
        # no run, so neither a learning rate nor a step
        frame = pd.concat(parts).assign(norm="batch", lr=0.0, step=0)
        return _kept(frame, self, began, dataset="random layers", device=_cpu())

    def seconds(self) -> float:
        """About how long it takes on this device."""
        cases = list(self.cases(self.seeds[0]))
        middle = cases[len(cases) // 2][1]
        return _timed(lambda: [*both_sides(middle), *both_sides_over_inputs(middle)]) * len(cases) * len(self.seeds)


def quadratic_case(m: int, ratio: float, correlation: float) -> str:
    """The arm of a random unit whose loss is quadratic."""
    return f"quadratic, m {m}, gamma/sigma {ratio:g}, correlation {correlation:g}"


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


def both_sides_over_inputs(unit: theory.Unit) -> Iterator[Row]:
    """Rows of Theorems 4.4 and C.1, for one unit; the maxima of C.1, which need Hessians in full, for small batches."""
    for side, value in theory.theorem_4_4(unit, bound=BOUND)._asdict().items():
        yield Row(f"theorem_4_4_{side}", value)
    free = [theory.theorem_4_4_free(unit, bound=BOUND, sigma=sigma) for sigma in SIGMAS]
    yield Row("theorem_4_4_free", torch.stack(free), eta=torch.tensor(SIGMAS, dtype=torch.float64))
    left, right, _ = theory.theorem_c_1(unit, bound=BOUND)
    yield Row("theorem_c_1_left", left)
    yield Row("theorem_c_1_right", right)
    if len(unit.y) <= FULL:
        maximum, printed = theory.theorem_c_1_maxima(unit, bound=BOUND)
        yield Row("theorem_c_1_maximum", maximum)
        yield Row("theorem_c_1_printed", printed)


def _initialisation(seed: int, words: str) -> Iterator[Row]:
    """Rows of Lemma 4.5 for a random start and a random optimum of five units, turned so that its condition is met, and
    each unit turned so that it is not."""
    random = seeds.generator(seed, "optimum", words)
    start, optimum = torch.randn(2, 20, 5, generator=random, dtype=torch.float64)
    optimum = optimum * torch.sign((start * optimum).sum())
    for side, value in zip(("left", "right"), theory.lemma_4_5(start, optimum), strict=True):
        yield Row(f"lemma_4_5_{side}", value)
    left, right = theory.lemma_4_5(start, -optimum * torch.sign((start * optimum).sum(0)))
    yield Row("lemma_4_5_unmet", left - right)


@dataclass(frozen=True)
class MapRun(Record):
    """One normalizer, scale of the initial weights and seed of a map, trained briefly at each of its learning rates."""

    setting: Setting
    grid: Map
    norm: str
    scale: float
    seed: int
    fingerprint: str
    measures = (
        *("end_accuracy", "test_accuracy", "diverged"),
        *("layer_gradient_norm", "layer_signal_norm", "layer_deviation"),
    )

    @property
    def preset(self) -> str:
        """The name of its setting."""
        return self.setting.preset

    @property
    def key(self) -> str:
        """What tells this record from every other."""
        what = asdict(self.grid) | {"norm": self.norm, "scale": self.scale, "seed": self.seed, "data": self.fingerprint}
        for name in ("norms", "scales", "seeds"):
            del what[name]
        return self.key_of(what)

    def run(self, lr: float) -> Run:
        """The network, the learning rate and the batches of one training."""
        setting = replace(self.setting, vgg=self.grid.vgg, batch=self.grid.batch)
        arm = Arm(self.norm, lr, dose=float(self.norm.startswith("noisy")))
        return Run(setting, arm, self.seed, self.fingerprint)

    def measure(self) -> pd.DataFrame:
        """Train it at each learning rate."""
        began = time.perf_counter()
        images = _images(self.setting.dataset, self.setting.device)
        frames = [map_one(self, lr, images) for lr in self.grid.lrs]
        dose = self.run(self.grid.main).arm.dose or np.nan
        same = {"norm": self.norm, "dose": dose, "scale": self.scale, "seed": self.seed}
        frame = pd.concat(frames, ignore_index=True).assign(**same)
        frame = _kept(frame, self, began, dataset=images.name, device=_device_name(images.train_x.device))
        diverged = int((frame.quantity == "diverged").sum())
        frame.attrs["provenance"]["status"] = f"{diverged} of {len(frames)} diverged"
        return frame

    def seconds(self) -> float:
        """About how long it takes on this device, if none diverges."""
        return _step_seconds(self.run(self.grid.main)) * self.grid.steps * len(self.grid.lrs)


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


class RunProbe:
    """What one run measures on its way: rows about the model on the batch of the step.

    every: the field of the schedule that says every how many steps. passes: what a look costs, about, in forward and
    backward passes. measures: the quantities of its rows.
    """

    every: str
    passes: float
    measures: tuple[str, ...]

    def __init__(self, run: Run, images: data.Images):
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

    def __init__(self, run: Run, images: data.Images):
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

    def __init__(self, run: Run, images: data.Images):
        super().__init__(run, images)
        self.layers = run.setting.layers("shift")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        look = probes.along(model, LOSS, x, y, etas=[eta * self.lr for eta in ETAS])
        etas = self.lr * torch.tensor(ETAS, dtype=torch.float64, device=x.device)
        here = torch.cat([look.loss[None], look.losses])
        yield Row("loss_along", here, eta=torch.cat([etas.new_zeros(1), etas]))
        yield Row("gradient_distance", look.distances, eta=etas)
        yield Row("gradient_cosine", look.cosines, eta=etas)
        yield Row("beta", look.betas, eta=etas)
        yield Row("gradient_norm", look.gradient_norm)
        for layer, norm in probes.gradient_norms(model, LOSS, x, y).items():
            yield Row("layer_gradient_norm", norm, layer=layer)
        for layer, shift in probes.covariate_shift(model, LOSS, x, y, lr=self.lr, layers=self.layers).items():
            for name, value in shift._asdict().items():
                yield Row(f"shift_{name}", value, layer=layer)


class StepLengthProbe(RunProbe):
    """Rows about beta as a function of eta: on a fine grid, also in float64 and without kinks; along a random direction
    as long as the gradient; and the curvature along the gradient."""

    every = "landmark_every"
    passes = 100
    measures = (
        *("beta_float32", "beta_float64", "beta_smooth", "curvature"),
        *("random_loss_along", "random_distance", "random_beta"),
    )

    def __init__(self, run: Run, images: data.Images):
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

    def __init__(self, run: Run, images: data.Images):
        super().__init__(run, images)
        self.layers = run.setting.probed
        order = torch.randperm(len(images.train_x), generator=seeds.generator(run.seed, "second batch"))
        drawn = order[: run.setting.batch].to(images.train_x.device)
        self.other = images.train_x[drawn], images.train_y[drawn]
        self.test = images.test_x[:500], images.test_y[:500]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Row]:
        lr, at = self.lr, (model, LOSS, x, y)
        far, near = [lr * eta for eta in ETAS], [lr * eta for eta in SHRINKING]
        near_eta = torch.tensor(near, device=x.device, dtype=torch.float64)
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
    """Rows about each hidden layer: what the terms of Theorem 4.1 do to its gradient on the batch of the step.

    With batch normalization y is what enters it and z what leaves it, and sigma has the epsilon of training. Without a
    normalizer z = y, and gamma / sigma is 1 as in Observation 4.3: what batch normalization would do if it were put in
    just here, outputs unchanged.
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

    def __init__(self, run: Run, images: data.Images):
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

    def __init__(self, run: Run, images: data.Images):
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


def build(setting: Setting, arm: Arm, seed: int, images: data.Images) -> nn.Module:
    """The network of one run, on the device of its images: weights depend on the seed alone, not on the arm."""
    make_norm = partial(norms.make, arm.norm, seed=seed, dose=arm.dose)
    generator = seeds.generator(seed, "weights")
    channels, classes = images.train_x.shape[1], len(images.classes)
    model = setting.vgg.build(make_norm, channels=channels, classes=classes, generator=generator)
    return model.to(images.train_x.device)


def train_one(run: Run, images: data.Images) -> pd.DataFrame:
    """Train one run and return its tidy frame; `attrs["provenance"]` says where, when, how long and how it ended."""
    setting, began = run.setting, time.perf_counter()
    schedule = setting.schedule
    device = images.train_x.device
    rows = train(
        build(setting, run.arm, run.seed, images),
        images,
        order=data.batches(len(images.train_x), setting.batch, steps=schedule.steps, seed=run.seed, device=device),
        lr=run.arm.lr,
        schedule=schedule,
        probes=run.probes(images),
    )
    frame = pd.DataFrame(collect(rows)).assign(seed=run.seed)
    return _kept(frame, run, began, dataset=images.name, device=_device_name(device))


def map_one(record: MapRun, lr: float, images: data.Images) -> pd.DataFrame:
    """One training of a map: the mean training accuracy over the last fifth of its steps and the test accuracy at the
    end, or the step at which it diverged; at the main learning rate also the rows of `MapProbe`."""
    grid, run = record.grid, record.run(lr)
    model = build(run.setting, run.arm, run.seed, images)
    with torch.no_grad():
        for layer in model:
            layer.linear.weight.mul_(record.scale)
    # A look every few steps, also where there is nothing to measure, ends a training that has diverged.
    look = MapProbe() if lr == grid.main else lambda *_: ()
    schedule = Schedule(grid.steps, grid.early, grid.early, test_every=grid.steps, landmark_every=grid.steps)
    order = data.batches(len(images.train_x), grid.batch, steps=grid.steps, seed=run.seed, device=images.train_x.device)
    rows = train(model, images, order=order, lr=lr, schedule=schedule, probes=[(grid.early, look)])
    frame = pd.DataFrame(collect(rows)).drop(columns=["eta", "bin"]).astype({"layer": "Int64"})
    frame = frame.assign(arm=run.arm.name, lr=lr)
    late = frame[frame.quantity == "train_accuracy"].tail(max(1, grid.steps // 5))
    frame = frame[~frame.quantity.isin(["loss", "train_accuracy"])]
    frame = frame[(frame.quantity != "test_accuracy") | (frame.step == grid.steps)]
    if (frame.quantity == "diverged").any():
        return frame
    end = late.head(1).assign(quantity="end_accuracy", step=grid.steps, value=late.value.mean())
    return pd.concat([frame, end])


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()


def _kept(frame: pd.DataFrame, run: Run | LinearRun, began: float, *, dataset: str, device: str) -> pd.DataFrame:
    """The frame in `COLUMNS` with the keys of its arm, and its provenance."""
    if not isinstance(run, LinearChoices | RandomLayers | MapRun):
        arm = run.arm
        frame = frame.assign(arm=arm.name, norm=arm.norm, lr=arm.lr, dose=arm.dose or np.nan)
    frame = frame.reindex(columns=COLUMNS).astype({"step": "int64", "layer": "Int64"})
    ends = frame.loc[frame.quantity == "diverged", "value"]
    frame.attrs["provenance"] = {
        "key": run.key,
        "preset": run.preset,
        "dataset": dataset,
        "device": device,
        "seconds": round(time.perf_counter() - began, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "digest": digest(frame),
        "status": "finished" if ends.empty else f"diverged at step {int(ends.min())}",
    }
    return frame


def digest(frame: pd.DataFrame) -> str:
    """SHA-256 over the rows, in hex: what a record says it holds."""
    return hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()).hexdigest()


@cache
def _commit() -> str:
    """The commit of this checkout, with a + where something in it is changed; "unknown" outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpu() -> str:
    return f"{platform.machine()} CPU, one core a run"


def save(frame: pd.DataFrame, path: Path) -> None:
    """Write a run whole or not at all: into a file of its own beside the place, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        frame.to_parquet(part, index=False)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> pd.DataFrame:
    """The record in this file. Raises ValueError where its rows are not those that it was written with."""
    frame = pd.read_parquet(path)
    if digest(frame) != frame.attrs.get("provenance", {}).get("digest"):
        raise ValueError("its rows do not fit its digest")
    return frame


def load(path: Path) -> pd.DataFrame | None:
    """The run kept at `path`, or None where there is none. A file that cannot be read is named and put aside."""
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        aside = path.replace(path.with_suffix(".damaged"))
        print(f"damaged run {path.name}, kept as {aside.name} and measured again: {str(error).splitlines()[0]}")
        return None


def speed(setting: Setting) -> pd.DataFrame:
    """The paper's Fig. 1: without and with batch normalization at each learning rate, all seeds, as one tidy frame."""
    return experiment(setting, "speed")


def noise(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 2 and 8 and a dose-response: noise after batch normalization and without it, one tidy frame."""
    return experiment(setting, "noise")


def shift(setting: Setting) -> pd.DataFrame:
    """The paper's Fig. 3a: how far gradients move when the layers before them do, at two learning rates."""
    return experiment(setting, "shift")


def landscape(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 4 and 11 for the VGG: loss and gradient along the gradient, over training."""
    return experiment(setting, "landscape")


def deep_linear(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 3b and 10: the deep linear network at its full scale, at both learning rates."""
    return experiment(setting, "linear")


def linear_choices(setting: Setting) -> pd.DataFrame:
    """The first steps of the deep linear network under every choice that the paper leaves open; `arm` names it."""
    return experiment(setting, "choices")


def theorems(setting: Setting) -> pd.DataFrame:
    """Both sides of the paper's theorems: on random layers, and on the networks of Fig. 4 in mid-training."""
    return experiment(setting, "theorems")


def mistakes(setting: Setting) -> pd.DataFrame:
    """Chapter 5: wrong measurements beside right ones on the networks of Fig. 1, all seeds, as one tidy frame."""
    return experiment(setting, "mistakes")


def normalizers(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 5a, 6 and 12, and normalizers beyond the paper: the same rows of every one, at one rate."""
    return experiment(setting, "norms")


def linear_normalizers(setting: Setting) -> pd.DataFrame:
    """The paper's Figs 5b and 13: the deep linear network at its full scale under each normalizer, at one rate.

    l1 and linf, which need all samples, have the first few seeds only: `Linear.seeds_of`.
    """
    return experiment(setting, "linear_norms")


def robustness(setting: Setting) -> pd.DataFrame:
    """Chapter 8's map: short trainings for each normalizer, learning rate, scale of the initial weights and seed."""
    return experiment(setting, "robustness")


def robustness_live(setting: Setting) -> pd.DataFrame:
    """The smaller map of chapter 8, with a seed that the other has not: `Map.live`."""
    return experiment(setting, "robustness_live")


def minima(setting: Setting) -> pd.DataFrame:
    """Chapter 9: what lies around networks of equal training loss: curvature, sharpness, the loss along directions."""
    return experiment(setting, "minima")


def shallow_minima(setting: Setting) -> pd.DataFrame:
    """The same for a shallow network, with curvature also after rescaling its weights."""
    return experiment(setting, "shallow")


def experiment(setting: Setting, name: str, *, limit: bool = True) -> pd.DataFrame:
    """All runs of an experiment: kept ones are read, missing ones measured, in one frame of `COLUMNS`.

    With `limit`, runs that would take longer than `setting.minutes` on this device are not measured: one line says
    what is missing, what it costs and how to make it, and the frame holds what there is. `attrs` carry `source`, one
    sentence for the page on where the runs come from, and `missing`, how many there are not.
    """
    began = time.perf_counter()
    wanted = _wanted(setting, name)
    kept = {run: run.kept() for run in wanted}
    missing = [run for run in wanted if kept[run] is None]
    seconds = _cost(missing)
    if limit and seconds > 60 * setting.minutes:
        print(
            f"{len(missing)} of {len(wanted)} runs of preset {setting.preset} are missing; measuring them here would "
            f"take {_duration(seconds)} (limit: {_duration(60 * setting.minutes)}). A GPU, or a larger value of the "
            "parameter `minutes`, measures them."
        )
        missing = []
    elif missing:
        measure(missing)
        kept |= {run: run.kept() for run in missing}
    frames = [frame for frame in kept.values() if frame is not None]
    provenance = [frame.attrs.pop("provenance") for frame in frames]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    frame = frame.reindex(columns=COLUMNS)  # a record may be older than a column
    del frames, kept  # a page's memory is short
    frame = with_derived(frame)
    frame.attrs["missing"] = len(wanted) - len(provenance)
    frame.attrs["classes"] = len(_images(setting.dataset, setting.device).classes) if name in LAYERS else 0
    frame.attrs["source"] = _source(provenance, len(missing), time.perf_counter() - began)
    return frame


def publish(setting: Setting, name: str) -> list[Path]:
    """Copy the runs of an experiment that are kept on this machine to the published records; where they are then."""
    found = [run for run in _wanted(setting, name) if run.path.exists()]
    RESULTS.mkdir(exist_ok=True)
    for run in found:
        shutil.copyfile(run.path, run.published)
    return [run.published for run in found]


def measure(missing: list[Record]) -> None:
    """Measure and keep runs: one after the other on a GPU; on a CPU in one process a core, one thread each.

    A run that fails does not lose the others: they are finished and kept, then its error is raised.
    """
    failed = None
    device = missing[0].setting.device if isinstance(missing[0], Run | MapRun) else "cpu"
    with _executor(device) as executor, progress((), total=len(missing), unit="run") as bar:
        longest_first = sorted(missing, key=lambda run: -run.passes)  # so that no worker is left with one at the end
        for future in as_completed([executor.submit(_measure_one, run) for run in longest_first]):
            failed = failed or future.exception()
            bar.update()
    if failed:
        raise failed


def _executor(device: str) -> Executor:
    if data.device(device).type == "cuda":
        return ThreadPoolExecutor(max_workers=1)
    # Not fork: the child of a process that has run torch's threads hangs. Workers are forked from a server that has
    # only imported, and share its memory; where there is none, each imports for itself.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(PRELOADED)
    start = {"initializer": _start_worker, "initargs": (dict(os.environ),)}
    return ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context, **start)


def _start_worker(environment: dict[str, str]) -> None:
    """One thread: two networks side by side are faster than one on two threads, and its sums have one order.

    The server that a worker is forked from has the environment of when it was started; this is that of now.
    """
    os.environ.update(environment, TQDM_DISABLE="1")
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose notebook was killed would otherwise wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _measure_one(run: Record) -> None:
    save(run.measure(), run.path)


@cache
def _images(dataset: str, device: str) -> data.Images:
    return data.load(dataset, device=data.device(device))


def _wanted(setting: Setting, name: str) -> list[Record]:
    """Everything that an experiment needs."""
    preset, lin = setting.preset, setting.linear
    if name == "linear":
        return [LinearRun(lin, Arm(norm, lr), preset) for lr in lin.lrs for norm in ("batch", "none")]
    if name == "linear_norms":
        arms = [Arm(norm, lin.lrs[0]) for norm in linear.NORMS]
        return [LinearRun(replace(lin, seeds=lin.seeds_of(arm.norm)), arm, preset) for arm in arms]
    if name == "choices":
        return [LinearChoices(lin, share, preset) for share in linear.SHARES]
    if name == "theorems":
        return [*_wanted(setting, "landscape"), RandomLayers(setting.seeds, preset)]
    fingerprint = _images(setting.dataset, setting.device).fingerprint
    if name == "shallow":
        arms = setting.arms("minima")
        return [ShallowRun(setting.shallow, arm, seed, fingerprint) for seed in setting.seeds for arm in arms]
    if name in ("robustness", "robustness_live"):
        grid = setting.map if name == "robustness" else setting.map.live
        each = product(grid.norms, grid.seeds, grid.scales)
        return [MapRun(setting, grid, norm, scale, seed, fingerprint) for norm, seed, scale in each]
    return [Run(setting, arm, seed, fingerprint) for seed in setting.seeds for arm in setting.arms(name)]


def _cost(missing: list[Record]) -> float:
    """About how many seconds the runs take on this device, with a worker for each core of a CPU."""
    if not missing:
        return 0.0
    gpu = isinstance(missing[0], Run | MapRun) and data.device(missing[0].setting.device).type == "cuda"
    workers = 1 if gpu else min(os.cpu_count(), len(missing))
    return missing[len(missing) // 2].seconds() * len(missing) / workers


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@cache
def _step_seconds(run: Run) -> float:
    """Seconds for a step of this run, on one thread as in a worker: the fastest of three. Timed once in a process."""
    images = _images(run.setting.dataset, run.setting.device)
    images = replace(images, test_x=images.test_x[:1], test_y=images.test_y[:1])
    marks = []
    order = data.batches(len(images.train_x), run.setting.batch, steps=4, seed=run.seed, device=images.train_x.device)

    def mark(_model: nn.Module, x: Tensor, _y: Tensor) -> list[Row]:
        float(x.sum())  # waits for the device
        marks.append(time.perf_counter())
        return []

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        schedule = Schedule(steps=4, probe_every=1, gradient_every=4, test_every=4, landmark_every=4)
        model = build(run.setting, run.arm, run.seed, images)
        collections.deque(
            train(model, images, order=order, lr=run.arm.lr, schedule=schedule, probes=[(1, mark)]), maxlen=0
        )
    finally:
        torch.set_num_threads(threads)
    return min(np.diff(marks)[1:], default=0.0)


def _duration(seconds: float) -> str:
    """Seconds in words that fit their size."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _source(provenance: list[dict], measured: int, seconds: float) -> str:
    """One sentence on where the runs of a frame come from."""
    if not provenance:
        return "No run of this setting is on record."
    each = pd.DataFrame(provenance)
    count = f"{len(each)} run" + "s" * (len(each) > 1)
    what = f"{count} of preset {', '.join(each.preset.unique())} on {', '.join(each.dataset.unique())}"
    published = int(each.get("published", pd.Series(dtype=bool)).eq(True).sum())
    kept = len(each) - measured - published
    how = f"{measured} measured now in {_duration(seconds)}, {kept} read from the local cache"
    how += f", {published} from the published records" if published else ""
    cost = f"{_duration(each.seconds.sum())} of {', '.join(each.device.unique())}"
    return f"{what}: {how} ({cost}; torch {', '.join(each.torch.unique())}; last on {each.date.max()[:10]})."


def with_derived(frame: pd.DataFrame, *, smooth: int = SMOOTH) -> pd.DataFrame:
    """The frame with what follows from its own rows: `smooth_accuracy`, the quantities of Fig. 8, the bands of Fig. 4.

    smooth_accuracy: centred mean of train_accuracy over `smooth` logged steps. mean_step, variance_step: absolute
    change since the logged point before (the paper's "successive steps" are 100 apart). *_from_start: change since
    the first. loss_low, loss_high, distance_low, distance_high, beta_max: smallest and largest over the paper's step
    lengths. beta_max_short: the largest with ours, half as long as the paper's shortest, among them.
    """
    run = ["arm", "seed"]
    accuracy = frame[frame.quantity == "train_accuracy"].sort_values("step")
    values = accuracy.groupby(run, dropna=False)["value"]
    means = values.transform(lambda value: value.rolling(smooth, center=True, min_periods=1).mean())
    derived = [accuracy.assign(quantity="smooth_accuracy", value=means)]
    for name in ("mean", "variance"):
        moment = frame[frame.quantity == name].sort_values("step")
        values = moment.groupby([*run, "layer"], dropna=False)["value"]
        derived.append(moment.assign(quantity=f"{name}_step", value=values.diff().abs()).dropna(subset="value"))
        derived.append(moment.assign(quantity=f"{name}_from_start", value=moment["value"] - values.transform("first")))
    rows = frame[frame.quantity.isin(["loss_along", "gradient_distance", "beta"])].astype({"eta": float, "lr": float})
    rows = rows[rows.eta > 0]
    theirs = rows[~np.isclose(rows.eta, ETAS[0] * rows.lr, atol=0)]
    bands = {name: theirs[theirs.quantity == source] for name, (source, _) in BANDS.items()}
    bands["beta_max_short"] = rows[rows.quantity == "beta"]
    for name, each in bands.items():
        values = each.groupby(["arm", "norm", "lr", "seed", "step"]).value.agg(BANDS.get(name, ("", "max"))[1])
        derived.append(values.reset_index().assign(quantity=name))
    return pd.concat([frame, *derived], ignore_index=True)


def at_dose(frame: pd.DataFrame, dose: float) -> pd.DataFrame:
    """The rows of the arms without noise and of those with this dose of it."""
    return frame[frame.dose.isna() | (frame.dose == dose)]


def plan(setting: Setting, name: str) -> pd.DataFrame:
    """What an experiment varies (scientific), repeats over (nuisance) and holds (fixed), here and in preset `paper`."""
    if name == "linear":
        return _plan_linear(setting)
    if name in ("robustness", "robustness_live"):
        return _plan_map(setting, name)
    scientific, nuisance, fixed = {}, {}, {}
    for where, each in {"here": setting, "at the paper's scale": PRESETS["paper"]}.items():
        arms, vgg = each.arms(name), each.vgg
        doses = ", ".join(f"{arm.dose:g}" for arm in arms if arm.norm == "noisy")
        scientific[where] = {
            "normalizer": ", ".join(dict.fromkeys(arm.norm for arm in arms)),
            "learning rate": ", ".join(f"{lr:g}" for lr in dict.fromkeys(arm.lr for arm in arms)),
        } | ({"dose of noise": doses} if doses else {})
        nuisance[where] = {"seed (weights, order of images, noise, sampled unit)": f"{len(each.seeds)} (the paper: 1)"}
        fixed[where] = {
            "images": Path(each.dataset).name,
            "network": f"VGG-{vgg.depth}, width x {vgg.width:g}, head {vgg.head * vgg.width:g}",
            "steps": f"{each.schedule.steps:,}",
            "batch": f"{each.batch}",
            "layers drawn": ", ".join(map(str, each.layers(name))),
            "activations probed every": f"{each.schedule.probe_every} steps",
        }
        if name in ("shift", "landscape", "mistakes"):
            del fixed[where]["activations probed every"]
        if name in ("shift", "landscape", "mistakes", "norms"):
            fixed[where]["gradients probed every"] = f"{each.schedule.gradient_every} steps"
        if name == "minima":
            fixed[where]["compared at a training loss of"] = f"{LEVEL / 2:g} to {LEVEL:g} nats"
        if not each.layers(name):
            del fixed[where]["layers drawn"]
    missing = [run for run in _wanted(setting, name) if not run.exists]
    fixed["here"]["device"] = str(data.device(setting.device))
    fixed["here"]["runs"] = f"{len(_wanted(setting, name))}"
    fixed["here"]["cost of those not kept yet"] = _duration(_cost(missing))
    return _table(scientific, nuisance, fixed)


def _plan_linear(setting: Setting) -> pd.DataFrame:
    lin, wanted = setting.linear, _wanted(setting, "linear")
    missing = [run for run in wanted if not run.exists]
    here, theirs = "here", "in the paper"
    share = f"{lin.share:g} x the sum of squares over samples"
    rates = ", ".join(f"{lr:g}" for lr in lin.lrs)
    scientific = {where: {"normalizer": "none, batch", "learning rate": rates} for where in (here, theirs)}
    nuisance = {here: {"seed (weights, data)": f"{len(lin.seeds)}"}, theirs: {"seed (weights, data)": "1"}}
    fixed = {
        here: {
            "network": f"{lin.net.depth} matrices of {lin.net.features} x {lin.net.features}, no non-linearity",
            "samples, full batch": f"{lin.samples:,}",
            "steps": f"{lin.steps:,}",
            "probed every": f"{lin.probe_every} steps",
            "loss": share,
            "variance of x, of A": f"{lin.variance_x:g}, {lin.variance_A:g}",
            "after the last matrix": {"nothing": "nothing", "norm": "normalizer", "affine": "normalizer, gamma, beta"}[
                lin.net.last
            ],
            "device": "cpu, float64",
            "runs": f"{len(wanted)}, each with all its seeds",
            "cost of those not kept yet": _duration(_cost(missing)),
        },
        theirs: {
            "network": "25 matrices of 10 x 10, no non-linearity",
            "samples, full batch": "1,000",
            "steps": "10,000",
            "probed every": "50 steps",
            "loss": "not stated",
            "variance of x, of A": "not stated",
            "after the last matrix": "not stated",
        },
    }
    return _table(scientific, nuisance, fixed)


def _plan_map(setting: Setting, name: str) -> pd.DataFrame:
    missing = [run for run in _wanted(setting, name) if not run.exists]
    scientific, nuisance, fixed = {}, {}, {}
    for where, each in {"here": setting, "at the paper's scale": PRESETS["paper"]}.items():
        grid = each.map if name == "robustness" else each.map.live
        vgg, count = grid.vgg, len(grid.norms) * len(grid.lrs) * len(grid.scales) * len(grid.seeds)
        scientific[where] = {
            "normalizer": ", ".join(grid.norms),
            "learning rate": ", ".join(f"{lr:g}" for lr in grid.lrs),
            "scale of the initial weights": ", ".join(f"{scale:g}" for scale in grid.scales),
        }
        nuisance[where] = {"seed (weights, order of images, noise)": ", ".join(map(str, grid.seeds))}
        fixed[where] = {
            "images": Path(each.dataset).name,
            "network": f"VGG-{vgg.depth}, width x {vgg.width:g}, head {vgg.head * vgg.width:g}",
            "steps": f"{grid.steps:,}",
            "batch": f"{grid.batch}",
            "trainings": f"{count}",
        }
    fixed["here"]["cost of those not kept yet"] = _duration(_cost(missing))
    return _table(scientific, nuisance, fixed)


def _table(scientific: dict, nuisance: dict, fixed: dict) -> pd.DataFrame:
    kinds = {"scientific": scientific, "nuisance": nuisance, "fixed": fixed}
    table = pd.concat([pd.DataFrame(kinds[kind]).assign(kind=kind) for kind in kinds])
    return table.fillna("").rename_axis("parameter")


def paper(figure: str) -> pd.DataFrame:
    """The paper's own curves of a figure, as a frame of the same columns, read point by point from v3's vector
    graphics.

    The figure numbers are v3's: 1a, 1b, 2, 3a, 3b, 4, 5a, 5b, 8, 10, 12, 13. Accuracies become shares; a band
    becomes two quantities. Between listed points the curves are straight, so they are filled in at the paper's
    own logging interval. Raises ValueError for a figure without curves.
    """
    curves = pd.read_csv(PAPER_CURVES, dtype={"figure": str})
    curves = curves[curves.figure.str.fullmatch(f"{figure}[abcd]?")]
    if curves.empty or figure not in PAPER_FIGURES:
        raise ValueError(f"no curves of figure {figure!r}: accepted are {', '.join(PAPER_FIGURES)}")
    edges = [curves.assign(quantity=curves.quantity + f" {edge}", value=curves[edge]) for edge in ("min", "max")]
    curves = pd.concat([curves, *edges]).dropna(subset="value")
    frames = []
    for (quantity, norm, lr, layer), curve in curves.groupby(["quantity", "norm", "lr", "layer"], dropna=False):
        name, unit = PAPER_QUANTITIES[quantity]
        step = np.arange(curve.step.min(), curve.step.max() + 1, PAPER_FIGURES[figure])
        value = np.interp(step, curve.step, curve.value) * unit
        arm = Arm(norm, lr, dose=float(norm == "noisy"))
        keys = {"arm": arm.name, "norm": norm, "lr": lr, "dose": arm.dose or np.nan, "layer": layer, "quantity": name}
        frames.append(pd.DataFrame({"step": step, "value": value}).assign(**keys))
    frame = pd.concat(frames, ignore_index=True).reindex(columns=COLUMNS)
    return with_derived(frame, smooth=SMOOTH_PAPER) if figure in ("1a", "2", "3a", "5a", "12") else frame
