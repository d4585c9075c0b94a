"""Commands that read a set read its data as the set was made of them, from its card; what is given besides wins."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import potstill
from potstill.cli.main import main
from potstill.errors import PotstillWarning

FEW = ["--seeds", "1", "--no-baselines", "--no-full", "--no-robust-scores", "--steps", "2", "--lr", "0.01"]
TABLE = ["--label", "kind", "--missing", "impute", "--split-seed", "3", "--test-fraction", "0.4"]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with a missing value whose label is not its last column, and a set of it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f"{'xy'[i % 2]},{rng.normal():.3f},{rng.normal():.3f}" for i in range(60)]
    Path("t.csv").write_text("kind,a,b\nx,,1.0\n" + "\n".join(rows) + "\n")
    assert (
        main(["distill", "t.csv", *TABLE, "--method", "random", "--ipc", "3", "--out", "s.safetensors", "--quiet"]) == 0
    )
    return tmp_path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures of unequal sizes, and a set of it made at 8×6."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(24):
        path = Path("photos", "ab"[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9 + number, 12, 3), dtype=np.uint8)).save(path)
    asked = ["--size", "8x6", "--horizontal-flip", "no", "--split-seed", "2", "--network", "mlp"]
    asked += ["--method", "random", "--ipc", "3", "--out", "s.safetensors", "--quiet"]
    assert main(["distill", "photos", *asked]) == 0
    return tmp_path


def test_evaluate_asks_for_no_data_option_again(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", "s.safetensors", "--data", "t.csv", *FEW]) == 0
    told = capsys.readouterr().err
    assert "read as the set was made: label kind, split seed 3, test fraction 0.4, missing impute" in told
    assert "was not made of this training data" not in told


@pytest.mark.parametrize(
    "words",
    [
        ["diagnose", "s.safetensors", "--data", "photos", "--plan"],
        ["label", "s.safetensors", "--data", "photos", "--out", "l.safetensors", "--network", "mlp", "--epochs", "1",
         "--teacher-epochs", "1", "--augment", "none"],
        ["export", "s.safetensors", "--data", "photos", "--to", "files", "--out", "chosen"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_so_do_other_commands(photos: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "read as the set was made: split seed 2, size 8x6, horizontal flip no" in told
    assert "was not made of this training data" not in told


def test_a_selection_is_put_together_again_as_it_was(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "s.safetensors", "--to", "indices", "--out", "i.safetensors"]) == 0
    assert main(["materialize", "i.safetensors", "--data", "photos", "--out", "again.safetensors"]) == 0
    assert Path("again.safetensors").read_bytes() == Path("s.safetensors").read_bytes()
    assert main(["evaluate", "i.safetensors", "--data", "photos", "--network", "mlp", *FEW]) == 0
    assert "was not made of this training data" not in capsys.readouterr().err


def test_a_comparison_goes_on_and_is_reported_with_its_own_options(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compare", "photos", "--methods", "random", "--ipc", "1", "--network", "mlp", "--out", "c", *FEW[:2]]
    asked += ["--steps", "2", "--lr", "0.01"]
    assert main([*asked, "--size", "8x6", "--quiet"]) == 0
    assert main(asked) == 0
    assert "read as the set was made: size 8x6" in capsys.readouterr().err
    assert main(["report", "c", "--data", "photos", "--out", "p.html"]) == 0
    assert "read as the set was made: size 8x6" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["8x8", "9x6"])
def test_what_is_given_wins_and_what_differs_is_said(
    photos: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    main(
        ["evaluate", "s.safetensors", "--data", "photos", "--size", size, "--split-seed", "0", "--network", "mlp", *FEW]
    )
    told = capsys.readouterr().err
    assert f"size {size}, as given; the set was made with 8x6" in told
    assert "split seed 0, as given; the set was made with 2" in told  # although it is what is usual


def test_other_content_under_one_name_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(Path("photos").rglob("*.png"))[:3]:
        shutil.copy(sorted(Path("photos").rglob("*.png"))[-1], path)
    main(["evaluate", "s.safetensors", "--data", "photos", "--network", "mlp", *FEW])
    told = capsys.readouterr().err
    assert "It was made of photos (20 samples), and these have the same name and number, but other content" in told


def test_python_reads_a_path_by_the_card_and_splits_as_they_are(
    photos: Path, recwarn: pytest.WarningsRecorder, few: Callable[..., potstill.Scorecard]
) -> None:
    few("photos")
    assert not [w for w in recwarn if issubclass(w.category, PotstillWarning)]
    with pytest.warns(PotstillWarning, match="read with other options .*: split seed was 2 and now is 0. Leave"):
        few(potstill.load_data("photos", size=(8, 6), horizontal_flip=False))


@pytest.fixture
def few() -> Callable[..., potstill.Scorecard]:
    def evaluate(data: object) -> potstill.Scorecard:
        return potstill.evaluate(
            "s.safetensors", data, networks="mlp", seeds=1, baselines=False, full=False, robust_scores=False,
            steps=(2,), lr=(0.01,), progress=None,
        )  # fmt: skip

    return evaluate
