"""smoke, quick, cifar, paper: what is run, as frozen tables, each value with its source in the paper."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real

from bnutils import data, models, norms, train
from bnutils.linear import Linear

# The layers that each experiment draws: activations in Figs 1c, 2 and 8, gradients in Fig. 3; none in Fig. 4.
LAYERS = {"speed": (3, 11), "noise": (2, 9, 13), "shift": (5, 10), "landscape": (), "mistakes": (), "minima": ()}
# All experiments: those of the VGG, and the deep linear network's own and the choices that it leaves open; the minima
# of a shallow network.
EXPERIMENTS = (*LAYERS, "linear", "choices", "shallow")
# The step lengths of the landscape, in units of the learning rate: the paper's four (read from the points of its Fig.
# 11), and one below them that is ours and tells a saturated probe from a curved landscape.
ETAS = (1 / 4, 1 / 2, 1, 2, 4)


@dataclass(frozen=True)
class Arm:
    """One condition: a normalizer, a learning rate and, for the noisy ones, the dose of noise (1 is the paper's)."""

    norm: str
    lr: float
    dose: float = 0.0

    def __post_init__(self):
        norms.check(self.norm)
        if not isinstance(self.lr, Real) or not self.lr > 0:
            raise ValueError(f"learning rate {self.lr!r}: accepted is a number above 0")
        if not isinstance(self.dose, Real) or (self.dose > 0) != self.norm.startswith("noisy"):
            raise ValueError(f"dose {self.dose!r} with norm {self.norm!r}: noisy norms need one above 0, the others 0")

    @property
    def name(self) -> str:
        """The arm's label in every frame: normalizer, dose where it is not the paper's, learning rate."""
        dose = f" x{self.dose:g}" if self.dose not in (0, 1) else ""
        return f"{self.norm}{dose} {self.lr:g}"


@dataclass(frozen=True)
class Setting:
    """Everything that a run needs to know except its arm and its seed. Validated on construction, before any training.

    lrs: the first is the main one, the last the large one. slow_lr: the second rate of Fig. 3. linear: the deep linear
    network, at the paper's full scale in all presets that conclude anything.
    minutes: what a page may spend on measuring before it says what is missing instead.
    """

    preset: str
    dataset: str
    vgg: models.VGG
    schedule: train.Schedule
    batch: int = 128
    lrs: tuple[float, ...] = (0.1, 0.5)
    slow_lr: float = 0.01
    doses: tuple[float, ...] = (4.0, 8.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    linear: Linear = field(default_factory=Linear)
    device: str = "auto"
    minutes: float = 30.0

    def __post_init__(self):
        data.device(self.device)
        data.check(self.dataset)
        if len(set(self.seeds)) < max(2, len(self.seeds)):
            raise ValueError(f"seeds {self.seeds!r}: accepted are two or more different ones, for a spread")
        if len(set(self.lrs)) < max(2, len(self.lrs)):
            raise ValueError(f"learning rates {self.lrs!r}: accepted are two or more different ones")
        if not isinstance(self.minutes, Real) or not self.minutes >= 0:
            raise ValueError(f"minutes is {self.minutes!r}: accepted is a number of at least 0")
        for experiment in LAYERS:
            self.arms(experiment)

    @property
    def scale(self) -> str:
        """The preset's name, and what of it was changed, for a verdict to say."""
        preset = PRESETS[self.preset]
        names = [each.name for each in fields(self) if each.name not in ("device", "minutes", "linear")]
        changed = [name for name in names if getattr(self, name) != getattr(preset, name)]
        return self.preset + (f" with another {', '.join(changed)}" if changed else "")

    @property
    def linear_scale(self) -> str:
        """The scale of the deep linear network, for a verdict to say; the paper does not state that of its data."""
        data = {"variance_x": self.linear.variance_x, "variance_A": self.linear.variance_A}
        size = (
            "the paper's full scale" if self.linear == replace(Linear(), **data) else "another scale than the paper's"
        )
        return f"{size}, var x {self.linear.variance_x:g}, var A {self.linear.variance_A:g}"

    def layers(self, experiment: str) -> tuple[int, ...]:
        """The layers that an experiment draws: the paper's, or the last hidden layer where a network is shorter."""
        return tuple(min(layer, self.vgg.layers - 1) for layer in LAYERS[experiment])

    @property
    def probed(self) -> tuple[int, ...]:
        """The layers whose activations any experiment draws: each run carries them all."""
        return tuple(sorted({layer for experiment in ("speed", "noise") for layer in self.layers(experiment)}))

    @property
    def shallow(self) -> "Setting":
        """The same with the shallow network in place of its own."""
        return replace(self, vgg=replace(self.vgg, depth="S"))

    def arms(self, experiment: str) -> list[Arm]:
        """The arms of an experiment.

        speed: Fig. 1. noise: Figs 2 and 8, and the dose-response. shift: Fig. 3a. landscape: Figs 4 and 11. mistakes:
        chapter 5, on the arms of Fig. 1. minima: chapter 9, on those of the landscape.
        """
        if experiment not in LAYERS:
            raise ValueError(f"unknown experiment {experiment!r}: accepted are {', '.join(LAYERS)}")
        rates = {
            "speed": self.lrs,
            "mistakes": self.lrs,
            "shift": (self.lrs[0], self.slow_lr),
            "landscape": self.lrs[:1],
            "minima": self.lrs[:1],
        }
        if experiment in rates:
            return [Arm(norm, lr) for lr in dict.fromkeys(rates[experiment]) for norm in ("none", "batch")]
        noisy = [Arm("noisy", self.lrs[0], dose) for dose in sorted({1.0, *self.doses})]
        return [Arm("none", self.lrs[0]), Arm("batch", self.lrs[0]), *noisy, Arm("noisy_none", self.lrs[0], 1.0)]


# App. A.1: 15,000 steps, batch 128, learning rate 0.1; 0.5 from Fig. 1. The paper logs every 100 steps and tests
# every 1000: read from the points of its figures. Depth and head are open: see models.VGG. Doses beyond 1 and seeds
# are ours.
PRESETS = {
    "paper": Setting(
        preset="paper",
        dataset="cifar10",
        vgg=models.VGG(),
        schedule=train.Schedule(
            steps=15_000, probe_every=100, gradient_every=100, test_every=1000, landmark_every=3750
        ),
    ),
    # The paper's experiment made small enough for a CPU: its data, batch and learning rates, a narrow net, a tenth of
    # the steps.
    "cifar": Setting(
        preset="cifar",
        dataset="cifar10",
        vgg=models.VGG(depth="B", width=1 / 4),
        schedule=train.Schedule(steps=1500, probe_every=25, gradient_every=25, test_every=150, landmark_every=375),
    ),
    # Handwritten digits; B at an eighth of the width has the thirteen layers that the paper's figures number. A narrow
    # head and half the paper's batch, so that the plain network can have the steps it needs to arrive in a page's time.
    "quick": Setting(
        preset="quick",
        dataset="digits",
        vgg=models.VGG(depth="B", width=1 / 8, head=512),
        schedule=train.Schedule(steps=720, probe_every=10, gradient_every=30, test_every=40, landmark_every=360),
        batch=64,
    ),
    # Proves that a chapter runs, in seconds; concludes nothing.
    "smoke": Setting(
        preset="smoke",
        dataset="digits",
        vgg=models.VGG(depth="B", width=1 / 32),
        schedule=train.Schedule(steps=8, probe_every=2, gradient_every=2, test_every=4, landmark_every=4),
        batch=32,
        doses=(4.0,),
        seeds=(0, 1),
        linear=Linear(steps=20, probe_every=10, seeds=(0, 1)),
    ),
}


def get(
    name: str,
    *,
    dataset: str | None = None,
    device: str | None = None,
    depth: str | None = None,
    steps: int | None = None,
    seeds: int | None = None,
    lrs: Sequence[float] | None = None,
    slow_lr: float | None = None,
    doses: Sequence[float] | None = None,
    variances: Sequence[float] | None = None,
    linear_steps: int | None = None,
    linear_seeds: int | None = None,
    minutes: float | None = None,
) -> Setting:
    """The preset `name`, with what is not None changed. Raises ValueError, in one line, for what is not accepted.

    variances, of x and of A, linear_steps and linear_seeds are of the deep linear network.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: accepted are {', '.join(PRESETS)}")
    preset = PRESETS[name]
    for count in (seeds, linear_seeds):
        if count is not None and (not isinstance(count, int) or count < 2):
            raise ValueError(f"{count!r} seeds: accepted are two or more, since every verdict needs a spread")
    if variances is not None and (not isinstance(variances, list | tuple) or len(variances) != 2):
        raise ValueError(f"variances is {variances!r}: accepted are two numbers in a list, of x and of A")
    x, A = variances or (preset.linear.variance_x, preset.linear.variance_A)
    for what, values, accepted in (("lrs", lrs, "two or more numbers"), ("doses", doses, "numbers")):
        if values is not None and not isinstance(values, list | tuple):
            raise ValueError(f"{what} is {values!r}: accepted are {accepted} in a list")
    return replace(
        preset,
        dataset=preset.dataset if dataset is None else dataset,
        device=preset.device if device is None else device,
        vgg=preset.vgg if depth is None else replace(preset.vgg, depth=depth),
        schedule=preset.schedule if steps is None else replace(preset.schedule, steps=steps),
        seeds=preset.seeds if seeds is None else tuple(range(seeds)),
        lrs=preset.lrs if lrs is None else tuple(lrs),
        slow_lr=preset.slow_lr if slow_lr is None else slow_lr,
        linear=replace(
            preset.linear,
            variance_x=x,
            variance_A=A,
            steps=preset.linear.steps if linear_steps is None else linear_steps,
            seeds=preset.linear.seeds if linear_seeds is None else tuple(range(linear_seeds)),
        ),
        doses=preset.doses if doses is None else tuple(doses),
        minutes=preset.minutes if minutes is None else minutes,
    )


def check_parameters(cells: Sequence[str]) -> None:
    """Stop a notebook that papermill was given a parameter it does not have, which papermill itself lets pass.

    `cells` is IPython's `In`. Papermill puts a cell that begins with `# Parameters` after the notebook's own
    parameters; names assigned there must be assigned before. Raises ValueError, in one line.
    """
    injected = [number for number, cell in enumerate(cells) if cell.startswith("# Parameters\n")]
    if not injected:
        return
    given, known = _assigned(cells[injected[-1]]), [name for cell in cells[: injected[-1]] for name in _assigned(cell)]
    for name in given:
        if name not in known:
            raise ValueError(f"unknown parameter {name!r}: accepted are {', '.join(known)}")


def _assigned(cell: str) -> list[str]:
    """The names that the top level of a cell assigns."""
    assignments = [node for node in ast.parse(cell).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [node.target if isinstance(node, ast.AnnAssign) else node.targets[0] for node in assignments]
    return [target.id for target in targets if isinstance(target, ast.Name)]
