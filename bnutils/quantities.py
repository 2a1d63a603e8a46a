"""The registry of what is measured: every value of the `quantity` column, with the words and units that figures need.

A version is raised by hand when a measurement changes its meaning; it is part of each run's key, so that a run
measured under the old meaning is never read as one of the new.
"""

from dataclasses import dataclass

# The training loss, in nats, at which the surroundings of networks are compared: between half of it and it. Low enough
# that a network classifies, and reached by both networks of preset quick. Here, since what measures and what judges
# both know it.
LEVEL = 0.2


@dataclass(frozen=True)
class Quantity:
    """One measured quantity: its symbol (LaTeX), its label on an axis, its unit, its place in the paper."""

    symbol: str
    label: str
    unit: str
    source: str
    scale: str = "linear"
    version: int = 1

    @property
    def axis(self) -> str:
        """The text on an axis: label, symbol and unit."""
        return f"{self.label} {self.symbol}".strip() + (f" ({self.unit})" if self.unit else "")


QUANTITIES: dict[str, Quantity] = {
    "loss": Quantity(r"$\mathcal{L}$", "training loss", "nats per image", "Sec. 2"),
    "train_accuracy": Quantity("", "training accuracy", "", "Figs 1a, 2"),
    "smooth_accuracy": Quantity("", "training accuracy", "", "Figs 1a, 2, a moving mean"),
    "test_accuracy": Quantity("", "test accuracy", "", "Fig. 1b"),
    "density": Quantity("", "density of one activation", "", "Figs 1c, 2"),
    "mean": Quantity(r"$\mu_t$", "mean of one activation", "", "Fig. 8"),
    "variance": Quantity(r"$\sigma^2_t$", "variance of one activation", "", "Fig. 8"),
    "mean_step": Quantity(r"$|\mu_{t'}-\mu_t|$", "change of mean", "", "Fig. 8a", scale="log"),
    "variance_step": Quantity(r"$|\sigma^2_{t'}-\sigma^2_t|$", "change of variance", "", "Fig. 8a", scale="log"),
    "mean_from_start": Quantity(r"$\mu_t-\mu_0$", "mean since the start", "", "Fig. 8b"),
    "variance_from_start": Quantity(r"$\sigma^2_t-\sigma^2_0$", "variance since the start", "", "Fig. 8b"),
    "layer_mean_step": Quantity(
        r"$\langle|\mu_{t'}-\mu_t|\rangle$", "change of mean, all units", "", "ours, after Fig. 8a"
    ),
    "layer_variance_step": Quantity(
        r"$\langle|\sigma^2_{t'}-\sigma^2_t|\rangle$", "change of variance, all units", "", "ours, after Fig. 8a"
    ),
    "layer_deviation": Quantity(r"$\langle\sigma_t\rangle$", "standard deviation, all units", "", "ours"),
    "squared_error": Quantity(r"$\mathcal{L}$", "loss", "sum of squares", "Figs 3b, 5b", scale="log"),
    "shift_l2": Quantity(r"$\|G-G'\|$", "distance", "", "Def. 2.1, Fig. 3", scale="log"),
    "shift_cosine": Quantity(r"$\cos(G,G')$", "cosine", "", "Def. 2.1, Fig. 3"),
    "shift_relative": Quantity(r"$\|G-G'\|/\|G\|$", "relative", "", "ours, after Def. 2.1", scale="log"),
    "gradient_norm": Quantity(r"$\|g\|$", "length of the gradient", "", "Sec. 3.2", scale="log"),
    "layer_gradient_norm": Quantity(r"$\|g_i\|$", "length of the layer's gradient", "", "ours", scale="log"),
    "curvature": Quantity(r"$g^\top Hg/\|g\|^2$", "curvature along the gradient", "", "ours"),
    "loss_along": Quantity(r"$\mathcal{L}(\theta-\eta g)$", "loss", "", "Fig. 4a", scale="log"),
    "gradient_distance": Quantity(r"$d(\eta)$", "distance", "", "Figs 4b, 11", scale="log"),
    "gradient_cosine": Quantity(r"$\cos(g(\theta-\eta g),g)$", "cosine", "", "ours"),
    "beta": Quantity(r"$\beta(\eta)$", "effective smoothness", "", "Fig. 4c", scale="log"),
    "loss_low": Quantity("", "lowest loss along the gradient", "", "Fig. 4a, lower edge", scale="log"),
    "loss_high": Quantity("", "highest loss along the gradient", "", "Fig. 4a, upper edge", scale="log"),
    "distance_low": Quantity("", "smallest distance of gradients", "", "Fig. 4b, lower edge", scale="log"),
    "distance_high": Quantity("", "largest distance of gradients", "", "Fig. 4b, upper edge", scale="log"),
    "beta_max": Quantity(r"$\max\beta$", "effective smoothness", "", "Fig. 4c", scale="log"),
    "beta_max_short": Quantity(r"$\max\beta^{\prime}$", "effective smoothness", "", "ours, after Fig. 4c", scale="log"),
    "random_loss_along": Quantity("", "loss along a random direction", "", "Sec. 3.2, stated", scale="log"),
    "random_distance": Quantity(r"$d_\mathrm{random}(\eta)$", "distance", "", "Sec. 3.2, stated", scale="log"),
    "random_beta": Quantity("", "effective smoothness, random direction", "", "Sec. 3.2, stated", scale="log"),
    "beta_float32": Quantity(
        r"$\beta(\eta)$", "effective smoothness, 32 bits", "", "ours, after Fig. 11", scale="log", version=2
    ),
    "beta_float64": Quantity(
        r"$\beta(\eta)$", "effective smoothness, 64 bits", "", "ours, after Fig. 11", scale="log", version=2
    ),
    "beta_smooth": Quantity(
        r"$\beta(\eta)$",
        "effective smoothness, without kinks, 64 bits",
        "",
        "ours, after Fig. 11",
        scale="log",
        version=2,
    ),
    # Chapter 5: what is right and what is taken for it, on one network and, but for wrong_batches, one batch.
    "right_distances": Quantity(
        r"$\|\nabla\mathcal{L}(\theta-\eta g)-g\|$", "distance of gradients", "", "chapter 5", scale="log"
    ),
    "right_accuracy": Quantity("", "test accuracy before probing", "", "chapter 5"),
    "right_noise": Quantity("", "relative change of the next layer, Algorithm 1", "", "chapter 5"),
    "right_content": Quantity("", "relative change of the batch, Algorithm 1", "", "chapter 5"),
    "right_deviation": Quantity(r"$\langle\sigma\rangle$", "standard deviation behind the normalizer", "", "chapter 5"),
    "wrong_batches": Quantity(r"$\|g_{t+1}-g_t\|$", "distance of gradients, two batches", "", "chapter 5", scale="log"),
    "wrong_after_update": Quantity("", "distance of gradients, from behind the update", "", "chapter 5", scale="log"),
    "wrong_last_layer": Quantity("", "distance of the last layer's gradients", "", "chapter 5", scale="log"),
    "wrong_eval_mode": Quantity("", "distance of gradients, eval mode", "", "chapter 5", scale="log"),
    "wrong_accuracy": Quantity("", "test accuracy after unprotected probing", "", "chapter 5"),
    "wrong_noise": Quantity("", "relative change of the next layer, shared noise", "", "chapter 5"),
    "wrong_content": Quantity("", "relative change of the batch, shared noise", "", "chapter 5"),
    "wrong_deviation": Quantity("", "standard deviation before the normalizer", "", "chapter 5"),
    "wrong_step": Quantity("", "Adam's first step", r"lr $\|g\|$", "chapter 5", scale="log"),
    # Chapter 9: around one network, once in its training, at a loss that all networks have in common.
    "minimum_loss": Quantity(
        r"$\mathcal{L}(\theta)$", "training loss at which networks are compared", "nats per image", "ours"
    ),
    "minimum_accuracy": Quantity("", "test accuracy at that loss", "", "ours"),
    "eigenvalue": Quantity(r"$\lambda_1(H)$", "top Hessian eigenvalue", "", "Keskar et al. 2017, naive", scale="log"),
    "eigenvalue_normalized": Quantity(
        r"$\lambda_1(DHD)$", "filter-normalized eigenvalue", "", "ours, after Li et al. 2018", scale="log"
    ),
    "sharpness": Quantity("", "rise of the loss in a ball", "nats per image", "Foret et al. 2021, naive", scale="log"),
    "sharpness_adaptive": Quantity(
        "", "rise of the loss in a relative ball", "nats per image", "Kwon et al. 2021", scale="log"
    ),
    "loss_around": Quantity(r"$\mathcal{L}(\theta+a\,d+b\,d^{\prime})$", "loss", "", "Li et al. 2018", scale="log"),
    # Chapter 8
    "end_accuracy": Quantity("", "training accuracy, last fifth", "", "ours"),
    "layer_signal_norm": Quantity(r"$\|\partial\mathcal{L}/\partial a_i\|$", "length", "", "chapter 8", scale="log"),
    "diverged": Quantity("", "first step with a loss that is not finite", "step", "ours"),
    # Chapter 7: both sides of each theorem, and how much its terms matter.
    "theorem_4_1_left": Quantity(r"$\|\nabla_y\hat{\mathcal{L}}\|^2$", "left side of 4.1", "", "Thm 4.1", scale="log"),
    "theorem_4_1_right": Quantity("", "right side of 4.1", "", "Thm 4.1, corrected", scale="log"),
    "theorem_4_1_printed": Quantity("", "right side of 4.1 as printed", "", "Thm 4.1, v3", scale="log"),
    "theorem_4_1_plain": Quantity(r"$\|\nabla_y\mathcal{L}\|^2$", "without normalization", "", "Thm 4.1", scale="log"),
    "theorem_4_2_left": Quantity("", "left side of 4.2", "", "Thm 4.2", scale="log"),
    "theorem_4_2_right": Quantity("", "right side of 4.2, first line", "", "Thm 4.2", scale="log"),
    "theorem_4_2_printed": Quantity("", "right side of 4.2, second line", "", "Thm 4.2", scale="log"),
    "observation_4_3_outputs": Quantity(r"$\|z-y\|/\|y\|$", "difference of outputs", "", "Obs. 4.3", scale="log"),
    "observation_4_3_loss": Quantity("", "relative difference of losses", "", "Obs. 4.3", scale="log"),
    "theorem_4_4_left": Quantity("", "left side of 4.4", "", "Thm 4.4", scale="log"),
    "theorem_4_4_right": Quantity("", "right side of 4.4", "", "Thm 4.4, corrected", scale="log"),
    "theorem_4_4_printed": Quantity("", "right side of 4.4 as printed", "", "Thm 4.4, v3", scale="log"),
    "theorem_4_4_free": Quantity("", "left side of 4.4, outputs free", "", "ours, after Thm 4.4", scale="log"),
    "theorem_c_1_left": Quantity("", "left side of C.1 at one input", "", "Thm C.1", scale="log"),
    "theorem_c_1_right": Quantity("", "right side of C.1 at that input", "", "Thm C.1, corrected", scale="log"),
    "theorem_c_1_maximum": Quantity("", "left side of C.1, a maximum", "", "Thm C.1, v3", scale="log"),
    "theorem_c_1_printed": Quantity("", "right side of C.1 as printed", "", "Thm C.1, v3", scale="log"),
    "lemma_4_5_left": Quantity(r"$\|W_0-\hat{W}^*\|^2$", "left side of 4.5", "", "Lemma 4.5", scale="log"),
    "lemma_4_5_right": Quantity("", "right side of 4.5", "", "Lemma 4.5", scale="log"),
    "lemma_4_5_unmet": Quantity("", "left minus right side of 4.5, condition unmet", "", "ours, after Lemma 4.5"),
    "scale_invariance": Quantity(
        "", "relative change of the loss, outputs times three", "", "Lemma 4.5, proof", scale="log"
    ),
    "term_scale": Quantity(r"$\gamma/\sigma$", "effective", "", "Thm 4.1"),
    "term_mean": Quantity("", "share of the mean", "", "Thm 4.1", scale="log"),
    "term_correlation": Quantity("", "share of correlation", "", "Thm 4.1", scale="log"),
    "term_premise": Quantity("", r"share with $\langle g,\hat{y}\rangle\geq 0$", "", "Thm 4.2, premise"),
}
