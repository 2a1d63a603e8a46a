"""Everything that can be measured and kept: what each record measures, and which of them an experiment needs.

The atom is the run: one arm, one seed, trained once with every quantity that any chapter needs.
"""

import collections
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bnutils import data, linear, norms, presets, seeds, theory
from bnutils.instruments import (
    CARRIED,
    ActivationProbe,
    GradientProbe,
    MapProbe,
    MovementProbe,
    PenalisedProbe,
    RescaledMinimaProbe,
    RunProbe,
    both_sides,
)
from bnutils.linear import Linear
from bnutils.presets import BATCHES, BOUND, CORRELATIONS, FULL, RATIOS, SIGMAS, Arm, Map, Setting, quadratic_case
from bnutils.store import Record, cpu_name, device_name, finished
from bnutils.train import Probe, Row, Schedule, collect, one_thread, train

BEGINNING = 20  # the steps that are trained again to check a record
# What the layers behind a random one have for a non-linearity.
ACTIVATIONS = {"tanh": torch.tanh, "ReLU": torch.relu}


class OfImages(Record):
    """A record of training on the images of its `setting`, which have its `fingerprint`."""

    setting: Setting
    fingerprint: str

    @property
    def preset(self) -> str:
        """The name of its setting."""
        return self.setting.preset

    @property
    def device(self) -> str:
        """What its setting asks for."""
        return self.setting.device


@dataclass(frozen=True)
class Run(OfImages):
    """One arm and one seed of a setting, on data with this fingerprint."""

    setting: Setting
    arm: Arm
    seed: int
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.arm.name}, seed {self.seed}, VGG-{self.setting.vgg.depth} of preset {self.preset}"

    @property
    def carries(self) -> tuple[str, ...]:
        """The experiments whose gradients this arm is measured for, beside the activations that every run carries."""
        if self.setting.recipe.decay:
            return ()  # most probes know the cross-entropy alone: theirs is not the landscape that is trained on
        return tuple(name for name in CARRIED if self.arm in self.setting.arms(name))

    @property
    def kinds(self) -> list[type[RunProbe]]:
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
        for name in (
            "preset",
            "dataset",
            "device",
            "minutes",
            "seeds",
            "few",
            "lrs",
            "slow_lr",
            "doses",
            "linear",
            "map",
            "arrived",
            "recipe",
            "laboratory",
            *(() if self.setting.first else ("first",)),  # records are older than it
        ):
            del what[name]
        what |= self.setting.recipe.key
        return self.key_of(
            what | {"probed": self.setting.probed, "probes": sorted(kind.__name__ for kind in self.kinds)}
        )

    def probes(self, images: data.Images) -> list[tuple[int, Probe]]:
        """What is measured during training, each with every how many steps."""
        return [(getattr(self.setting.schedule, kind.every), kind(self, images)) for kind in self.kinds]

    def measure(self) -> pd.DataFrame:
        """Train it."""
        return train_one(self, images_for(self))

    def beginning(self) -> tuple["Run", int]:
        """The same, trained for a few steps, and the step before which its rows are those of the whole."""
        schedule = replace(self.setting.schedule, steps=min(BEGINNING, self.setting.schedule.steps))
        images_for(self)
        return replace(self, setting=replace(self.setting, schedule=schedule)), schedule.steps

    def seconds(self) -> float:
        """About how long it takes on this device."""
        return step_seconds(self) * self.passes


class VariantRun(Run):
    """A run of a setting with another choice where the paper leaves one open: it has what verdicts on Figs 1, 2 and 4
    need and no more."""

    def __str__(self) -> str:
        return f"{self.arm.name}, seed {self.seed}, VGG-{self.setting.vgg.depth} of preset {self.setting.scale}"

    @property
    def kinds(self) -> list[type[RunProbe]]:
        """The probes that it carries."""
        if self.setting.recipe.decay:
            return [MovementProbe, PenalisedProbe] if self.arm in self.setting.arms("landscape") else [MovementProbe]
        return [MovementProbe, *(kind for kind in super().kinds if kind is GradientProbe)]


class ByHeartRun(VariantRun):
    """A run on so few images that it learns them by heart: what is along its gradients is measured."""

    @property
    def kinds(self) -> list[type[RunProbe]]:
        """The probes that it carries."""
        return [GradientProbe]


class AugmentedRun(Run):
    """A run on images that are cropped and flipped at random: it is trained for its accuracy and measured for nothing
    else."""

    carries = ()
    kinds = ()


class LaboratoryRun(VariantRun):
    """A run of one combination of the laboratory's choices: what its picture shows is measured."""

    carries = ()

    @property
    def kinds(self) -> list[type[RunProbe]]:
        """The probes that it carries."""
        return [ActivationProbe, GradientProbe]


class ShallowRun(Run):
    """A run of the shallow network of chapter 9: it is measured for that chapter and for no other."""

    carries = ()

    @property
    def kinds(self) -> list[type[RunProbe]]:
        """The probes that it carries."""
        return [RescaledMinimaProbe]


@dataclass(frozen=True)
class LinearRun(Record):
    """One arm of the deep linear network with all its seeds, which are trained in one batched pass."""

    linear: Linear
    arm: Arm
    preset: str
    double = True

    def __str__(self) -> str:
        return f"{self.arm.name}, deep linear network of preset {self.preset}"

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
        return finished(frame.assign(**self.arm.keys), self, began, dataset="Gaussian data", device=cpu_name())

    def beginning(self) -> tuple["LinearRun", int]:
        """The same, trained for a few steps, and the step before which its rows are those of the whole."""
        short = replace(self.linear, steps=min(BEGINNING, self.linear.steps))
        return replace(self, linear=short), short.steps

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
    double = True
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
        return finished(
            linear.fit(self.linear, shares=[self.share]), self, began, dataset="Gaussian data", device=cpu_name()
        )

    def seconds(self) -> float:
        """About how long it takes on this device."""
        networks = linear.Networks(self.linear, "batch", self.linear.seeds)
        step = min(_timed(lambda: networks.gradient(networks.parameters)) for _ in range(5))
        return step * self.linear.fitted * len(self.linear.lrs) * len(self.choices) * 2


@dataclass(frozen=True)
class RandomLayers(Record):
    """Both sides of every theorem on random units: a loss that sets the correlation of gradient and output, and losses
    that go on with further layers. An arm is a case; nothing is trained."""

    seeds: tuple[int, ...]
    preset: str
    double = True
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
        return finished(frame, self, began, dataset="random layers", device=cpu_name())

    def seconds(self) -> float:
        """About how long it takes on this device."""
        cases = list(self.cases(self.seeds[0]))
        middle = cases[len(cases) // 2][1]
        return _timed(lambda: [*both_sides(middle), *both_sides_over_inputs(middle)]) * len(cases) * len(self.seeds)


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
class MapRun(OfImages):
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

    def __str__(self) -> str:
        return f"{self.norm}, weights x {self.scale:g}, seed {self.seed}, map of preset {self.preset}"

    @property
    def key(self) -> str:
        """What tells this record from every other."""
        what = asdict(self.grid) | {"norm": self.norm, "scale": self.scale, "seed": self.seed, "data": self.fingerprint}
        for name in ("norms", "scales", "seeds", "trains"):
            del what[name]
        return self.key_of(what | self.setting.recipe.key)

    def run(self, lr: float) -> Run:
        """The network, the learning rate and the batches of one training."""
        setting = replace(self.setting, vgg=self.grid.vgg, batch=self.grid.batch)
        arm = Arm(self.norm, lr, dose=float(self.norm.startswith("noisy")))
        return Run(setting, arm, self.seed, self.fingerprint)

    def measure(self) -> pd.DataFrame:
        """Train it at each learning rate."""
        began = time.perf_counter()
        images = images_for(self)
        frames = [map_one(self, lr, images) for lr in self.grid.lrs]
        dose = self.run(self.grid.main).arm.dose or np.nan
        same = {"norm": self.norm, "dose": dose, "scale": self.scale, "seed": self.seed}
        frame = pd.concat(frames, ignore_index=True).assign(**same)
        frame = finished(frame, self, began, dataset=images.name, device=device_name(images.train_x.device))
        diverged = int((frame.quantity == "diverged").sum())
        frame.attrs["provenance"]["status"] = f"{diverged} of {len(frames)} diverged"
        return frame

    def beginning(self) -> tuple["MapRun", int]:
        """The same at the main learning rate and one beside it, trained until just after its early step, and the step
        before which its rows are those of the whole."""
        at = min(self.grid.lrs.index(self.grid.main), len(self.grid.lrs) - 2)
        short = replace(self.grid, lrs=self.grid.lrs[at : at + 2], steps=self.grid.early + 1)
        images_for(self)
        return replace(self, grid=short), short.steps

    def seconds(self) -> float:
        """About how long it takes on this device, if none diverges."""
        return step_seconds(self.run(self.grid.main)) * self.grid.steps * len(self.grid.lrs)


def build(setting: Setting, arm: Arm, seed: int, images: data.Images) -> nn.Module:
    """The network of one run, on the device of its images: weights depend on the seed alone, not on the arm."""
    recipe = setting.recipe
    make_norm = partial(norms.make, arm.norm, seed=seed, dose=arm.dose, epsilon=recipe.epsilon, noise=recipe.noise)
    generator = seeds.generator(seed, "weights")
    channels, classes = images.train_x.shape[1], len(images.classes)
    model = setting.vgg.build(make_norm, channels=channels, classes=classes, generator=generator, init=recipe.init)
    return model.to(images.train_x.device)


def train_one(run: Run, images: data.Images) -> pd.DataFrame:
    """Train one run and return its tidy frame; `attrs["provenance"]` says where, when, how long and how it ended."""
    began = time.perf_counter()
    frame = tidy(run, training(run, images))
    return finished(frame, run, began, dataset=images.name, device=device_name(images.train_x.device))


def tidy(run: Run, rows: Iterable[Row]) -> pd.DataFrame:
    """Rows of a run as a frame, with what tells them from those of other runs."""
    return pd.DataFrame(collect(rows)).assign(seed=run.seed, **run.arm.keys)


def training(run: Run, images: data.Images) -> Iterator[Row]:
    """The rows of a run, as it is trained."""
    setting = run.setting
    schedule, recipe = setting.schedule, setting.recipe
    drawn = {"seed": run.seed, "device": images.train_x.device}
    return train(
        build(setting, run.arm, run.seed, images),
        images,
        order=data.batches(len(images.train_x), setting.batch, steps=schedule.steps, **drawn),
        lr=run.arm.lr,
        schedule=schedule,
        probes=run.probes(images),
        decay=recipe.decay,
        crops=data.crops(schedule.steps, setting.batch, **drawn) if recipe.augment else None,
    )


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
    decay = run.setting.recipe.decay
    rows = train(model, images, order=order, lr=lr, schedule=schedule, probes=[(grid.early, look)], decay=decay)
    frame = pd.DataFrame(collect(rows)).drop(columns=["eta", "bin"]).astype({"layer": "Int64"})
    frame = frame.assign(arm=run.arm.name, lr=lr)
    late = frame[frame.quantity == "train_accuracy"].tail(max(1, grid.steps // 5))
    frame = frame[~frame.quantity.isin(["loss", "train_accuracy"])]
    frame = frame[(frame.quantity != "test_accuracy") | (frame.step == grid.steps)]
    if (frame.quantity == "diverged").any():
        return frame
    end = late.head(1).assign(quantity="end_accuracy", step=grid.steps, value=late.value.mean())
    return pd.concat([frame, end])


@cache
def images_of(dataset: str, device: str) -> data.Images:
    """The images of this name on this device, loaded once in a process."""
    return data.load(dataset, device=data.device(device))


def images_for(record: OfImages) -> data.Images:
    """The images of a record, of those for training the ones that it trains on.

    Raises ValueError where those on this machine are others, and what `data.load` raises.
    """
    images = images_of(record.setting.dataset, record.setting.device)
    if images.fingerprint != record.fingerprint:
        raise ValueError(
            f"{record.setting.dataset} has the fingerprint {images.fingerprint} here; the record is of "
            f"{record.fingerprint}: give every machine the same images"
        )
    first = record.setting.first
    return replace(images, train_x=images.train_x[:first], train_y=images.train_y[:first])


def identity_of(setting: Setting) -> tuple[str, int]:
    """The fingerprint of a setting's images and how many classes they have; loads them only where that is not known."""
    if there := data.known(setting.dataset):
        return there
    images = images_of(setting.dataset, setting.device)
    return images.fingerprint, len(images.classes)


def needed(setting: Setting, name: str) -> list[Record]:
    """Everything that an experiment needs."""
    preset, lin = setting.preset, setting.linear
    if name in ("linear", "linear_landscape"):  # Fig. 3b has two learning rates, Fig. 10 the first
        lrs = lin.lrs if name == "linear" else lin.lrs[:1]
        return [LinearRun(lin, Arm(norm, lr), preset) for lr in lrs for norm in ("batch", "none")]
    if name == "linear_norms":
        arms = [Arm(norm, lin.lrs[0]) for norm in linear.NORMS]
        return [LinearRun(replace(lin, seeds=lin.seeds_of(arm.norm)), arm, preset) for arm in arms]
    if name == "choices":
        return [LinearChoices(lin, share, preset) for share in linear.SHARES]
    if name == "theorems":
        few = setting.seeds_of(name)
        return [*(run for run in needed(setting, "landscape") if run.seed in few), RandomLayers(few, preset)]
    if name == "sensitivity":
        return list({each.key: each for runs in varied(setting).values() for each in runs}.values())
    fingerprint, _ = identity_of(setting)
    if name == "laboratory":
        return [laboratory_run(setting, choice, seed=0) for choice in setting.laboratory.grid]
    if name in ("robustness", "robustness_live"):
        grid = setting.map if name == "robustness" else setting.map.live
        each = product(grid.norms, grid.seeds, grid.scales)
        return [MapRun(setting, grid, norm, scale, seed, fingerprint) for norm, seed, scale in each]
    pairs = product(setting.seeds_of(name), setting.arms("minima" if name == "shallow" else name))
    kind = {"shallow": ShallowRun, "augmented": AugmentedRun, "by_heart": ByHeartRun}.get(name)
    if kind:  # these have a setting of their own, of the experiment's name
        return [kind(getattr(setting, name), arm, seed, fingerprint) for seed, arm in pairs]
    return [Run(setting, arm, seed, fingerprint) for seed, arm in pairs]


def asked_for(dataset: str | None = None) -> dict[str, Record]:
    """By key, every record that an experiment of a preset asks for: on images of known fingerprint, and on these."""
    photographs = [*filter(data.known, ("cifar10", "cifar10-jpeg")), *([dataset] if dataset else [])]
    settings = [
        presets.get(name, dataset=each)
        for name, preset in presets.PRESETS.items()
        for each in (["digits"] if preset.dataset == "digits" else photographs)
    ]
    return {each.key: each for setting in settings for name in presets.EXPERIMENTS for each in needed(setting, name)}


def laboratory_run(setting: Setting, choice: tuple, *, seed: int) -> LaboratoryRun:
    """The run of one combination of the laboratory's choices."""
    chosen, arm = setting.chosen(*choice)
    return LaboratoryRun(chosen, arm, seed, identity_of(setting)[0])


def varied(setting: Setting) -> dict[str, list[Run]]:
    """The runs of each variant of a setting, by its words: the setting's own where an arm does not meet the change."""
    fingerprint, _ = identity_of(setting)

    def run(variant: Setting, arm: Arm, seed: int) -> Run:
        if variant.met_by(arm.norm) == setting.met_by(arm.norm):
            return Run(setting, arm, seed, fingerprint)
        return VariantRun(variant, arm, seed, fingerprint)

    arms = list(product(setting.seeds_of("sensitivity"), setting.arms("sensitivity")))
    return {words: [run(each, arm, seed) for seed, arm in arms] for words, each in setting.variants.items()}


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@cache
def step_seconds(run: Run) -> float:
    """Seconds for a step of this run, on one thread as in a worker: the fastest of three. Timed once in a process."""
    images = images_of(run.setting.dataset, run.setting.device)
    images = replace(images, test_x=images.test_x[:1], test_y=images.test_y[:1])
    marks = []
    order = data.batches(len(images.train_x), run.setting.batch, steps=4, seed=run.seed, device=images.train_x.device)

    def mark(_model: nn.Module, x: Tensor, _y: Tensor) -> list[Row]:
        float(x.sum())  # waits for the device
        marks.append(time.perf_counter())
        return []

    schedule = Schedule(steps=4, probe_every=1, gradient_every=4, test_every=4, landmark_every=4)
    with one_thread():
        model = build(run.setting, run.arm, run.seed, images)
        rows = train(model, images, order=order, lr=run.arm.lr, schedule=schedule, probes=[(1, mark)])
        collections.deque(rows, maxlen=0)
    return min(np.diff(marks)[1:], default=0.0)
