import hashlib
import http.server
import itertools
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from dataclasses import fields, replace
from functools import partial

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10
from torchvision.transforms.v2 import functional as transforms

from bnutils import data, presets, records, runs

FINGERPRINT = "56dc2b127dd7df54"  # of the digits: changing it orphans every record made from them


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BNUTILS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def message(kind, call, *args, **kwargs):
    """The text of the error that the call raises, which must be one line."""
    with pytest.raises(kind) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def typed(thing):
    """Whether every field of a dataclass has the type, dtype and shape of its annotation, sizes bound across fields."""
    with jaxtyping.jaxtyped("context"):
        return all(
            isinstance(getattr(thing, field.name), field.type)
            for field in fields(thing)
            if isinstance(getattr(thing, field.name), torch.Tensor)
        )


def same(one, other):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for field in fields(one)
        for a, b in [(getattr(one, field.name), getattr(other, field.name))]
    )


def enlarged(labels, mode="L"):
    """Pillow images of the first digits with these labels, of mixed sizes, with their labels."""
    source = load_digits()
    for i in [i for i in range(len(source.target)) if source.target[i] in labels]:
        grey = Image.fromarray((source.images[i] * 15).astype(np.uint8))
        yield int(source.target[i]), grey.resize((32, 32) if i % 2 else (40, 24)).convert(mode)


def tree(root, each, labels=(0, 1, 2)):
    """A folder of `each` real images in each class folder: PNG and JPEG, grey and colour, 32x32 and not."""
    for label in labels:
        (root / f"digit {label}").mkdir(parents=True)
        for i, (_, image) in zip(range(each), enlarged([label]), strict=False):
            image.convert("RGB" if i % 3 else "L").save(root / f"digit {label}" / f"{i}.{'jpg' if i % 2 else 'PNG'}")
    return root


@pytest.fixture
def split_tree(tmp_path):
    tree(tmp_path / "mine" / "train", 6)
    tree(tmp_path / "mine" / "test", 3)
    return tmp_path / "mine"


# devices


def test_devices_by_name():
    assert data.device("cpu") == torch.device("cpu")
    assert data.device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert data.device(torch.device("cpu")) == torch.device("cpu")
    if torch.cuda.is_available():
        assert data.device("cuda:0") == torch.device("cuda:0")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:", "cuda:x", "mps", "", None])
def test_an_unknown_device_is_named(name):
    text = message(ValueError, data.device, name)
    assert text == f"unknown device {str(name)!r}: accepted are auto, cpu, cuda and cuda:N"


def test_a_missing_gpu_is_named():
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    assert message(ValueError, data.device, "cuda:99") == (
        f"device 'cuda:99' is not on this machine (CUDA devices: {count}): use auto or cpu"
    )
    if not count:
        assert "device 'cuda' is not on this machine" in message(ValueError, data.device, "cuda")


def test_a_device_is_checked_before_the_data():
    calls = partial(data.load, "no/folder"), partial(data.gaussian, 0), partial(data.batches, 4, 2, steps=1, seed=0)
    for call in calls:
        assert "unknown device 'gpu'" in message(ValueError, call, device="gpu")


# the cache


def test_cache_dir_is_made_where_the_variable_says(cache):
    assert not cache.exists()
    assert data.cache_dir() == cache
    assert cache.is_dir()


def test_cache_dir_without_the_variable_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("BNUTILS_CACHE")
    for variable in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    path = data.cache_dir()
    assert "bnutils" in path.parts and tmp_path / "home" in path.parents and path.is_dir()


# digits


def test_digits_are_whole_typed_and_split_once(digits):
    assert typed(digits)
    assert digits.name == "digits" and digits.classes == tuple("0123456789")
    assert digits.train_x.shape == (1438, 1, 32, 32) and digits.test_x.shape == (359, 1, 32, 32)
    counts = np.bincount(load_digits().target)
    assert torch.bincount(digits.test_y).tolist() == [round(n / 5) for n in counts]
    assert (torch.bincount(digits.train_y) + torch.bincount(digits.test_y)).tolist() == counts.tolist()


def test_wrong_shapes_do_not_pass_for_typed(digits):
    assert not typed(replace(digits, train_y=digits.test_y))
    assert not typed(replace(digits, train_x=digits.train_x.double()))


def test_digits_are_the_real_ones_each_once_enlarged_bilinearly(digits):
    # against Pillow's own bilinear enlargement of scikit-learn's images, to the rounding to 8 bits
    x, source = torch.cat([digits.train_x, digits.test_x])[:, 0].double(), load_digits()
    pixels = ((x - x.min()) / (x.max() - x.min()) * 255).flatten(1)
    expected = (
        torch.stack(
            [
                torch.tensor(
                    np.asarray(Image.fromarray(grey.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR))
                )
                for grey in source.images
            ]
        )
        .flatten(1)
        .double()
        * 255
        / 16
    )
    nearest = torch.cdist(pixels, expected).argmin(1)
    assert len(nearest.unique()) == len(source.target)
    assert (pixels - expected[nearest]).abs().max() < 0.51
    assert torch.equal(torch.cat([digits.train_y, digits.test_y]), torch.from_numpy(source.target)[nearest].long())


def test_standardised_by_the_training_set(digits):
    x = digits.train_x.double()
    assert abs(x.mean()) < 1e-6 and abs(x.std(correction=0) - 1) < 1e-6
    assert abs(digits.test_x.mean()) > 1e-4  # its own mean and deviation were not used


def test_a_slice_mixes_the_classes(digits):
    assert set(digits.train_y[:100].tolist()) == set(digits.test_y[:100].tolist()) == set(range(10))


def test_same_name_same_bits_and_fingerprint(digits):
    assert same(digits, data.load("digits"))
    assert digits.fingerprint == FINGERPRINT


def test_loading_sets_nothing_global():
    def state():
        numpy = np.random.get_state()[1].tolist()
        return torch.get_rng_state().tolist(), numpy, torch.get_num_threads(), torch.get_default_dtype()

    before = state()
    data.load("digits")
    data.gaussian(0)
    data.batches(10, 2, steps=3, seed=0)
    assert state() == before


def test_the_number_of_threads_does_not_matter(digits):
    code = (
        "import hashlib, torch; torch.set_num_threads(1 + torch.get_num_threads()); from bnutils import data;"
        "i = data.load('digits'); print(hashlib.sha256(i.train_x.numpy()).hexdigest(), i.fingerprint)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.check_output([sys.executable, "-c", code], env=env, text=True).split()
    assert out == [hashlib.sha256(digits.train_x.numpy()).hexdigest(), digits.fingerprint]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_holds_the_same_bits(digits):
    there = data.load("digits", device="cuda")
    assert there.train_x.is_cuda and there.test_y.is_cuda
    assert same(
        digits,
        replace(
            there,
            **{
                field.name: getattr(there, field.name).cpu()
                for field in fields(there)
                if isinstance(getattr(there, field.name), torch.Tensor)
            },
        ),
    )


# names


@pytest.mark.parametrize("name", ["mnist", "", "Digits", "cifar100"])
def test_an_unknown_name_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (data.check, data.load):
        assert message(ValueError, call, name) == (
            f"unknown dataset {name!r}: accepted are digits, cifar10 or the path of a folder of class folders"
        )


def test_built_in_names_pass_the_check_without_work(cache):
    data.check("digits")
    data.check("cifar10")
    assert not cache.exists()


def test_a_missing_folder_is_named(tmp_path):
    for call in (data.check, data.load):
        text = message(FileNotFoundError, call, str(tmp_path / "none"))
        assert repr(str(tmp_path / "none")) in text and data.LAYOUTS in text


def test_a_bare_name_of_a_folder_here_is_a_path(split_tree, monkeypatch):
    monkeypatch.chdir(split_tree.parent)
    assert data.load("mine").name == data.load("mine/").name == data.load("mine/train/..").name == "mine"


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_a_folder_cannot_pass_for_a_built_in_dataset(name, tmp_path):
    tree(tmp_path / name, 3)
    for call in (data.check, data.load):
        assert message(ValueError, call, str(tmp_path / name)) == (
            f"folder {str(tmp_path / name)!r} has the name of a built-in dataset: rename it, e.g. to {name}-copy"
        )


# folders


def test_a_folder_with_train_and_test(split_tree):
    images = data.load(str(split_tree))
    assert typed(images)
    assert images.name == "mine" and images.classes == ("digit 0", "digit 1", "digit 2")
    assert images.train_x.shape == (18, 3, 32, 32) and images.test_x.shape == (9, 3, 32, 32)
    assert torch.bincount(images.train_y).tolist() == [6, 6, 6] and torch.bincount(images.test_y).tolist() == [3, 3, 3]
    x = images.train_x.double()
    assert x.mean((0, 2, 3)).abs().max() < 1e-6 and (x.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-6


def test_a_folder_of_classes_is_split_by_class(tmp_path):
    images = data.load(str(tree(tmp_path / "flat", 10)))
    assert torch.bincount(images.train_y).tolist() == [8, 8, 8] and torch.bincount(images.test_y).tolist() == [2, 2, 2]
    # every file once: all pictures of this tree differ
    assert len(torch.cat([images.train_x, images.test_x]).flatten(1).unique(dim=0)) == 30
    assert images.fingerprint == data.load(str(tmp_path / "flat")).fingerprint


def test_pixels_and_labels_belong_together(tmp_path):
    # classes that cannot be confused: one grey level each
    for part, grey in itertools.product(("train", "test"), (40, 200)):
        folder = tmp_path / "flags" / part / str(grey)
        folder.mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (32, 32), (grey + i, 0, 255 - grey)).save(folder / f"{i}.png")
    images = data.load(str(tmp_path / "flags"))
    assert images.classes == ("200", "40")
    for x, y in ((images.train_x, images.train_y), (images.test_x, images.test_y)):
        assert torch.equal(x[:, 0, 0, 0] > 0, y == 0)
    assert (images.train_x[:, 1] == 0).all()  # a channel that never varies, and no NaN


def test_images_of_another_size_are_resized_as_pillow_does(tmp_path):
    tree(tmp_path / "flat", 4, labels=(0, 1))
    pixels = data._decode([str(tmp_path / "flat" / "digit 0" / "0.PNG")], "one")[0]
    with Image.open(tmp_path / "flat" / "digit 0" / "0.PNG") as image:
        assert image.size == (40, 24) and image.mode == "L"
        expected = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_the_fingerprint_follows_pixels_and_labels_not_the_place(split_tree, tmp_path):
    original = data.load(str(split_tree)).fingerprint
    moved = split_tree.rename(tmp_path / "elsewhere")
    assert data.load(str(moved)).fingerprint == original
    Image.new("RGB", (32, 32), (9, 9, 9)).save(moved / "train" / "digit 0" / "0.PNG")
    changed = data.load(str(moved)).fingerprint
    assert changed != original
    for part in ("train", "test"):
        (moved / part / "digit 0").rename(moved / part / "digit 00")
    assert data.load(str(moved)).fingerprint not in (original, changed)


def scrambled(folder):
    """All image files overwritten with noise of the same size, their modification times put back."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    for file in files:
        stat = file.stat()
        file.write_bytes(os.urandom(stat.st_size))
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return files


def test_a_folder_is_decoded_once(split_tree):
    first = data.load(str(split_tree))
    files = scrambled(split_tree)
    assert same(first, data.load(str(split_tree)))
    os.utime(files[0])  # and is decoded again when a file has changed, which now must fail
    assert "cannot be read" in message(ValueError, data.load, str(split_tree))


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # one bit of one pixel
    file.write_bytes(content)


def other(file):
    np.savez(file, other=np.zeros(3))


@pytest.mark.parametrize("damage", [cut, flip, other, lambda file: file.write_bytes(b""), lambda file: file.unlink()])
def test_a_damaged_cached_file_is_made_again(split_tree, cache, damage):
    first = data.load(str(split_tree))
    (file,) = cache.iterdir()
    damage(file)
    assert same(first, data.load(str(split_tree)))
    assert list(cache.iterdir()) == [file]
    scrambled(split_tree)
    assert same(first, data.load(str(split_tree)))  # read from what was made again


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to fill the disk with")
def test_a_cached_file_is_whole_or_not_there(split_tree, cache):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    data.cache_dir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the pixels need 83,000 bytes
    try:
        with pytest.raises(OSError):
            data.load(str(split_tree))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(cache.iterdir()) == []


def test_a_corrupt_image_is_named(split_tree):
    broken = split_tree / "test" / "digit 1" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    data.check(str(split_tree))  # the check does not decode
    assert message(ValueError, data.load, str(split_tree)) == (
        f"image {str(broken)!r} cannot be read: accepted are whole image files, so mend or remove it"
    )


def test_no_class_folders(tmp_path):
    for call in (data.check, data.load):
        assert message(ValueError, call, str(tmp_path)) == (
            f"folder {str(tmp_path)!r} has no class folders: accepted is {data.LAYOUTS}"
        )


def test_a_class_without_images_is_named(split_tree):
    empty = split_tree / "train" / "digit 3"
    empty.mkdir()
    (empty / "notes.txt").write_text("none yet")
    (empty / "._0.png").write_text("a system's own file")
    for call in (data.check, data.load):
        text = message(ValueError, call, str(split_tree))
        assert text.startswith(f"class folder {str(empty)!r} has no images (.jpg ") and data.LAYOUTS in text


def test_train_and_test_must_agree(split_tree):
    (split_tree / "test" / "digit 2").rename(split_tree / "test" / "digit two")
    for call in (data.check, data.load):
        assert message(ValueError, call, str(split_tree)) == (
            f"train and test of {str(split_tree)!r} differ in classes digit 2, digit two: accepted is the same class"
            " folders in both"
        )


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    tree(tmp_path / "flat", 3)
    for i in (1, 2):
        (tmp_path / "flat" / "digit 1" / f"{i}.{'jpg' if i % 2 else 'PNG'}").unlink()
    for call in (data.check, data.load):
        assert message(ValueError, call, str(tmp_path / "flat")) == (
            f"class digit 1 of {str(tmp_path / 'flat')!r} has one image: accepted are two or more, as a fifth is held"
            " out for the test; or make train and test folders"
        )


def test_files_and_folders_of_the_system_are_passed_over(split_tree):
    first = data.load(str(split_tree))
    (split_tree / "train" / ".ipynb_checkpoints").mkdir()
    (split_tree / "train" / "digit 0" / ".DS_Store").write_text("x")
    (split_tree / "train" / "digit 0" / "Thumbs.db").write_text("x")
    assert same(first, data.load(str(split_tree)))


# CIFAR-10


def md5(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """An archive in CIFAR-10's own layout, made of digits, served by a real server that torchvision is pointed at."""
    served = tmp_path / "served"
    base = served / CIFAR10.base_folder
    base.mkdir(parents=True)
    pictures = [
        (label, np.asarray(image.convert("RGB").resize((32, 32))).transpose(2, 0, 1).ravel())
        for label, image in enlarged(range(10))
    ]
    for k, file in enumerate([*(file for file, _ in CIFAR10.train_list), "test_batch"]):
        labels, rows = zip(*pictures[20 * k : 20 * (k + 1)], strict=True)
        (base / file).write_bytes(pickle.dumps({"data": np.stack(rows), "labels": list(labels)}))
    words = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (base / CIFAR10.meta["filename"]).write_bytes(pickle.dumps({CIFAR10.meta["key"]: words}))
    with tarfile.open(served / CIFAR10.filename, "w:gz") as archive:
        archive.add(base, arcname=CIFAR10.base_folder)

    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(served / CIFAR10.filename))
    monkeypatch.setattr(CIFAR10, "train_list", [[file, md5(base / file)] for file, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[file, md5(base / file)] for file, _ in CIFAR10.test_list])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(base / CIFAR10.meta["filename"])})
    yield pictures
    server.shutdown()
    server.server_close()


def test_cifar10_is_downloaded_once_and_read_in_order(small_cifar, monkeypatch, cache):
    images = data.load("cifar10")
    assert typed(images)
    assert images.name == "cifar10" and images.classes[0] == "airplane" and len(images.classes) == 10
    assert images.train_x.shape == (100, 3, 32, 32) and images.test_x.shape == (20, 3, 32, 32)
    assert torch.cat([images.train_y, images.test_y]).tolist() == [label for label, _ in small_cifar[:120]]
    pixels = torch.from_numpy(np.stack([row for _, row in small_cifar[:120]])).view(-1, 3, 32, 32).double()
    mean, std = pixels[:100].mean((0, 2, 3), keepdim=True), pixels[:100].std((0, 2, 3), keepdim=True, correction=0)
    assert (torch.cat([images.train_x, images.test_x]) - (pixels - mean) / std).abs().max() < 1e-5
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/" + CIFAR10.filename)
    assert same(images, data.load("cifar10"))  # without a server
    assert data.known("cifar10") == (images.fingerprint, 10)
    assert [each.preset for each in runs._on_record() if each.dataset == "cifar10"] == ["paper", "long", "cifar"]
    paper = records.needed(presets.get("paper"), "landscape")
    assert {each.key for each in paper} <= set(records.asked_for()), "published records of it are verified"


def test_cifar10_is_unknown_until_it_is_loaded(cache):
    assert data.known("cifar10") is None and data.known("digits") == data.KNOWN["digits"]
    assert all(each.dataset == "cifar10-jpeg" for each in runs._on_record())


def test_a_wrong_checksum_is_named(small_cifar, monkeypatch, cache):
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    text = message(OSError, data.load, "cifar10")
    assert text == (
        f"cifar10 from {CIFAR10.url} failed its checksum (File not found or corrupted.): try again, put"
        f" cifar-10-python.tar.gz into {cache}, or give the path of a folder, {data.LAYOUTS}"
    )


def test_a_damaged_download_is_mended_by_the_next(small_cifar, cache):
    data.cache_dir()
    (cache / CIFAR10.filename).write_bytes(b"half an archive")
    assert len(data.load("cifar10").train_y) == 100


def test_a_refused_connection_is_named(monkeypatch, cache):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/" + CIFAR10.filename)
    text = message(OSError, data.load, "cifar10")
    assert text.startswith(f"cifar10 from {CIFAR10.url} could not be downloaded (")
    assert "refused" in text and f"put cifar-10-python.tar.gz into {cache}" in text and data.LAYOUTS in text


# the Gaussian task


def test_the_gaussian_task_is_y_equals_A_x():
    task = data.gaussian(0)
    assert typed(task)
    assert task.x.shape == (1000, 10) and task.A.shape == (10, 10) and task.x.dtype == torch.float64
    for x, y in zip(task.x[:5], task.y[:5], strict=True):
        torch.testing.assert_close(y, task.A @ x)


def test_the_gaussian_task_is_standard_normal():
    task = data.gaussian(1, samples=20_000, features=30)
    for part in (task.x, task.A):
        error = part.numel() ** -0.5  # of the mean; of the variance, sqrt(2) times that
        assert abs(part.mean()) < 4 * error and abs(part.var() - 1) < 6 * error
    assert abs(torch.corrcoef(torch.stack([task.x.flatten()[:900], task.A.flatten()]))[0, 1]) < 4 / 30


def test_the_gaussian_task_depends_on_the_seed_alone():
    assert same(data.gaussian(0), data.gaussian(0)) and not same(data.gaussian(0), data.gaussian(1))
    small = data.gaussian(0, dtype=torch.float32)
    assert small.x.dtype == small.y.dtype == small.A.dtype == torch.float32
    assert torch.equal(small.x, data.gaussian(0).x.float())


@pytest.mark.parametrize("size", [{"samples": 0}, {"features": -1}])
def test_an_empty_gaussian_task_is_refused(size):
    size = {"samples": 1000, "features": 10} | size
    assert message(ValueError, data.gaussian, 0, **size) == (
        f"samples {size['samples']}, features {size['features']}: accepted are 1 or more of each"
    )


# batches


def test_batches_cover_each_sample_once_an_epoch():
    order = data.batches(12, 4, steps=9, seed=0)
    assert isinstance(order, jaxtyping.Int64[torch.Tensor, "9 4"])
    epochs = order.view(3, 12)
    assert all(epoch.sort().values.tolist() == list(range(12)) for epoch in epochs)
    assert len(epochs.unique(dim=0)) == 3


def test_what_is_left_of_an_epoch_is_dropped():
    order = data.batches(11, 4, steps=400, seed=0).view(200, 8)
    assert all(len(epoch.unique()) == 8 for epoch in order)
    assert len(order.unique()) == 11  # and not the same samples each time


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 24])
def test_a_shorter_run_is_the_start_of_a_longer_one(steps):
    short = data.batches(100, 30, steps=steps, seed=4)
    assert short.shape == (steps, 30)
    assert torch.equal(short, data.batches(100, 30, steps=25, seed=4)[:steps])


def test_batches_depend_on_the_seed_alone():
    first = data.batches(100, 10, steps=20, seed=0)
    torch.rand(5)
    assert torch.equal(first, data.batches(100, 10, steps=20, seed=0))
    assert not torch.equal(first, data.batches(100, 10, steps=20, seed=1))


def test_a_full_batch_is_every_sample_at_each_step():
    assert all(len(row.unique()) == 7 for row in data.batches(7, 7, steps=3, seed=0))


@pytest.mark.parametrize("batch", [101, 0, -1])
def test_an_impossible_batch_is_named(batch):
    assert message(ValueError, data.batches, 100, batch, steps=1, seed=0) == (
        f"batch {batch}: accepted are 1 to 100, the number of samples"
    )


def test_negative_steps_are_named():
    assert message(ValueError, data.batches, 100, 10, steps=-1, seed=0) == "steps -1: accepted are 0 or more"


# ---- images whose records can be read without having them ----------------------------------------------------------


def test_augmented_is_torchvisions_crop_and_flip():
    x = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    drawn = data.crops(1, 40, seed=3)[0]
    for image, there, (row, column, flip) in zip(x, data.augmented(x, drawn), drawn.tolist(), strict=True):
        cut = transforms.crop(transforms.pad(image, 4), row, column, 32, 32)
        assert torch.equal(there, transforms.hflip(cut) if flip else cut)


def test_crops_reach_every_corner_and_depend_on_the_seed_alone():
    drawn = data.crops(50, 40, seed=3)
    assert drawn.shape == (50, 40, 3)
    assert [sorted(drawn[..., what].unique().tolist()) for what in range(3)] == [[*range(9)], [*range(9)], [0, 1]]
    assert torch.equal(drawn, data.crops(50, 40, seed=3)) and not torch.equal(drawn, data.crops(50, 40, seed=4))


def test_what_is_known_of_images_is_what_loading_them_says():
    digits = data.load("digits")
    assert (
        records.identity_of(presets.get("quick")) == data.KNOWN["digits"] == (digits.fingerprint, len(digits.classes))
    )


def test_known_images_that_are_not_here_have_an_identity_and_say_where_they_are():
    data.check("cifar10-jpeg")
    assert records.identity_of(presets.get("cifar", dataset="cifar10-jpeg"))[1] == 10
    with pytest.raises(FileNotFoundError, match=f"clone {data.JPEG} at commit {data.JPEG_COMMIT} into a folder called"):
        data.load("cifar10-jpeg")


def test_other_images_do_not_pass_for_known_ones(tmp_path, cache):
    for name in ("a", "b"):
        (tmp_path / "cifar10-jpeg" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (4, 4)).save(tmp_path / "cifar10-jpeg" / name / f"{number}.png")
    with pytest.raises(ValueError, match="are not those known as cifar10-jpeg: rename the folder"):
        data.load(str(tmp_path / "cifar10-jpeg"))
