"""Sets that other programs released: files as those programs write them, what becomes of them, what is refused."""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import potstill
from potstill.augment.zca import fit_normalization
from potstill.cli.main import main
from potstill.core import Splits
from potstill.errors import PotstillError

IPC = 4


@pytest.fixture(scope="module")
def digits() -> Splits:
    return potstill.load_data("digits")


@pytest.fixture(scope="module")
def pixels(digits: Splits) -> torch.Tensor:
    """Real pictures (40, 1, 8, 8), by class, moved off the grid of bytes as learned ones are."""
    y = digits.train.labels
    index = torch.cat([torch.nonzero(y == c).flatten()[:IPC] for c in range(10)])
    rng = torch.Generator().manual_seed(0)
    x = digits.train.raw(index)
    assert isinstance(x, torch.Tensor)
    return x + 0.1 * torch.randn(x.shape, generator=rng)


LABELS = torch.arange(10).repeat_interleave(IPC)


def write_dc(path: Path, images: torch.Tensor, *, legacy: bool = False) -> Path:
    """As main_DM.py of DatasetCondensation saves: two experiments, accuracies as NumPy's numbers."""
    saved = [[copy.deepcopy((images + n).detach()), copy.deepcopy(LABELS.detach())] for n in (1, 0)]
    accs = {"ConvNet": [np.float64(0.5), np.float64(0.25)]}
    torch.save({"data": saved, "accs_all_exps": accs}, path, _use_new_zipfile_serialization=not legacy)
    return path


def write_mtt(folder: Path, images: torch.Tensor) -> Path:
    """As distill.py of mtt-distillation saves its best."""
    folder.mkdir()
    torch.save(images.requires_grad_(True), folder / "images_best.pt")
    torch.save(torch.tensor(np.array([np.ones(IPC) * c for c in range(10)]), dtype=torch.long).view(-1),
               folder / "labels_best.pt")  # fmt: skip
    return folder


def write_datm(folder: Path, images: torch.Tensor, logits: torch.Tensor, lr: float) -> Path:
    """As DATM.py saves its best."""
    folder.mkdir()
    torch.save(images, folder / "images_best.pt")
    torch.save(logits.requires_grad_(True), folder / "labels_best.pt")
    torch.save(torch.tensor(lr).requires_grad_(True).detach(), folder / "lr_best.pt")
    return folder


def same(a: torch.Tensor, b: torch.Tensor, most: float = 1e-5) -> bool:
    return a.shape == b.shape and float((a - b).abs().max()) < most


@pytest.mark.parametrize("legacy", [False, True])
def test_dc_is_led_back_to_pixels_by_the_normalization_of_its_data(
    tmp_path: Path, digits: Splits, pixels: torch.Tensor, legacy: bool
) -> None:
    z = digits.train.normalization.apply(pixels)
    small = potstill.import_set(write_dc(tmp_path / "res_DM_digits_ConvNet_4ipc.pt", z, legacy=legacy), data=digits)
    assert same(small.inputs, pixels)
    assert same(small.model_space(), z)
    assert torch.equal(small.labels, LABELS)
    assert small.metadata["method"] == "dm"
    assert small.metadata["source"]["hash"] == digits.train.content_hash
    assert small.classes == digits.train.classes
    first = potstill.import_set(tmp_path / "res_DM_digits_ConvNet_4ipc.pt", "dc", data=digits, run=0)
    assert same(first.model_space(), z + 1)
    again = potstill.load(small.save(tmp_path / "set.safetensors"))
    assert torch.equal(again.inputs, small.inputs)


def test_numbers_or_a_known_name_lead_back_too(tmp_path: Path) -> None:
    x = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]))
    torch.save({"data": [[(x - mean) / std, torch.arange(10).repeat_interleave(2)]], "accs_all_exps": {}},
               tmp_path / "res_DSA_CIFAR10_ConvNet_2ipc.pt")  # fmt: skip
    known = potstill.import_set(tmp_path / "res_DSA_CIFAR10_ConvNet_2ipc.pt", known="cifar10")
    assert same(known.inputs, x)
    assert known.classes[3] == "cat"
    assert known.metadata["training"]["epochs"] == 1000
    given = potstill.import_set(
        tmp_path / "res_DSA_CIFAR10_ConvNet_2ipc.pt", "dc", mean=mean.flatten().tolist(), std=std.flatten().tolist()
    )
    assert same(given.inputs, x)
    assert given.classes == tuple("0123456789")
    with pytest.raises(PotstillError, match="give mean and std"):
        potstill.import_set(tmp_path / "res_DSA_CIFAR10_ConvNet_2ipc.pt", "dc")
    with pytest.raises(PotstillError, match="3 numbers each"):
        potstill.import_set(tmp_path / "res_DSA_CIFAR10_ConvNet_2ipc.pt", "dc", mean=[0.5], std=[0.5])


@pytest.mark.parametrize("family", ["mtt", "frepo"])
def test_whitened_tensors_come_back_as_pixels_with_the_data_they_were_fitted_on(
    tmp_path: Path, digits: Splits, pixels: torch.Tensor, family: str
) -> None:
    everything = digits.train.raw(torch.arange(len(digits.train)))
    assert isinstance(everything, torch.Tensor)
    z = fit_normalization(everything, family).apply(pixels)
    folder = write_mtt(tmp_path / "run", z.clone())
    small = potstill.import_set(folder, data=digits, zca=family, lr=0.02)
    assert same(small.inputs, pixels, 1e-4)
    assert same(small.model_space(), z, 1e-3)
    assert small.metadata["method"] == "mtt"
    assert small.metadata["training"]["learned_lr"] == pytest.approx(0.02)
    with pytest.raises(PotstillError, match="need the data"):
        potstill.import_set(folder, zca=family)


def test_what_mtt_led_back_itself_is_taken_as_pixels(tmp_path: Path, digits: Splits, pixels: torch.Tensor) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save(pixels, folder / "images_zca_5000.pt")
    torch.save(LABELS, folder / "labels_zca_5000.pt")
    assert same(potstill.import_set(folder / "images_zca_5000.pt", "mtt", data=digits).inputs, pixels)


def test_datm_has_soft_labels_and_its_learned_rate(tmp_path: Path, digits: Splits, pixels: torch.Tensor) -> None:
    logits = 5 * F.one_hot(LABELS, 10).float() + torch.rand(40, 10, generator=torch.Generator().manual_seed(1))
    folder = write_datm(tmp_path / "Normal", digits.train.normalization.apply(pixels), logits.clone(), 0.0375)
    small = potstill.import_set(folder, data=digits)
    assert same(small.labels, logits.softmax(1), 1e-6)
    assert small.metadata["training"]["learned_lr"] == pytest.approx(0.0375)
    assert small.metadata["imported"]["form"] == "datm"
    assert set(small.metadata["imported"]["sha256"]) == {"images_best.pt", "labels_best.pt", "lr_best.pt"}


def published_decode(data: torch.Tensor, target: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of every stored picture, enlarged, class by class: what IDC trains on."""
    images, labels = [], []
    for c in range(10):
        stored, side = data[target == c], data.shape[-1] // factor
        cut = [stored[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side]
               for i in range(factor) for j in range(factor)]  # fmt: skip
        images.append(F.interpolate(torch.cat(cut), size=data.shape[-1], mode="bilinear"))
        labels.append(torch.full((len(images[-1]),), c))
    return torch.cat(images), torch.cat(labels)


def test_idc_decodes_as_published_and_weighs_what_is_stored(
    tmp_path: Path, digits: Splits, pixels: torch.Tensor
) -> None:
    folder = tmp_path / "conv3in_grad_mse_cut_factor2_lr0.005_mix_ipc4"
    folder.mkdir()
    torch.save([pixels.detach().cpu(), LABELS.cpu()], folder / "data.pt")
    small = potstill.import_set(folder, data=digits)
    x, y = published_decode(pixels, LABELS, 2)
    assert same(small.inputs, x)
    assert torch.equal(small.labels, y)
    assert small.metadata["bytes"]["inputs"] == 4 * pixels.numel()
    assert torch.equal(potstill.load(small.save(tmp_path / "s.safetensors")).inputs, small.inputs)
    plain = potstill.import_set(folder / "data.pt", "idc", data=digits, factor=1)
    assert same(plain.inputs, pixels)
    torch.save([pixels, LABELS], tmp_path / "data.pt")
    with pytest.raises(PotstillError, match="give the factor"):
        potstill.import_set(tmp_path / "data.pt", data=digits)


def test_ncfm_is_read_at_its_last_iteration(tmp_path: Path, digits: Splits, pixels: torch.Tensor) -> None:
    run = tmp_path / "adamw_lr_img_0.0100_numr_reqs4096_factor2_20250601"
    (run / "distilled_data").mkdir(parents=True)
    for name, moved in (("init", 0.3), (9000, 0.2), (20000, 0.0)):  # as gather_save_visualize of NCFM saves
        held = (pixels + moved).requires_grad_(True)
        torch.save([held.detach().cpu(), LABELS.cpu()], run / "distilled_data" / f"data_{name}.pt")
    x, y = published_decode(pixels, LABELS, 2)
    for path in (run, run / "distilled_data", run / "distilled_data" / "data_20000.pt"):
        small = potstill.import_set(path, data=digits)
        assert same(small.inputs, x)
        assert torch.equal(small.labels, y)
        assert (small.metadata["method"], small.metadata["imported"]["form"]) == ("ncfm", "ncfm")
    first = potstill.import_set(run / "distilled_data" / "data_init.pt", data=digits, factor=1)
    assert same(first.inputs, pixels + 0.3)


def test_a_folder_of_jpegs_has_its_classes_by_position(tmp_path: Path, digits: Splits, pixels: torch.Tensor) -> None:
    for c in range(10):  # as SRe2L's recovery names them
        (tmp_path / "syn" / f"new{c:03d}").mkdir(parents=True)
        for n in range(2):
            picture = (pixels[c == LABELS][n, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
            Image.fromarray(picture).save(tmp_path / "syn" / f"new{c:03d}" / f"class{c:03d}_id{n:03d}.jpg", quality=95)
    small = potstill.import_set(tmp_path / "syn", data=digits, method="sre2l")
    assert small.classes == digits.train.classes
    assert small.labels.tolist() == [c for c in range(10) for _ in range(2)]
    kept = torch.cat([pixels[c == LABELS][:2] for c in range(10)]).clamp(0, 1)
    assert same(small.inputs, kept, 0.15)
    assert small.metadata["training"]["temperature"] == 20


def theirs(x: torch.Tensor, y: torch.Tensor, test: tuple[torch.Tensor, torch.Tensor]) -> float:
    """`evaluate_synset` of DatasetCondensation in short: SGD 0.01, momentum 0.9, weight decay 5e-4, batches of 256."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.InstanceNorm2d(16, affine=True), torch.nn.ReLU(),
        torch.nn.AvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(256, 10),
    )  # fmt: skip
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()
    return float((net(test[0]).argmax(1) == test[1]).float().mean())


def test_it_scores_as_under_the_code_that_wrote_it(tmp_path: Path, digits: Splits, pixels: torch.Tensor) -> None:
    assert digits.test is not None
    z = digits.train.normalization.apply(pixels)
    small = potstill.import_set(write_dc(tmp_path / "res_DC_digits_ConvNet_4ipc.pt", z), data=digits)
    x = digits.test.raw(torch.arange(len(digits.test)))
    test = digits.test.normalization.apply(x), digits.test.labels
    released, imported = theirs(z, LABELS, test), theirs(small.model_space(), small.labels, test)
    assert released > 0.4
    assert abs(released - imported) < 0.01
    options: Any = {"networks": "mlp", "epochs": 30, "seeds": 1, "baselines": False, "full": False}
    card = potstill.evaluate(small, digits, protocol="dc", robust_scores=False, progress=None, **options)
    assert card.to_dict()["accuracy"]["mean"] > 0.4  # a quarter of that by chance


class Harm:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_is_run_and_what_is_no_set_is_refused(tmp_path: Path, capsys: Any) -> None:
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 0, 1, 1])
    bad: dict[str, tuple[Any, str]] = {
        "code": ({"data": [[images, labels]], "x": Harm(tmp_path / "made")}, "nothing of it was run"),
        "list": ([images, labels], "give a res_"),
        "empty": ({"data": []}, "give a res_"),
        "short": ({"data": [[images, labels[:3]]]}, "required as labels"),
        "flat": ({"data": [[images.flatten(1), labels]]}, "images \\(n, c, h, w\\)"),
        "nan": ({"data": [[images * float("nan"), labels]]}, "must be finite"),
        "huge": ({"data": [[torch.zeros(1).expand(10**6, 1, 8, 8), labels]]}, "claim more"),
    }
    for name, (content, message) in bad.items():
        torch.save(content, tmp_path / f"res_{name}.pt")
        with pytest.raises(PotstillError, match=message) as refused:
            potstill.import_set(tmp_path / f"res_{name}.pt", mean=[0.0], std=[1.0])
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "made").exists()
    (tmp_path / "res_cut.pt").write_bytes((tmp_path / "res_list.pt").read_bytes()[:700])
    for words in (["res_cut.pt"], ["none.pt"], [""], ["res_list.pt", "--format", "mtt"]):
        line = [
            "import",
            str(tmp_path / words[0]),
            *words[1:],
            "--known",
            "mnist",
            "--out",
            str(tmp_path / "o.safetensors"),
        ]
        assert main(line) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "o.safetensors").exists()


def test_the_command(tmp_path: Path, digits: Splits, pixels: torch.Tensor, capsys: Any) -> None:
    write_dc(tmp_path / "res_DC_digits_ConvNet_4ipc.pt", digits.train.normalization.apply(pixels))
    out = tmp_path / "set.safetensors"
    assert main(["import", str(tmp_path / "res_DC_digits_ConvNet_4ipc.pt"), "--data", "digits", "--out", str(out)]) == 0
    assert "Measure it: potstill evaluate" in capsys.readouterr().out
    assert same(potstill.load(out).inputs, pixels)
    assert main(["inspect", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "imported: released set" in shown
    assert "None" not in shown
