"""Settings: the paper's values, the arms of each experiment, and one line for whatever is not accepted."""

from dataclasses import FrozenInstanceError, asdict, fields, replace

import nbformat
import papermill
import pytest
import torch

from bnutils import claims, models, norms, presets, train

PAPER, SMOKE = presets.PRESETS["paper"], presets.PRESETS["smoke"]
NO_CUDA = f"cuda:{torch.cuda.device_count()}"  # one more than there are


# ---- what is not accepted ------------------------------------------------------------------------------------------

REFUSED = [
    # the call, what came, what is accepted
    (lambda: presets.get("tiny"), "preset 'tiny'", "accepted are paper, long, cifar, quick, smoke"),
    (lambda: presets.get("smoke", dataset="mnist"), "dataset 'mnist'", "accepted are digits, cifar10 or the path"),
    (lambda: presets.get("smoke", dataset="no/where"), "no/where'", "accepted are digits, cifar10 or the path"),
    (lambda: presets.get("smoke", depth="C"), "depth 'C'", "accepted are A, B, D, E"),
    (lambda: presets.get("smoke", device="gpu"), "device 'gpu'", "accepted are auto, cpu, cuda and cuda:N"),
    (lambda: presets.get("smoke", device=NO_CUDA), f"device '{NO_CUDA}'", "use auto or cpu"),
    (lambda: presets.get("smoke", steps=0), "steps is 0", "accepted is a whole number of at least 1"),
    (lambda: presets.get("smoke", steps=1.5), "steps is 1.5", "accepted is a whole number of at least 1"),
    (lambda: presets.get("smoke", steps="8"), "steps is '8'", "accepted is a whole number of at least 1"),
    (lambda: presets.get("smoke", seeds=1), "1 seeds", "accepted are two or more"),
    (lambda: presets.get("smoke", seeds=-1), "-1 seeds", "accepted are two or more"),
    (lambda: presets.get("smoke", seeds=2.5), "2.5", "accepted are two or more"),
    (lambda: replace(SMOKE, seeds=(0, 0)), "(0, 0)", "accepted are two or more"),
    (lambda: presets.get("smoke", lrs=[0.1]), "(0.1,)", "accepted are two or more"),
    (lambda: presets.get("smoke", lrs=[0.1, 0.1]), "(0.1, 0.1)", "accepted are two or more"),
    (lambda: presets.get("smoke", lrs=0.1), "0.1", "accepted are two or more"),
    (lambda: presets.get("smoke", lrs=[0.1, 0]), "learning rate 0", "accepted is a number above 0"),
    (lambda: presets.get("smoke", lrs=[0.1, -0.5]), "learning rate -0.5", "accepted is a number above 0"),
    (lambda: presets.get("smoke", lrs=[0.1, float("nan")]), "learning rate nan", "accepted is a number above 0"),
    (lambda: presets.get("smoke", lrs=[0.1, "fast"]), "learning rate 'fast'", "accepted is a number above 0"),
    (lambda: presets.get("smoke", doses=[-1.0]), "dose -1.0", "noisy norms need one above 0"),
    (lambda: presets.get("smoke", doses=4), "4", "accepted"),
    (lambda: presets.get("smoke", minutes="an hour"), "'an hour'", "accepted is a number"),
    (lambda: presets.Arm("spectral", 0.1), "norm 'spectral'", "accepted are none, batch, noisy, noisy_none"),
    (
        lambda: presets.Arm("batch", 0.1, 1.0),
        "dose 1.0 with norm 'batch'",
        "noisy norms need one above 0, the others 0",
    ),
    (lambda: presets.Arm("noisy", 0.1), "dose 0.0 with norm 'noisy'", "noisy norms need one above 0, the others 0"),
    (lambda: models.VGG(width=1 / 65), f"width {1 / 65}", "accepted is 1/64 or more"),
    (lambda: models.VGG(width=float("nan")), "width nan", "accepted is 1/64 or more"),
    (lambda: train.Schedule(8, 0, 4, 2, 4), "probe_every is 0", "accepted is a whole number of at least 1"),
    (lambda: train.Schedule(8, 2, 4, -1, 4), "test_every is -1", "accepted is a whole number of at least 1"),
    (lambda: presets.get("smoke", slow_lr=0), "learning rate 0", "accepted is a number above 0"),
    (lambda: presets.get("smoke", variances=1), "variances is 1", "accepted are two numbers in a list, of x and of A"),
    (lambda: presets.get("smoke", variances=[1, "a"]), "linear variance_A is 'a'", "accepted is a number above 0"),
    (lambda: presets.get("smoke", linear_steps=0), "linear steps is 0", "accepted is a whole number of at least 1"),
    (lambda: presets.get("smoke", linear_seeds=1), "1 seeds", "accepted are two or more"),
    (lambda: presets.Recipe(epsilon=0), "epsilon is 0", "accepted is a number above 0"),
    (lambda: presets.Recipe(epsilon="1e-3"), "epsilon is '1e-3'", "accepted is a number above 0"),
    (lambda: presets.Recipe(decay=-1e-4), "weight decay is -0.0001", "accepted is a number of at least 0"),
    (lambda: presets.Recipe(decay=float("nan")), "weight decay is nan", "accepted is a number of at least 0"),
    (lambda: presets.Recipe(noise="beside"), "noise 'beside' gamma and beta", "accepted are after, before"),
    (lambda: presets.Recipe(init="he"), "initialisation 'he'", "accepted are glorot, default"),
    (lambda: SMOKE.arms("landscapes"), "experiment 'landscapes'", "accepted are " + ", ".join(presets.LAYERS)),
]


@pytest.mark.parametrize(("call", "came", "accepted"), REFUSED, ids=[came for _, came, _ in REFUSED])
def test_one_line_says_what_came_and_what_is_accepted(call, came, accepted):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        call()
    message = str(error.value)
    assert came in message and accepted in message and "\n" not in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(
        ValueError, match=r"^device 'cuda' is not on this machine \(CUDA devices: 0\): use auto or cpu$"
    ):
        presets.get("quick", device="cuda")


# ---- what is set ---------------------------------------------------------------------------------------------------


def test_paper_is_the_papers_setting():
    """App. A.1 and Fig. 1; points of its curves lie 100 steps apart, and 1000 for the test images."""
    assert (PAPER.dataset, PAPER.batch, PAPER.lrs) == ("cifar10", 128, (0.1, 0.5))
    assert PAPER.schedule == train.Schedule(15_000, 100, 100, 1000, 3750)
    assert PAPER.slow_lr == 0.01 and len(PAPER.seeds_of("shift")) == len(PAPER.seeds_of("norms")) == 3
    assert all(len(PAPER.seeds_of(name)) == 5 for name in ("speed", "noise", "landscape"))
    assert presets.get("paper", seeds=4).seeds_of("shift") == presets.get("paper", seeds=4).seeds == (0, 1, 2, 3)
    assert PAPER.vgg.width == 1 and PAPER.vgg.layers >= 14  # layers 2 to 13 are drawn as hidden ones
    assert PAPER.layers("speed") == (3, 11) and PAPER.layers("noise") == (2, 9, 13)
    noise = norms.NoiseConstants().times(1.0)
    assert (noise.n_mu, noise.n_sigma, noise.r_mu, noise.r_sigma) == (0.5, 1.25, 0.1, 0.1)


def test_long_trains_the_narrow_network_for_as_long_as_the_paper():
    long = presets.PRESETS["long"]
    assert (long.schedule, long.batch, long.lrs) == (PAPER.schedule, PAPER.batch, PAPER.lrs)
    assert long.dataset == PAPER.dataset and long.arrived == PAPER.arrived
    assert set(claims.WHOLE["scales"]) == {
        name for name, each in presets.PRESETS.items() if each.schedule.steps == PAPER.schedule.steps
    }


def test_every_preset_is_whole():
    assert list(presets.PRESETS) == ["paper", "long", "cifar", "quick", "smoke"]
    for name, setting in presets.PRESETS.items():
        assert setting.preset == name and setting == presets.get(name)
        assert name == "smoke" or len(setting.seeds) >= 3  # behind any verdict
        assert setting.schedule.steps % setting.schedule.probe_every == 0
        assert setting.lrs == PAPER.lrs


def test_arms_of_an_experiment():
    arm = presets.Arm
    assert PAPER.arms("speed") == [arm("none", 0.1), arm("batch", 0.1), arm("none", 0.5), arm("batch", 0.5)]
    setting = presets.get("quick", lrs=[0.2, 0.3], doses=[8, 2])
    noisy = [arm("noisy", 0.2, dose) for dose in (1, 2, 8)]  # the paper's dose is always among them
    assert setting.arms("noise") == [arm("none", 0.2), arm("batch", 0.2), *noisy, arm("noisy_none", 0.2, 1)]
    assert (
        len(presets.get("quick", doses=[]).arms("noise")) == len(presets.get("quick", doses=[1, 1]).arms("noise")) == 4
    )


def test_arms_have_names_of_their_own():
    for setting in presets.PRESETS.values():
        arms = {each for experiment in presets.LAYERS for each in setting.arms(experiment)}
        assert len({each.name for each in arms}) == len(arms)
    names = [presets.Arm("none", 0.1).name, presets.Arm("noisy", 0.1, 1.0).name, presets.Arm("noisy", 0.5, 2.5).name]
    assert names == ["none 0.1", "noisy 0.1", "noisy x2.5 0.5"]


@pytest.mark.parametrize(
    ("depth", "layers", "speed", "noise"),
    [("A", 11, (3, 10), (2, 9, 10)), ("B", 13, (3, 11), (2, 9, 12)), ("D", 16, (3, 11), (2, 9, 13))],
)
def test_a_short_network_draws_its_last_hidden_layer(depth, layers, speed, noise):
    setting = presets.get("smoke", depth=depth)
    assert setting.vgg.layers == layers
    assert (setting.layers("speed"), setting.layers("noise")) == (speed, noise)
    assert setting.probed == tuple(sorted({*speed, *noise}))
    assert max(setting.probed) < layers


def test_get_changes_what_it_is_given_and_nothing_else():
    given = {"dataset": "cifar10", "device": "cpu", "minutes": 1.0}
    changed = presets.get("quick", **given, depth="A", steps=7, seeds=4, lrs=[1, 2], doses=[3])
    expected = asdict(presets.PRESETS["quick"]) | given | {"lrs": (1, 2), "doses": (3,), "seeds": (0, 1, 2, 3)}
    expected["vgg"]["depth"], expected["schedule"]["steps"] = "A", 7
    assert asdict(changed) == expected
    assert presets.get("quick", **dict.fromkeys(given)) == presets.PRESETS["quick"]


def test_settings_are_frozen():
    for thing in (SMOKE, SMOKE.vgg, SMOKE.schedule, SMOKE.recipe, presets.Arm("none", 0.1)):
        for field in fields(thing):
            with pytest.raises(FrozenInstanceError):
                setattr(thing, field.name, None)
    assert hash(SMOKE) == hash(replace(SMOKE))  # no list inside


# ---- a notebook's parameters ---------------------------------------------------------------------------------------


@pytest.fixture
def papermilled(tmp_path):
    """Runs a notebook of two parameters and the check, with the parameters given; returns what its last cell shows."""
    cells = ['preset: str = "quick"  # which\nlrs: list = None  # rates', "from bnutils import presets", "late = 1"]
    cells += ["presets.check_parameters(In)", "preset, lrs"]
    kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = kernelspec
    notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, tmp_path / "in.ipynb")

    def run(**parameters):
        paths = tmp_path / "in.ipynb", tmp_path / "out.ipynb"
        done = papermill.execute_notebook(*paths, parameters, progress_bar=False)
        return done.cells[-1].outputs[0].data["text/plain"]

    return run


def test_a_parameter_that_the_notebook_has_is_taken(papermilled):
    assert papermilled(preset="smoke", lrs=[0.1, 0.2]) == "('smoke', [0.1, 0.2])"


def test_a_mistyped_parameter_stops_the_notebook(papermilled):
    """Papermill itself would go on with the defaults. A name that a later cell assigns is no parameter."""
    with pytest.raises(papermill.PapermillExecutionError) as error:
        papermilled(preset="smoke", late=2)
    assert (error.value.ename, error.value.evalue) == (
        "ValueError",
        "unknown parameter 'late': accepted are preset, lrs",
    )


@pytest.mark.parametrize("cells", [[], ["", "a = 1", "import os"], ["", "a: int = 1", "# Parameters\na = 2\n"]])
def test_known_parameters_or_none_pass(cells):
    presets.check_parameters(cells)


def test_a_scale_names_other_images_and_what_else_was_changed():
    assert presets.get("cifar", dataset="cifar10-jpeg").scale == "cifar on cifar10-jpeg"
    assert presets.get("cifar", dataset="cifar10-jpeg", steps=10).scale == "cifar on cifar10-jpeg with other schedule"
    assert presets.get("quick").scale == "quick"
