"""The paper's claims, each with the criterion that decides it, and the judge that computes a verdict from a frame.

Criteria are written before the runs that they judge; the repository's history shows it. A claim has parts; each part is
one effect, computed for every seed, and a range in which the effect must lie. A part holds when the whole 95 % t
interval over seeds lies in the range, fails when the whole interval lies outside, and is open otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bnutils.quantities import LEVEL

ARRIVED = 0.9  # the accuracy that counts as having learned to classify the training set
UNTRAINED = 0.2  # twice the accuracy of guessing among ten classes
SIGNS = {"reproduced": "✓", "partly": "◐", "not reproduced": "✗", "inconclusive": "?"}
HOLDS = {True: "yes", False: "no", None: "open"}


# ---- effects: frame -> one value for each seed ---------------------------------------------------------------------


def _arm(frame: pd.DataFrame, norm: str, lr: float, *, dose: float | None = None) -> pd.DataFrame:
    """The rows of one arm; the noisy norms stand for the paper's dose unless another is asked for."""
    rows = frame[(frame.norm == norm) & (frame.lr == lr)]
    if norm.startswith("noisy"):
        rows = rows[rows.dose == (1.0 if dose is None else dose)]
    return rows.assign(seed=rows.seed.fillna(-1))  # the paper's curves have no seed: they are one run


def _seeds(frame: pd.DataFrame) -> pd.Index:
    return pd.Index(sorted(frame.seed.fillna(-1).unique()), name="seed")


def steps_to(frame: pd.DataFrame, norm: str, lr: float, *, dose: float | None = None) -> pd.Series:
    """By seed, the first step at which the smoothed training accuracy is at least 0.9; the length of training if never.

    The length stands in for "later than we trained", which understates how slow such a run is. NaN for a seed that was
    not run.
    """
    run = _seeds(_arm(frame, norm, lr, dose=dose))
    steps = arrival(frame, norm, lr, dose=dose).reindex(run).fillna(frame.step.max())
    return steps.reindex(_seeds(frame)).astype(float).clip(lower=1)


def arrival(frame: pd.DataFrame, norm: str, lr: float, *, dose: float | None = None) -> pd.Series:
    """By seed, the first step at which the smoothed training accuracy is at least 0.9; NaN for a run that never is."""
    arm = _arm(frame, norm, lr, dose=dose)
    steps = arm[(arm.quantity == "smooth_accuracy") & (arm.value >= ARRIVED)].groupby("seed").step.min()
    return steps.reindex(_seeds(frame)).astype(float).clip(lower=1)


def in_words(frame: pd.DataFrame, norm: str, lr: float) -> str:
    """The median of `steps_to` over seeds, or that half of the runs and more never arrived."""
    there = arrival(frame, norm, lr)
    if there.count() <= len(there) / 2:
        return f"more than {frame.step.max():,.0f} steps"
    return f"{steps_to(frame, norm, lr).median():,.0f} steps"


def final_accuracy(frame: pd.DataFrame, quantity: str, norm: str, lr: float) -> pd.Series:
    """By seed, the mean accuracy over the last fifth of training; zero for a run that diverged, NaN for none at all."""
    arm, seeds = _arm(frame, norm, lr), _seeds(frame)
    late = arm[(arm.quantity == quantity) & (arm.step >= 0.8 * frame.step.max())].groupby("seed").value.mean()
    diverged = arm[arm.quantity == "diverged"].seed
    return late.reindex(seeds).mask(seeds.isin(diverged), 0.0).astype(float)


def movement(frame: pd.DataFrame, quantity: str, norm: str, lr: float, *, layer: int, relative: bool) -> pd.Series:
    """By seed, the mean over training of a layer's change of moments; `relative` divides by its standard deviation."""
    moved = average(frame, quantity, norm, lr, layer=layer)
    return moved / average(frame, "layer_deviation", norm, lr, layer=layer) if relative else moved


def typical(
    frame: pd.DataFrame,
    quantity: str,
    norm: str,
    lr: float,
    *,
    layer: int | None = None,
    since: float = 0.0,
    share: float = 1.0,
) -> pd.Series:
    """By seed, the median of a quantity over the looks from `since` to `share` of training: by default all of them."""
    arm, steps = _arm(frame, norm, lr), frame.step.max()
    rows = arm[(arm.quantity == quantity) & (arm.step >= since * steps) & (arm.step <= share * steps)]
    rows = rows if layer is None else rows[rows.layer == layer]
    return rows.groupby("seed").value.median().reindex(_seeds(frame)).astype(float)


def average(frame: pd.DataFrame, quantity: str, norm: str, lr: float, *, layer: int) -> pd.Series:
    """By seed, the mean of a quantity of one layer over all looks."""
    arm = _arm(frame, norm, lr)
    values = arm[(arm.quantity == quantity) & (arm.layer == layer)].groupby("seed").value.mean()
    return values.reindex(_seeds(frame)).astype(float)


def band(frame: pd.DataFrame, low: str, high: str) -> pd.DataFrame:
    """The frame with rows `band`: the width of a band at every look, high minus low."""
    keys = ["arm", "norm", "lr", "dose", "seed", "step"]
    edges = (frame[frame.quantity == name].set_index(keys).value for name in (high, low))
    width = next(edges) - next(edges)
    return pd.concat([frame, width.reset_index().assign(quantity="band")], ignore_index=True)


def late(frame: pd.DataFrame, quantity: str, norm: str, lr: float) -> pd.Series:
    """By seed, the median of a quantity over the looks at the last fifth of training."""
    return typical(frame, quantity, norm, lr, since=0.8)


def learning(frame: pd.DataFrame, *, low: float = 0.2, high: float = 0.99) -> pd.DataFrame:
    """The rows of each run at steps where its own smoothed training accuracy lies between `low` and `high`."""
    run = ["arm", "seed", "step"]
    accuracy = frame[(frame.quantity == "smooth_accuracy") & frame.value.between(low, high)][run].drop_duplicates()
    return frame.merge(accuracy, on=run)


def log2_ratio(slow: pd.Series, fast: pd.Series) -> pd.Series:
    """log2(slow / fast), paired by seed: 1 is twice."""
    return np.log2(slow / fast)


def around_minimum(frame: pd.DataFrame, quantity: str, norm: str, lr: float, *, factor: float = 1.0) -> pd.Series:
    """By seed, a quantity around the network where its training loss is that at which networks are compared.

    Of eigenvalues, that of weights in front of normalizers times `factor`. NaN for a run that never came to that loss.
    """
    arm = _arm(frame, norm, lr)
    loss = arm[arm.quantity == "minimum_loss"].set_index("seed").value.astype(float)
    there = loss.index[loss.between(LEVEL / 2, LEVEL)]
    rows = arm[(arm.quantity == quantity) & (arm.eta.isna() | (arm.eta == factor)) & arm.seed.isin(there)]
    return rows.set_index("seed").value.astype(float).reindex(_seeds(frame))


def flatness(frames: dict[str, pd.DataFrame], quantities: dict[str, str], *, lr: float) -> pd.DataFrame:
    """What each measure says of Standard over BatchNorm: columns network (the frame's name), measure, none, batch
    (geometric means over seeds), ratio, low, high (95 % t interval, paired by seed) and flatter: the network on whose
    side the interval lies, or "open".

    quantities: the words of each. A value that is not above 0 has no ratio and leaves its row open.
    """
    rows = []
    for network, frame in frames.items():
        for quantity, words in quantities.items():
            both = {norm: around_minimum(frame, quantity, norm, lr) for norm in ("none", "batch")}
            logs = {norm: np.log2(values.where(values > 0)) for norm, values in both.items()}
            ratio = logs["none"] - logs["batch"]
            low, high = interval(ratio)
            row = {"network": network, "measure": words} | {norm: 2 ** log.mean() for norm, log in logs.items()}
            row |= {"ratio": 2 ** ratio.mean(), "low": 2**low, "high": 2**high}
            rows.append(row | {"flatter": "BatchNorm" if low > 0 else "Standard" if high < 0 else "open"})
    return pd.DataFrame(rows)


def minima_points(frames: dict[str, pd.DataFrame], *, lr: float) -> pd.DataFrame:
    """One row for each network that came to the loss at which minima are compared: network (the frame's name), norm,
    seed, and each quantity measured there; the frames are those of the networks."""
    names = ["minimum_loss", "minimum_accuracy", "eigenvalue", "eigenvalue_normalized", "sharpness"]
    parts = [pd.DataFrame(columns=["network", "norm", "seed", *names, "sharpness_adaptive"])]
    for network, frame in frames.items():
        for norm in ("none", "batch"):
            columns = {name: around_minimum(frame, name, norm, lr) for name in [*names, "sharpness_adaptive"]}
            found = pd.DataFrame(columns).dropna(subset="minimum_loss").reset_index()
            parts.append(found.assign(network=network, norm=norm))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def rank_correlation(x: pd.Series, y: pd.Series) -> dict[str, float]:
    """Spearman's rank correlation rho of the pairs that both have: rho, low, high, n.

    low, high: the 95 % interval by Fisher's transformation with the standard error sqrt(1.06 / (n - 3)) (Fieller,
    Hartley and Pearson 1957), -1 to 1 for fewer than four pairs or where one of the two does not vary. It takes the
    pairs for independent.
    """
    both = pd.DataFrame({"x": x, "y": y}).astype(float).replace([np.inf, -np.inf], np.nan).dropna()
    n = len(both)
    if n < 4 or both.x.nunique() == 1 or both.y.nunique() == 1:
        return {"rho": np.nan, "low": -1.0, "high": 1.0, "n": n}
    rho = float(both.x.corr(both.y, method="spearman"))
    reach = 1.96 * np.sqrt(1.06 / (n - 3))
    with np.errstate(divide="ignore"):
        low, high = np.tanh(np.arctanh(np.clip(rho, -1, 1)) + np.array([-reach, reach]))
    return {"rho": rho, "low": float(low), "high": float(high), "n": n}


# ---- claims --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One effect, by seed, and the open range (low, high) for its interval; `show` turns a value into words."""

    label: str
    effect: Callable[[pd.DataFrame], pd.Series]
    low: float = -np.inf
    high: float = np.inf
    show: Callable[[float], str] = "{:.2f}".format


@dataclass(frozen=True)
class Claim:
    """One claim of the paper: where it stands, how it is decided, what would refute it, at which scales it is judged.

    parts: from a setting (its learning rates and layers) to the parts. compares: what their values are. ten_classes:
    the criterion knows the accuracy of guessing among ten. linear: it is about the deep linear network, whose scale is
    the paper's in every preset that judges. scales: presets whose runs can decide it.
    """

    statement: str
    place: str
    criterion: str
    refuted_by: str
    parts: Callable[[Any], list[Part]]
    compares: str
    ten_classes: bool = False
    linear: bool = False
    scales: tuple[str, ...] = ("quick", "cifar", "paper")
    unfit: str = "it proves that a page runs and decides nothing"

    def _repr_html_(self) -> str:
        rows = {"The paper": self.place, "It holds if": self.criterion, "It falls if": self.refuted_by}
        items = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in rows.items())
        return f'<div class="claim"><p><strong>Claim.</strong> {escape(self.statement)}</p><dl>{items}</dl></div>'


def _times(effect: float) -> str:
    ratio = 2.0**effect
    return f"{ratio:,.0f}\N{NO-BREAK SPACE}×" if ratio >= 100 else f"{ratio:.4g}\N{NO-BREAK SPACE}×"


def _points(effect: float) -> str:
    return f"{100 * effect:.1f} points"


def _percent(effect: float) -> str:
    return f"{100 * effect:.1f}\N{NO-BREAK SPACE}%"


def _speed(setting: Any) -> list[Part]:
    lr = setting.lrs[0]

    def effect(frame: pd.DataFrame) -> pd.Series:
        # Standard may be late, which understates the ratio; BatchNorm must arrive, or there is none.
        return log2_ratio(steps_to(frame, "none", lr), arrival(frame, "batch", lr))

    return [Part(f"Standard over BatchNorm, {lr:g}", effect, low=np.log2(1.5), show=_times)]


def _test_accuracy(setting: Any) -> list[Part]:
    lr = setting.lrs[0]

    def effect(frame: pd.DataFrame) -> pd.Series:
        return final_accuracy(frame, "test_accuracy", "batch", lr) - final_accuracy(frame, "test_accuracy", "none", lr)

    return [Part(f"BatchNorm minus Standard, {lr:g}", effect, low=0.01, show=_points)]


def _large_steps(setting: Any) -> list[Part]:
    lr = setting.lrs[-1]
    return [
        Part(
            f"BatchNorm, {lr:g}",
            lambda f: final_accuracy(f, "train_accuracy", "batch", lr),
            ARRIVED,
            show=_percent,
        ),
        Part(
            f"Standard, {lr:g}",
            lambda f: final_accuracy(f, "train_accuracy", "none", lr),
            high=UNTRAINED,
            show=_percent,
        ),
    ]


def _stability(setting: Any) -> list[Part]:
    def part(layer: int) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            moved = (
                movement(frame, "layer_mean_step", norm, setting.lrs[0], layer=layer, relative=True)
                for norm in ("none", "batch")
            )
            return log2_ratio(*moved)

        return Part(f"layer {layer}: mean, in deviations", effect, -1, 1, _times)

    return [part(layer) for layer in setting.layers("speed")]


def _noisy_speed(setting: Any) -> list[Part]:
    lr = setting.lrs[0]

    def effect(frame: pd.DataFrame) -> pd.Series:
        batch, none = arrival(frame, "batch", lr), steps_to(frame, "none", lr)
        # Between the two there is a middle only where BatchNorm is the faster one.
        return log2_ratio(arrival(frame, "noisy", lr), np.sqrt(batch * none)).where(batch < none)

    return [Part("noisy over the geometric mean of the others", effect, high=0, show=_times)]


def _noisy_stability(setting: Any) -> list[Part]:
    def part(layer: int, what: str, quantity: str, relative: bool) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            moved = (
                movement(frame, quantity, norm, setting.lrs[0], layer=layer, relative=relative)
                for norm in ("noisy", "none")
            )
            return log2_ratio(*moved)

        return Part(f"layer {layer}: {what}", effect, low=0, show=_times)

    kinds = [
        ("mean", "layer_mean_step", False),
        ("variance", "layer_variance_step", False),
        ("mean, in deviations", "layer_mean_step", True),
    ]
    return [part(layer, *kind) for layer in setting.layers("noise") for kind in kinds]


def _noise_alone(setting: Any) -> list[Part]:
    lr = setting.lrs[0]

    def effect(frame: pd.DataFrame) -> pd.Series:
        return final_accuracy(frame, "train_accuracy", "noisy_none", lr)

    return [Part("noise without BatchNorm", effect, high=UNTRAINED, show=_percent)]


def _shift(setting: Any) -> list[Part]:
    def cosine(lr: float, layer: int) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            batch, none = (average(frame, "shift_cosine", norm, lr, layer=layer) for norm in ("batch", "none"))
            return batch - none

        return Part(f"cosine, layer {layer} at {lr:g}: BatchNorm minus Standard", effect, high=0.1)

    def length(lr: float, layer: int) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(*(typical(frame, "shift_l2", norm, lr, layer=layer) for norm in ("batch", "none")))

        return Part(f"distance, layer {layer} at {lr:g}: BatchNorm over Standard", effect, low=-1, show=_times)

    rates, layers = (setting.lrs[0], setting.slow_lr), setting.layers("shift")
    return [kind(lr, layer) for lr in rates for layer in layers for kind in (cosine, length)]


def _linear_cosines(setting: Any, norm: str, low: float, high: float) -> list[Part]:
    def part(lr: float, layer: int) -> Part:
        return Part(f"layer {layer} at {lr:g}", lambda f: average(f, "shift_cosine", norm, lr, layer=layer), low, high)

    return [part(lr, layer) for lr in setting.linear.lrs for layer in setting.linear.layers]


def _linear_standard(setting: Any) -> list[Part]:
    return _linear_cosines(setting, "none", 0.9, np.inf)


def _linear_batch(setting: Any) -> list[Part]:
    return _linear_cosines(setting, "batch", -0.3, 0.3)


def _larger(name: str, measure: Callable, lr: float, least: float) -> list[Part]:
    """Standard over BatchNorm, in the first fifth of training and in all of it."""

    def part(words: str, share: float) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(measure(frame, "none", lr, share), measure(frame, "batch", lr, share))

        return Part(f"{name}, {words}", effect, low=np.log2(least), show=_times)

    return [part("first fifth", 0.2), part("all of training", 1.0)]


def _loss_width(frame: pd.DataFrame, norm: str, lr: float, share: float) -> pd.Series:
    return typical(band(_arm(frame, norm, lr), "loss_low", "loss_high"), "band", norm, lr, share=share)


def _largest_distance(frame: pd.DataFrame, norm: str, lr: float, share: float) -> pd.Series:
    return typical(frame, "distance_high", norm, lr, share=share)


def _beta(frame: pd.DataFrame, norm: str, lr: float, share: float) -> pd.Series:
    return typical(frame, "beta_max", norm, lr, share=share)


def _loss_range(setting: Any) -> list[Part]:
    return _larger("width of the band", _loss_width, setting.lrs[0], 2)


def _predictiveness(setting: Any) -> list[Part]:
    return _larger("largest distance", _largest_distance, setting.lrs[0], 2)


def _two_orders(setting: Any) -> list[Part]:
    return _larger("largest distance", _largest_distance, setting.lrs[0], 30)[:1]


def _smoothness(setting: Any) -> list[Part]:
    return _larger("largest beta", _beta, setting.lrs[0], 1)


def _linear_landscape(setting: Any) -> list[Part]:
    lr = setting.linear.lrs[0]
    measures = {"width of the band": _loss_width, "largest distance": _largest_distance, "largest beta": _beta}
    return [part for name, measure in measures.items() for part in _larger(name, measure, lr, 10)]


def _random_directions(setting: Any) -> list[Part]:
    def part(name: str, quantity: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return log2_ratio(*(typical(frame, quantity, norm, setting.lrs[0]) for norm in ("none", "batch")))

        return Part(name, effect, low=0, show=_times)

    return [part("distance of gradients", "random_distance"), part("beta", "random_beta")]


def _saturation(setting: Any) -> list[Part]:
    lr = setting.lrs[0]

    def beta(norm: str) -> Part:
        return Part(
            f"beta times the paper's shortest step, {norm}",
            lambda f: late(f, "beta_max", norm, lr) * lr / 2,
            0.9,
            1.1,
        )

    def doubled(norm: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return late(frame, "beta_max_short", norm, lr) / late(frame, "beta_max", norm, lr)

        return Part(f"beta with a step half as long, over beta without, {norm}", effect, 1.8, 2.2)

    return [part(norm) for norm in ("none", "batch") for part in (beta, doubled)]


def _edge_of_stability(setting: Any) -> list[Part]:
    lr = setting.linear.lrs[0]

    def part(norm: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            return late(frame[np.isclose(frame.eta, lr, rtol=1e-6, atol=0)], "beta", norm, lr) * lr

        return Part(f"beta at the learning rate, times the learning rate, {norm}", effect, 1.8, 2.2)

    return [part(norm) for norm in ("none", "batch")]


MEASURES = {"eigenvalue_normalized": "filter-normalized eigenvalue", "sharpness_adaptive": "rise in a relative ball"}


def _flatter(setting: Any, low: float, high: float) -> list[Part]:
    lr = setting.lrs[0]

    def part(quantity: str, words: str) -> Part:
        def effect(frame: pd.DataFrame) -> pd.Series:
            none, batch = (around_minimum(frame, quantity, norm, lr) for norm in ("none", "batch"))
            return log2_ratio(none.where(none > 0), batch.where(batch > 0))

        return Part(words, effect, low, high, _times)

    return [part(*each) for each in MEASURES.items()]


def _flat_minima(setting: Any) -> list[Part]:
    return _flatter(setting, 0, np.inf)


def _shallow_not_flatter(setting: Any) -> list[Part]:
    return _flatter(setting, -np.inf, 0)


CLAIMS: dict[str, Claim] = {
    "speed": Claim(
        statement="A network with batch normalization trains faster than the same network without.",
        place="Sec. 2, Fig. 1a (v3 and v5).",
        criterion="at the first learning rate, Standard takes 1.5 times as many steps to 90 % training "
        "accuracy or more.",
        refuted_by="the interval of that ratio lies below 1.5.",
        parts=_speed,
        compares="steps to 90 %",
    ),
    "test_accuracy": Claim(
        statement="It also ends at a better test accuracy.",
        place="Sec. 2, Fig. 1b and App. A.1 (83 % against 80 %; v3 and v5).",
        criterion="over the last fifth of training it is at least one percentage point higher with BatchNorm.",
        refuted_by="the interval of the difference lies below one point.",
        parts=_test_accuracy,
        compares="test accuracy",
        scales=("paper",),
        unfit="digits saturate and short runs do not arrive, so final accuracy is judged at the paper's scale only",
    ),
    "large_steps": Claim(
        statement="Batch normalization makes learning rates usable at which the plain network does not train.",
        place="Sec. 2, Fig. 1a,b at learning rate 0.5 (v3 and v5).",
        criterion="at the larger rate, over the last fifth of training, BatchNorm exceeds 90 % and Standard "
        "stays below 20 %.",
        refuted_by="BatchNorm stays below 90 % and Standard above 20 %; partly, if one part holds and the other fails.",
        parts=_large_steps,
        compares="training accuracy",
        ten_classes=True,
    ),
    "stability": Claim(
        statement="The distributions of activations are hardly more stable with batch normalization than without.",
        place="Sec. 2.1, Fig. 1c (v3 and v5).",
        criterion="in each layer drawn, how far the units' means move, in units of their average standard deviation, "
        "differs by less than a factor 2.",
        refuted_by="the interval of that factor lies above 2 or below one half; partly, if one layer holds and the "
        "other fails.",
        parts=_stability,
        compares="movement, Standard over BatchNorm",
    ),
    "noisy_speed": Claim(
        statement="With noise that shifts its distributions at every step, BatchNorm still trains about as fast.",
        place="Sec. 2.1, Fig. 2 left (v3 and v5).",
        criterion="on a logarithmic scale, its steps to 90 % training accuracy lie nearer to BatchNorm's "
        "than to Standard's.",
        refuted_by="they lie nearer to Standard's.",
        parts=_noisy_speed,
        compares="steps to 90 %",
    ),
    "noisy_stability": Claim(
        statement="The distributions under that noise are less stable than those of the plain network.",
        place="Sec. 2.1, Fig. 2 right and Fig. 8 (v5: Fig. 7).",
        criterion="in each layer drawn, means and variances move more than the plain network's, "
        "the means also in units of their average standard deviation.",
        refuted_by="the intervals of these ratios lie below 1; partly, if one part holds and another fails.",
        parts=_noisy_stability,
        compares="movement, noisy over Standard",
    ),
    "noise_alone": Claim(
        statement="The same noise put on the plain network stops it from training altogether.",
        place="Sec. 2.1 (stated, not drawn; v3 and v5).",
        criterion="its training accuracy over the last fifth stays below 20 %.",
        refuted_by="it rises above 20 %.",
        parts=_noise_alone,
        compares="training accuracy",
        ten_classes=True,
    ),
    "shift": Claim(
        statement="Batch normalization does not reduce internal covariate shift, taken as the movement of gradients.",
        place="Sec. 2.2, Fig. 3a (v3; v5 keeps the larger learning rate in Fig. 3).",
        criterion="in both layers and at both learning rates, BatchNorm's mean cosine exceeds Standard's by less than "
        "0.1, and its median distance is more than half of Standard's.",
        refuted_by="BatchNorm's cosine is higher by more than 0.1 and its distance less than half; partly, if some "
        "parts hold and some fail.",
        parts=_shift,
        compares="movement of gradients",
    ),
    "linear_shift_standard": Claim(
        statement="In a deep linear network without normalization there is almost no internal covariate shift.",
        place="Sec. 2.2, Fig. 3b (v3; v5 keeps the smaller learning rate in Fig. 3).",
        criterion="at both learning rates and in both layers, Standard's cosine is above 0.9 on average over training.",
        refuted_by="its cosine is below 0.9; partly, if it is at one rate or layer and above at another.",
        parts=_linear_standard,
        compares="cosine of Standard",
        linear=True,
    ),
    "linear_shift_batch": Claim(
        statement="In the same network with batch normalization, gradients before and after are almost uncorrelated.",
        place="Sec. 2.2, Fig. 3b (v3; v5 keeps the smaller learning rate in Fig. 3).",
        criterion="at both learning rates and in both layers, BatchNorm's cosine is between -0.3 and 0.3 on average "
        "over training.",
        refuted_by="it lies outside; partly, if it does at one rate or layer and lies inside at another.",
        parts=_linear_batch,
        compares="cosine of BatchNorm",
        linear=True,
    ),
    "loss_range": Claim(
        statement="Along the gradient, the loss of the plain network varies over a wider range.",
        place="Sec. 3.1, Fig. 4a (v3 and v5).",
        criterion="the median width of its band is at least twice BatchNorm's, in the first fifth of training and in "
        "all of it.",
        refuted_by="the interval of that ratio lies below 2; partly, if below in one of them and above in the other.",
        parts=_loss_range,
        compares="loss along the gradient, Standard over BatchNorm",
    ),
    "predictiveness": Claim(
        statement="Gradients are more predictive with batch normalization: they change less along the step.",
        place="Sec. 3.1, Fig. 4b (v3 and v5).",
        criterion="the plain network's largest distance of gradients is, in the median, at least twice BatchNorm's, in "
        "the first fifth of training and in all of it.",
        refuted_by="the interval of that ratio lies below 2; partly, if below in one of them and above in the other.",
        parts=_predictiveness,
        compares="distance of gradients, Standard over BatchNorm",
    ),
    "two_orders": Claim(
        statement="Early in training that difference is close to two orders of magnitude.",
        place="Sec. 3.1 (text), Fig. 4b (v3 and v5).",
        criterion="in the first fifth of training the ratio of the medians is at least 30.",
        refuted_by="its interval lies below 30.",
        parts=_two_orders,
        compares="distance of gradients, Standard over BatchNorm",
    ),
    "smoothness": Claim(
        statement="The loss is smoother with batch normalization: its effective beta is smaller.",
        place="Sec. 3.1, Fig. 4c (v3 and v5).",
        criterion="the plain network's median beta is larger, in the first fifth of training and in all of it.",
        refuted_by="the interval of the ratio lies below 1; partly, if below in one of them and above in the other.",
        parts=_smoothness,
        compares="effective beta, Standard over BatchNorm",
    ),
    "random_directions": Claim(
        statement="Along random directions, too, the gradient changes more without batch normalization.",
        place="Sec. 3.1 (stated, not drawn; v3 and v5).",
        criterion="along a random direction as long as the gradient, distance of gradients and beta are larger without "
        "batch normalization, in the median over step lengths and the few looks.",
        refuted_by="they are smaller; partly, if one is and the other is not.",
        parts=_random_directions,
        compares="random direction, Standard over BatchNorm",
    ),
    "linear_landscape": Claim(
        statement="In deep linear networks batch normalization smooths the landscape by orders of magnitude.",
        place="Sec. 3.1, Fig. 10 (v3; v5: Fig. 9).",
        criterion="the plain network's band of losses, largest distance of gradients and beta are at least ten times "
        "BatchNorm's, in the first fifth of training and in all of it.",
        refuted_by="the intervals of these ratios lie below 10; partly, if some do and some lie above.",
        parts=_linear_landscape,
        compares="deep linear network, Standard over BatchNorm",
        linear=True,
    ),
    "saturation": Claim(
        statement="The VGG's late plateau of beta is the probe's: 1 over the shortest step length.",
        place="our reading of Fig. 4c, where both curves end at 20 (v3 and v5).",
        criterion="over the last fifth of training beta times the paper's shortest step is 1 within a tenth, and a "
        "step half as long doubles it, within a tenth, for both networks.",
        refuted_by="beta times the shortest step is not 1 and the shorter step does not double it; partly, if some "
        "parts hold.",
        parts=_saturation,
        compares="late in training",
        scales=("paper",),
        unfit="a short run on a small set has no late training like the paper's",
    ),
    "edge_of_stability": Claim(
        statement="Late in training the deep linear networks sit at the edge of stability: beta at the learning rate "
        "is 2 over it.",
        place="our reading of Fig. 10c, where BatchNorm's largest beta ends at two million (v3; v5: Fig. 9).",
        criterion="over the last fifth of training beta at the learning rate, times the learning rate, is 2 within a "
        "tenth, for both networks.",
        refuted_by="it is not; partly, if it is for one of the two and not for the other.",
        parts=_edge_of_stability,
        compares="late in training",
        linear=True,
    ),
    "flat_minima": Claim(
        statement="Batch normalization leads training to flatter places.",
        place="the conclusion, a conjecture on why it helps generalization (v3 and v5).",
        criterion=f"where both networks have come to a training loss between {LEVEL / 2:g} and {LEVEL:g} nats, the "
        "plain network's top eigenvalue in filter-normalized coordinates and the rise of its loss in a relative ball "
        "are larger.",
        refuted_by="both are smaller; partly, if one is and the other is larger.",
        parts=_flat_minima,
        compares="sharpness at equal training loss, Standard over BatchNorm",
    ),
    "shallow_not_flatter": Claim(
        statement="In a shallow network batch normalization does not lead to flatter places.",
        place="Yao et al. 2020, on residual networks of 20 layers and more; not in the paper.",
        criterion="with three convolutions and three linear layers, at the same training loss as above, the plain "
        "network's filter-normalized eigenvalue and the rise of its loss in a relative ball are smaller.",
        refuted_by="both are larger; partly, if one is and the other is smaller.",
        parts=_shallow_not_flatter,
        compares="shallow: sharpness at equal training loss, Standard over BatchNorm",
    ),
}


@dataclass(frozen=True)
class Cards:
    """Some claims, for a page: each with its place, its criterion and what would refute it."""

    claims: tuple[Claim, ...]

    def _repr_html_(self) -> str:
        return "".join(claim._repr_html_() for claim in self.claims)


def cards(*names: str) -> Cards:
    """The claims of these names. Raises ValueError for one that is not listed."""
    return Cards(tuple(find(name) for name in names))


def find(name: str) -> Claim:
    """The claim of this name. Raises ValueError, in one line, for one that is not listed."""
    if name not in CLAIMS:
        raise ValueError(f"unknown claim {name!r}: accepted are {', '.join(CLAIMS)}")
    return CLAIMS[name]


# ---- the judge -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A computed verdict: its word, its reason, and a row for each part (holds: True, False, or None for open)."""

    claim: Claim
    word: str
    reason: str
    parts: pd.DataFrame

    def _repr_html_(self) -> str:
        columns = [name for name in self.parts if name not in ("effect", "holds")] + ["holds"]
        if (self.parts["the paper's curve"] == "").all():
            columns.remove("the paper's curve")
        cells = self.parts.assign(holds=self.parts.holds.map(HOLDS)).astype(str)[columns]
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells.values)
        said = f"<strong>{SIGNS[self.word]} {self.word.capitalize()}.</strong> {escape(self.claim.statement)}"
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div class="verdict"><p>{said} <em>{escape(self.reason)}</em></p>{table}</div>'


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % t interval of the mean over seeds; unbounded for fewer than two or where one has none."""
    if len(values) < 2 or not np.isfinite(values).all():
        return -np.inf, np.inf
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), max(stats.sem(values), 1e-12))
    return float(low), float(high)


def judge(name: str, frame: pd.DataFrame, *, setting: Any, paper: pd.DataFrame | None = None) -> Verdict:
    """The verdict on claim `name`: reproduced if all parts hold, not reproduced if all fail, partly if some do each.

    Inconclusive otherwise, and where the preset is no scale at which the claim is judged or runs are missing.
    `paper`, the paper's own curves, puts the value that the same measure takes on them beside ours. Raises ValueError
    for a claim that is not listed.
    """
    claim, rows = find(name), []
    ten = not claim.ten_classes or frame.attrs.get("classes", 10) == 10
    judged = setting.preset in claim.scales and not frame.attrs.get("missing") and ten
    for part in claim.parts(setting):
        values = part.effect(frame)
        low, high = interval(values)
        inside, outside = part.low < low and high < part.high, high <= part.low or low >= part.high
        there = part.effect(paper).dropna() if paper is not None else []
        bounds = {"above": part.low, "below": part.high}
        rows.append(
            {
                claim.compares: part.label,
                "ours": part.show(values.mean()) if values.notna().any() else "none",
                "95 % t interval": f"{part.show(low)} to {part.show(high)}"
                if np.isfinite([low, high]).all()
                else "none",
                "the paper's curve": part.show(there.mean()) if len(there) else "",
                "accepted": " and ".join(f"{word} {part.show(at)}" for word, at in bounds.items() if np.isfinite(at)),
                "effect": values.mean(),
                "holds": None if not judged else True if inside else False if outside else None,
            }
        )
    outcomes = frozenset(row["holds"] for row in rows)
    words = {frozenset({True}): "reproduced", frozenset({False}): "not reproduced"}
    word = words.get(outcomes, "partly" if {True, False} <= outcomes else "inconclusive")
    scale = setting.linear_scale if claim.linear else f"scale {setting.scale}"
    reason = f"{len(_seeds(frame))} seeds at {scale}."
    if setting.preset not in claim.scales:
        reason = f"Not judged at scale {setting.preset}: {claim.unfit}."
    elif not ten:
        reason = f"Not judged on {frame.attrs['classes']} classes: the criterion is for ten."
    elif not judged:
        reason = f"{frame.attrs['missing']} runs are missing."
    return Verdict(claim, word, reason, pd.DataFrame(rows))


def benefit(frame: pd.DataFrame, *, lr: float) -> pd.DataFrame:
    """The dose-response: for each dose of noise, how many times faster than Standard noisy BatchNorm reaches 90 %.

    Columns dose (0 is BatchNorm without noise), speedup (geometric mean over seeds), low, high (95 % t interval of the
    paired log ratio), helps ("yes" where the interval lies above 1, "no" where it lies below, else "open"), arrived and
    runs: of how many noisy runs how many reached 90 %. Where some did not, speedup and interval are upper bounds.
    """
    rows = []
    for dose in [0.0, *sorted(frame.dose[frame.norm == "noisy"].unique())]:
        arm = ("noisy" if dose else "batch", lr)
        there = arrival(frame, *arm, dose=dose).count()
        ratio = log2_ratio(steps_to(frame, "none", lr), steps_to(frame, *arm, dose=dose))
        low, high = interval(ratio)
        helps = "yes" if low > 0 else "no" if high < 0 else "open"
        row = {"dose": dose, "speedup": 2 ** ratio.mean(), "low": 2**low, "high": 2**high}
        rows.append(row | {"helps": helps, "arrived": there, "runs": ratio.count()})
    return pd.DataFrame(rows)


# ---- ours against the paper's curves -------------------------------------------------------------------------------


def residuals(frame: pd.DataFrame, paper: pd.DataFrame, quantity: str, by: list[str], *, steps: range) -> pd.DataFrame:
    """How far the paper's curves of a positive quantity lie from our runs, on a logarithmic scale.

    At each step r = log(paper) - mean over seeds of log(ours). Columns, for each group of `by`: typical, exp of the
    root mean square of r; worst, exp of the largest |r|; inside, the share of the paper's points in the 95 % t
    prediction interval for one more run; points, how many there are. Sorted from near to far.
    """
    keys = ["norm", "lr", "step"]
    ours = frame[(frame.quantity == quantity) & frame.step.isin(steps)]
    ours = ours.assign(log=np.log(ours.value)).groupby([*dict.fromkeys([*by, *keys])]).log.agg(["mean", "std", "count"])
    theirs = paper[paper.quantity == quantity].set_index(keys).value
    both = ours.reset_index().join(np.log(theirs).rename("paper"), on=keys).dropna(subset="paper")
    reach = stats.t.ppf(0.975, both["count"] - 1) * both["std"] * np.sqrt(1 + 1 / both["count"])
    both["r"] = both.paper - both["mean"]
    both["inside"] = both.r.abs() <= reach
    groups = both.groupby(by)
    table = pd.DataFrame(
        {
            "typical": groups.r.agg(lambda r: np.exp(np.sqrt((r**2).mean()))),
            "worst": groups.r.agg(lambda r: np.exp(r.abs().max())),
            "inside": groups.inside.mean(),
            "points": groups.r.count(),
        }
    )
    return table.sort_values("typical").reset_index()


# ---- mistakes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A number under a name that is not its own: the name, what is measured instead, what should be, and both numbers.

    wrong, right: from the rows of one normalizer at one step, and the learning rate, to one value for each seed.
    """

    called: str
    instead: str
    proper: str
    wrong: Callable[[pd.DataFrame, float], pd.Series]
    right: Callable[[pd.DataFrame, float], pd.Series]


def _one(quantity: str, *, eta: float | None = None) -> Callable[[pd.DataFrame, float], pd.Series]:
    """A quantity, by seed; of those along step lengths, its value at `eta` learning rates."""

    def value(rows: pd.DataFrame, lr: float) -> pd.Series:
        rows = rows[(rows.lr == lr) & (rows.quantity == quantity)]
        return (
            (rows if eta is None else rows[np.isclose(rows.eta.astype(float), eta * lr, atol=0)])
            .set_index("seed")
            .value.astype(float)
        )

    return value


def _largest(quantity: str) -> Callable[[pd.DataFrame, float], pd.Series]:
    """The largest value, by seed, over the paper's step lengths."""
    return lambda rows, lr: rows[(rows.quantity == quantity) & (rows.eta > 0.4 * lr)].groupby("seed").value.max()


def _range(quantity: str) -> Callable[[pd.DataFrame, float], pd.Series]:
    """Largest minus smallest value, by seed; of those along step lengths, over the paper's."""

    def width(rows: pd.DataFrame, lr: float) -> pd.Series:
        rows = rows[(rows.quantity == quantity) & ~(rows.eta < 0.4 * lr)]
        return rows.groupby("seed").value.agg(np.ptp)

    return width


def _sgd_step(rows: pd.DataFrame, lr: float) -> pd.Series:
    """Plain SGD's step is lr ||g|| long by its definition."""
    return _one("wrong_step")(rows, lr) ** 0


_distance = _one("right_distances", eta=1)
MISTAKES: dict[str, Mistake] = {
    "models": Mistake(
        "range of the loss",
        "the losses of separately trained models",
        "the losses along one model's gradient",
        _range("loss"),
        _range("loss_along"),
    ),
    "batches": Mistake(
        "predictiveness",
        "gradients of two mini-batches",
        "one mini-batch throughout",
        _one("wrong_batches", eta=1),
        _distance,
    ),
    "undivided": Mistake(
        "effective beta",
        "a distance between gradients",
        "that distance, divided by the step",
        _largest("gradient_distance"),
        _largest("beta"),
    ),
    "last layer": Mistake(
        "predictiveness", "the last layer's gradient", "the gradient of all layers", _one("wrong_last_layer"), _distance
    ),
    "eval mode": Mistake(
        "predictiveness", "gradients in eval mode", "gradients in train mode", _one("wrong_eval_mode"), _distance
    ),
    "statistics": Mistake(
        "test accuracy",
        "accuracy after a probe moved the running statistics",
        "accuracy of the network that is trained",
        _one("wrong_accuracy"),
        _one("right_accuracy"),
    ),
    "after update": Mistake(
        "predictiveness",
        "the old gradient, followed from behind the update",
        "followed from where it was taken",
        _one("wrong_after_update", eta=1),
        _distance,
    ),
    "shared noise": Mistake(
        "disturbance by noise",
        "one shift and scale for all samples of a unit",
        "one for each sample, as in Algorithm 1",
        _one("wrong_noise"),
        _one("right_noise"),
    ),
    "other place": Mistake(
        "width of activations",
        "what leaves the linear map",
        "what leaves the normalizer",
        _one("wrong_deviation"),
        _one("right_deviation"),
    ),
    "Adam": Mistake(
        "step, in learning rates times the gradient", "Adam's first step", "plain SGD's", _one("wrong_step"), _sgd_step
    ),
}


def mistakes(frame: pd.DataFrame, *, lr: float, step: int) -> pd.DataFrame:
    """Each mistake beside the right measurement at one step: means over seeds, and what they say of BatchNorm.

    A row for each of `MISTAKES`, with its words. right and wrong of none and of batch; for right and wrong the ratio
    batch / none (geometric mean over seeds), its 95 % t interval (low, high) and says: "higher" or "lower" where the
    interval lies on one side of 1, "equal" where it is 1, else "open". misleads: "direction" where both speak and
    differ, "no value" where the wrong one is 0 in both networks, else "size" where the interval of the wrong ratio over
    the right one excludes 1, else "not shown". The loss of the last step is not logged; the one before stands in for
    it.
    """
    logged = frame[frame.quantity == "loss"].step.max()
    here = frame[frame.step == np.where(frame.quantity == "loss", min(step, logged), step)]
    rows = []
    for name, mistake in MISTAKES.items():
        row, ratios = {"mistake": name, "called": mistake.called, "instead": mistake.instead}, {}
        row["proper"] = mistake.proper
        for kind, effect in (("right", mistake.right), ("wrong", mistake.wrong)):
            none, batch = (effect(here[here.norm == norm], lr) for norm in ("none", "batch"))
            with np.errstate(divide="ignore"):
                ratios[kind] = log2_ratio(batch, none)
            low, high = interval(ratios[kind])
            row |= {
                f"{kind} none": none.mean(),
                f"{kind} batch": batch.mean(),
                f"{kind} ratio": 2 ** ratios[kind].mean(),
            }
            row |= {f"{kind} low": 2**low, f"{kind} high": 2**high, f"{kind} says": _says(low, high)}
        said = {row["right says"], row["wrong says"]}
        size = _says(*interval(ratios["wrong"] - ratios["right"])) in ("higher", "lower")
        nothing = row["wrong none"] == row["wrong batch"] == 0
        misleads = (
            "no value"
            if nothing
            else "direction"
            if len(said) == 2 and "open" not in said
            else "size"
            if size
            else "not shown"
        )
        rows.append(row | {"misleads": misleads})
    return pd.DataFrame(rows)


def _says(low: float, high: float) -> str:
    """What the interval of a log ratio says."""
    if max(abs(low), abs(high)) < 1e-6:
        return "equal"
    return "higher" if low > 0 else "lower" if high < 0 else "open"


def one_seed(frame: pd.DataFrame, *, lr: float) -> pd.DataFrame:
    """BatchNorm over Standard by the right distance at one learning rate: what each seed alone says, at each step."""
    at_lr = np.isclose(frame.eta.astype(float), lr, atol=0) & (frame.lr == lr)
    each = frame[at_lr & (frame.quantity == "right_distances")].pivot(
        index=["seed", "step"], columns="norm", values="value"
    )
    each = each.reindex(columns=["none", "batch"])
    return (each.batch / each.none).unstack("step")
