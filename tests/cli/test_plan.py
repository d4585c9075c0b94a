"""What a distillation would cost, as text and as JSON: beside what the run then makes."""

import json
import re
import subprocess
import sys

import pytest

import potstill
from potstill.cli.main import main
from potstill.core import StepCost
from potstill.planning.plan import plan
from potstill.planning.step_timing import LONGEST, _enough, mean_step_seconds, mean_step_share

CLI = [sys.executable, "-m", "potstill.cli.main"]
SMALL = ["--network", "convnet-d1-w8", "--batch-real", "32", "--device", "cpu"]


def at_least(planned: dict[str, int], made: dict[str, int]) -> bool:
    """Whether a plan, which counts codes packed, names the same parts and no fewer bytes."""
    return planned.keys() == made.keys() and all(planned[name] >= size for name, size in made.items())


def of_tensors(card):
    """The bytes on a card."""
    return dict(card["bytes"])


def planned(capsys, *words):
    words = words if "--profile-steps" in words else [*words, "--profile-steps", "0"]
    assert main(["plan", "digits", *words, "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return json.loads(shown.out)


def test_the_plan_says_what_the_run_then_makes(tmp_path, capsys):
    words = [
        "--method",
        "dm",
        "--ipc",
        "2",
        "--iterations",
        "3",
        "--steps-per-network",
        "1",
        "--parametrization",
        "tiles",
        *SMALL,
    ]
    found = planned(capsys, *words)
    path = tmp_path / "a.safetensors"
    assert main(["distill", "digits", *words, "--out", str(path), "--json", "--quiet"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert found["inputs"] == card["items"] == 80
    assert at_least(found["bytes"], of_tensors(card))
    assert found["steps"] == found["method_steps"] == card["cost"]["steps"] == 3
    assert (found["method"], found["network"], found["config"]) == (card["method"], card["network"], card["config"])
    assert found["real_per_step"] == 320
    assert found["passes"][0] == {"what": "real samples", "samples": 320, "at_once": 320, "real": True, "every": 1}


@pytest.mark.parametrize("parametrization", ["pixels", "memory", "frequency", "hallucinator", "field"])
def test_stored_bytes_are_those_of_the_file(parametrization, tmp_path, capsys):
    words = ["--ipc", "3", "--parametrization", parametrization, "--steps", "1", *SMALL]
    found = planned(capsys, *words)
    path = tmp_path / "a.safetensors"
    assert main(["distill", "digits", *words, "--out", str(path), "--quiet"]) == 0
    assert at_least(found["bytes"], of_tensors(potstill.load(path).metadata))


def test_a_budget_in_bytes_is_planned_as_it_is_spent(tmp_path, capsys):
    words = ["--bytes", "9000", "--labels", "learned", "--steps", "1", *SMALL]
    found = planned(capsys, *words)
    path = tmp_path / "a.safetensors"
    assert main(["distill", "digits", *words, "--out", str(path), "--quiet"]) == 0
    made = potstill.load(path)
    assert found["inputs"] == len(made)
    assert at_least(found["bytes"], of_tensors(made.metadata))
    assert found["labels"] == "learned"


def test_where_a_network_labels_and_no_method_is_named_the_plan_is_of_random_samples(capsys):
    card = planned(capsys, "--bytes", "1500", "--labels", "network")
    assert (card["method"], card["labels"]) == ("random", "network")
    card = planned(capsys, "--bytes", "1500", "--labels=network:bytes=500", "--method", "dm")
    assert card["method"] == "dm"


def test_the_terms_of_the_memory_add_up_to_its_peak(capsys):
    memory = planned(capsys, "--ipc", "1", *SMALL)["memory"]
    largest = max(term["bytes"] for term in memory["moments"])
    total = sum(term["bytes"] for term in memory["always"]) + largest + memory["spare"]["bytes"]
    assert memory["peak"] == max(memory["loading"], total)
    assert {"process", "state"} <= {term["name"] for term in memory["always"]}
    assert {"real samples", "synthetic samples", "move", "checkpoint", "writing"} <= {
        term["name"] for term in memory["moments"]
    }


@pytest.mark.parametrize("method", ["random", "herding", "k-means", "random-soft", "dc", "idc", "dream", "cafe", "m3d"])
def test_every_method_says_what_a_step_holds(method, capsys):
    words = ["--network", "convnet-d1-w8", "--device", "cpu"]
    found = planned(capsys, "--method", method, "--ipc", "1", *(words if method != "herding" else words[2:]))
    assert found["memory"]["peak"] > 0
    assert found["bytes"]["total"] > 0


def test_networks_to_train_first_are_counted_and_those_in_the_cache_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    words = ["--method", "dance", "--ipc", "1", "--pretrained-networks", "2", "--pretrain-epochs", "0", *SMALL]
    (needed,) = planned(capsys, *words)["networks"]
    assert (needed["count"], needed["cached"]) == (2, 0)
    path = tmp_path / "a.safetensors"
    assert main(["distill", "digits", *words, "--steps", "1", "--out", str(path), "--quiet"]) == 0
    capsys.readouterr()
    assert planned(capsys, *words)["networks"][0]["cached"] == 2
    assert main(["plan", "digits", *words]) == 0
    assert "2 networks trained on the real data (2 of them in the cache already)" in capsys.readouterr().out


def test_steps_are_measured_when_asked(capsys):
    found = planned(capsys, "--ipc", "1", "--steps", "10", "--profile-steps", "2", *SMALL)
    m = found["measured"]
    assert m["n"] == 2
    assert 0 < m["least"] <= m["median"] <= m["most"]
    assert m["forecast"] == pytest.approx(10 * m["median"])  # the mean of two is their median
    assert (found["steps"], found["method_steps"]) == (10, 20_000)
    assert found["seconds"] == m["forecast"]
    assert planned(capsys, "--ipc", "1", "--profile-steps", "0", *SMALL)["measured"] is None
    assert main(["plan", "digits", "--ipc", "1", "--profile-steps", "1", "--time-limit", "5m", *SMALL]) == 0
    shown = capsys.readouterr().out
    changed = "preset quick, but batch_real 32, network convnet-d1-w8"
    assert f"steps: 600 as set for the method ({changed}), or after 5 min 0 s" in shown
    assert "s a step (median of 1 measured now" in shown


def test_a_plan_begins_with_time_and_memory_in_units_that_people_use(capsys):
    assert main(["plan", "digits", "--ipc", "1", "--iterations", "4", "--quiet", *SMALL]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert re.fullmatch(r"time: (about [\d.]+ (second|minute)s?|less than a second) on this machine", first)
    assert re.fullmatch(r"memory: [\d.]+ (MB|GB) at its peak", second)


def test_what_must_be_trained_first_is_part_of_the_time(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    trained = ["--pretrained-networks", "1", "--pretrain-epochs", "400"]
    words = ["--method", "dance", "--ipc", "1", *trained, "--steps", "1"]
    found = planned(capsys, *words, *SMALL, "--profile-steps", "1")
    assert found["networks"][0]["seconds"] > 0
    assert found["seconds"] == found["measured"]["forecast"] + found["networks"][0]["seconds"]
    assert main(["plan", "digits", *words, *SMALL, "--profile-steps", "1"]) == 0
    assert "of it before the first step" in capsys.readouterr().out.splitlines()[0]


def test_what_gives_way_to_the_data_is_said_before_the_steps(tmp_path, capsys):
    """It came after the last of them, when it was too late to choose otherwise."""
    (tmp_path / "t.csv").write_text("a,b,label\n" + "".join(f"{i},{-i},{'xy'[i % 2]}\n" for i in range(20)))
    words = [
        "distill",
        str(tmp_path / "t.csv"),
        "--ipc",
        "1",
        "--iterations",
        "2",
        "--out",
        str(tmp_path / "t.safetensors"),
    ]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert 0 < said.index("network mlp: convnet, which dm has by default") < said.index("dm: step 1 of 2")


def test_the_step_that_reads_real_samples_counts_once_in_a_round():
    """The first of eight took 9 s and the others 1: left out of the mean, a run seemed to take a half of its time."""
    assert mean_step_seconds([9.0, 1.0], 8) == 2.0
    assert mean_step_seconds([20.0, *[1.0] * 7, 9.0], 8) == 2.0  # a whole round: the first, which warms up, is left out
    assert mean_step_seconds([5.0, 1.0, 3.0], 1) == 2.0
    assert mean_step_seconds([5.0], 8) == 5.0


def test_a_run_of_one_step_is_timed_by_it(capsys):
    measured = planned(capsys, "--method", "dm", "--ipc", "1", "--steps", "1", *SMALL, "--profile-steps", "2")[
        "measured"
    ]
    assert measured["n"] == 1
    assert measured["forecast"] == measured["median"] > 0


def test_the_text_names_the_parts_the_size_and_the_predicted_peak(capsys):
    assert main(["plan", "digits", "--ipc", "2", "--quiet", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == ""
    assert lines[3].startswith(
        "dm over pixels in convnet-d1-w8-instance-avg; labels hard, augmentation dsa-noflip, on "
    )
    assert lines[5].startswith(
        "the set: 20 pictures, 2 of each class; at most about 1,294 bytes, as how many bits a value needs is found "
        "when it is there (1,284 of inputs, 10 of labels"
    )
    assert len(lines) <= 8, "what a newcomer wants"
    assert main(["plan", "digits", "--ipc", "2", "--quiet", "--details", *SMALL]) == 0
    longer = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "s a step" not in line][2:] == [
        line for line in longer[: len(lines)] if "s a step" not in line
    ][2:]
    assert any(line.lstrip().split("  ")[1:2] == ["predicted peak"] for line in longer)
    assert "what a step passes" in "\n".join(longer)


def test_a_recipe_of_distill_is_read_and_what_only_that_takes_is_left_out(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("method: dm\nipc: 3\nout: a.safetensors\ncheckpoint-every: 5m\nbatch-real: 16\n")
    found = planned(capsys, "--recipe", str(recipe), "--network", "convnet-d1-w8")
    assert (found["inputs"], found["config"]["batch_real"]) == (30, 16)
    recipe.write_text("ipc: 3\nouts: a.safetensors\n")
    assert main(["plan", "digits", "--recipe", str(recipe)]) == 2
    assert "no option is called 'outs'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "plan: say once how much to keep"),
        (["--ipc", "1", "--items", "10"], "plan: say once how much to keep"),
        (["--ipc", "0"], "plan: --ipc must be at least 1"),
        (["--ipc", "1", "--profile-steps", "-1"], "plan: --profile-steps must be at least 0"),
        (["--ipc", "1", "--out", "a.safetensors"], "plan with --method dm has no option --out"),
        (["--ipc", "1", "--method", "dmm"], "unknown method 'dmm'"),
    ],
)
def test_misuse_is_one_line_and_status_2(words, said, capsys):
    assert main(["plan", "digits", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err.splitlines()[-1]


def test_without_a_method_the_plan_says_that_distill_tries_several(capsys):
    words = ["plan", "digits", "--ipc", "1", "--profile-steps", "0", "--network", "convnet-d1-w8"]
    assert main(words) == 0
    said = "without --method, distill tries several methods and takes --time-limit, or five minutes, for it"
    assert f"potstill: {said}; this plan is of dm\n" in capsys.readouterr().err
    for more in (["--method", "dm"], ["--preset", "good"], ["--batch-real", "9"], ["--steps", "4"]):
        assert main([*words, *more]) == 0
        assert said not in capsys.readouterr().err


def test_what_the_run_would_refuse_the_plan_refuses_with_the_same_line(tmp_path, capsys):
    words = ["--ipc", "900", "--method", "herding"]
    assert main(["plan", "digits", *words, "--quiet"]) == 1
    refused = capsys.readouterr()
    assert main(["distill", "digits", *words, "--out", str(tmp_path / "a.safetensors"), "--quiet"]) == 1
    assert refused.out == ""
    assert refused.err == capsys.readouterr().err
    assert refused.err.count("\n") == 1


def test_in_python_a_plan_is_a_value():
    data = potstill.load_data("digits")
    made = plan(data, "dm", ipc=1, network="convnet-d1-w8", device="cpu")
    assert (made.classes, made.inputs, made.per_class, made.shape) == (10, 10, (1, 1), (1, 8, 8))
    assert made.to_dict()["memory"]["peak"] == made.memory.peak
    assert potstill.plan is plan
    with pytest.raises(potstill.PotstillError, match="steps to profile must be at least 0"):
        plan(data, "dm", ipc=1, profile_steps=-1)


@pytest.mark.slow
def test_the_peak_of_a_run_is_within_a_seventh_of_its_plan(tmp_path):
    words = ["digits", "--ipc", "100", "--network", "convnet-d2-w256", "--steps", "2", "--device", "cpu"]
    words += ["--batch-real", "32"]

    def answer(command, *more):
        done = subprocess.run([*CLI, command, *words, *more, "--json", "--quiet"], capture_output=True, check=True)
        return json.loads(done.stdout)

    predicted = answer("plan")["memory"]
    peak = answer("distill", "--out", str(tmp_path / "a.safetensors"))["cost"]["peak_memory"]
    held = predicted["always"][0]["bytes"]
    assert peak - held > 50 * 2**20  # the run, not the interpreter, is what is predicted
    assert predicted["peak"] == pytest.approx(peak, rel=0.15)


def test_a_plan_says_what_it_knows_as_it_gets_to_know_it(capsys):
    """It was silent until its last line, for two minutes."""
    assert main(["plan", "digits", "--ipc", "1", *SMALL]) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "potstill: dm, preset quick: reading digits"
    roughly, first = told[-2:]
    assert re.fullmatch(r"potstill: roughly, by counted operations: .* for 600 steps; now steps are timed", roughly)
    assert re.fullmatch(r"potstill: by the first step: .* for 600 steps", first)


def test_steps_that_would_take_over_a_minute_are_not_timed(capsys, monkeypatch):
    monkeypatch.setattr("potstill.planning.step_timing.SPEED", 1e3)
    assert main(["plan", "digits", "--ipc", "1", *SMALL, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["measured"], found["seconds"]) == (None, None)
    assert found["rough"] > 600 * 60
    assert main(["plan", "digits", "--ipc", "1", *SMALL]) == 0
    shown = capsys.readouterr()
    assert "; none is timed, as one takes about" in shown.err
    assert shown.out.startswith("time: not measured; roughly about ")


@pytest.mark.parametrize(
    ("each", "n"), [([30.0], 1), ([12.0, 12.0], 1), ([9.0, 9.0, 9.0], 2), ([0.1] * 9, 9), ([6.0, 1.0, 1.0, 9.0], 4)]
)
def test_steps_are_timed_for_so_long_at_most(each, n):
    """No step is begun that would end after `LONGEST`."""
    ended = next((k for k in range(1, len(each) + 1) if _enough(each[:k])), len(each))
    assert ended == n
    assert n == 1 or sum(each[:n]) <= LONGEST


def test_the_first_step_alone_counts_as_the_mean_of_a_round():
    """It reads for all the steps that the reading serves: taken for each of them, 18 minutes were 3 hours."""
    parts = [StepCost(what="real", ready=lambda n: lambda: None, samples=800, size=80, real=True, every=8)]
    assert mean_step_share(parts) == 1 / 8
    assert mean_step_share(None) == 1.0


@pytest.mark.parametrize("method", ["dm", "random"])
def test_the_parts_of_the_bytes_that_are_shown_add_up(method, tmp_path, capsys):
    """The encoder of texts is most of a small set of them, and was not named."""
    subjects = {"birds": "wing nest egg feather", "ships": "sail mast deck harbour"}
    words = [(f"{w} {i}", name) for name, text in subjects.items() for i in range(20) for w in text.split()]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"the {w} of it,{c}\n" for w, c in words))
    command = [
        "plan", str(tmp_path / "texts.csv"), "--text", "text", "--label", "label", "--ipc", "2", "--method", method
    ]  # fmt: skip
    assert main([*command, "--profile-steps", "0", "--quiet"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("the set:")]
    total, parts = re.search(r"([\d,]+) bytes.*\((.*)\)$", line).groups()
    sizes = dict(re.fullmatch(r"([\d,]+) of (.*)", part).groups()[::-1] for part in parts.split(", "))
    assert sum(int(n.replace(",", "")) for n in sizes.values()) == int(total.replace(",", ""))
    assert {"the encoder of texts", "labels", "inputs" if method == "dm" else "texts"} <= set(sizes)
