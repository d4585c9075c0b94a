"""From words to a command: the method's own options, recipes, durations, and misuse that names the nearest."""

from pathlib import Path

import pytest

from potstill._util.formatting import parse_duration, parse_size
from potstill.cli.command import Misuse
from potstill.cli.option_types import parse_image_size, parse_integers, parse_names
from potstill.cli.parsing import parse
from potstill.errors import PotstillError

BASE = ["digits", "--ipc", "1", "--out", "a.safetensors"]


def write(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_the_fields_of_the_method_are_options():
    parsed = parse("distill", [*BASE, "--method", "dm", "--iterations", "500", "--lr=5", "--init", "noise"])
    assert parsed.options == {"iterations": 500, "lr": 5.0, "init_from": "noise"}
    assert parsed.command.method == "dm"


def test_an_option_may_stand_before_the_data():
    assert parse("distill", ["--lr", "5", *BASE]).options == {"lr": 5.0}


def test_options_left_alone_are_not_handed_on():
    assert parse("distill", [*BASE, "--preset", "published", "--iterations", "20000"]).options == {}


def test_parts_of_a_method_are_options_of_the_command():
    parsed = parse("distill", [*BASE, "--network", "convnet-w32", "--augment", "none"])
    assert (parsed.command.network, parsed.command.augment, parsed.options) == ("convnet-w32", "none", {})


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        (
            "distill",
            ["--iteration", "5"],
            "distill with --method dm has no option --iteration; did you mean --iterations",
        ),
        (
            "distill",
            ["--method", "random", "--iterations", "5"],
            "distill with --method random has no option --iterations",
        ),
        ("distill", ["--method", "dmm"], "unknown method 'dmm'; did you mean dm"),
        ("distill", ["--augment", "das"], "unknown augmentation 'das'; did you mean dsa"),
        ("evaluate", ["--protocol", "dcc"], "unknown protocol 'dcc'; did you mean dc"),
        ("evaluate", ["--seed-s", "5"], "did you mean --seed"),
        ("compare", ["--methods", "dm,herdin"], "unknown method 'herdin'; did you mean herding"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest(name, words, said):
    needed = {"distill": BASE, "evaluate": ["a.safetensors", "--data", "digits"]}
    start = needed.get(name, ["digits", "--methods", "dm", "--ipc", "1", "--out", "d"])
    with pytest.raises(Misuse) as error:
        parse(name, [*start, *words])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        [*BASE, "--lr", "fast"],
        [*BASE, "--time-limit", "10 parsecs"],
        ["--out", "a.safetensors"],
        [*BASE, "--device", "tpu"],
    ],
)
def test_values_that_do_not_fit_are_misuse(words, capsys):
    with pytest.raises(Misuse) as error:
        parse("distill", words)
    assert capsys.readouterr() == ("", "")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "DM"], "did you mean dm, idm or d4m?"),
        (["--augment", "DSA"], "did you mean dsa"),
        (["--parametrization", "Tile"], "did you mean tiles?"),
    ],
)
def test_case_does_not_count_and_the_nearest_three_are_named(words, said):
    with pytest.raises(Misuse) as error:
        parse("distill", [*BASE, *words])
    assert said in str(error.value)


def test_a_recipe_gives_defaults_and_the_command_line_wins(tmp_path):
    recipe = write(tmp_path, "method: dm\nipc: 3\ntime_limit: 10m\nlr: 5\nbatch-real: 32\nskip_bad: true\nsize: 8x9\n")
    parsed = parse("distill", ["digits", "--out", "a.safetensors", "--recipe", recipe, "--ipc", "7", "--lr", "1"])
    command = parsed.command
    assert (command.ipc, command.time_limit, command.reading.skip_bad, command.reading.size) == (7, 600.0, True, (8, 9))
    # A recipe is run as published but for what it says; the command line's lr is that, so it is not handed on.
    assert (parsed.preset, parsed.options) == ("published", {"batch_real": 32})


@pytest.mark.parametrize("key", ["init", "init-from"])
def test_a_recipe_has_the_names_of_options_and_of_fields(tmp_path, key):
    recipe = write(tmp_path, f"method: dm\nipc: 3\n{key}: noise\n")
    assert parse("distill", ["digits", "--out", "a.safetensors", "--recipe", recipe]).options == {"init_from": "noise"}


def test_a_recipe_may_name_the_data_the_output_and_the_method(tmp_path):
    recipe = write(tmp_path, "data: digits\nout: b.safetensors\nmethod: herding\nipc: 2\nnetwork: null\n")
    parsed = parse("distill", ["--recipe", recipe])
    command = parsed.command
    assert (command.data, command.out, command.method, command.network) == (
        "digits",
        Path("b.safetensors"),
        "herding",
        None,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("iteration: 5\n", "no option is called 'iteration'; did you mean iterations"),
        ("method: random\niterations: 5\n", "no option is called 'iterations'"),
        ("lr: fast\n", "lr cannot be 'fast'"),
        ("ipc: true\n", "ipc cannot be True"),
        ("skip-bad: maybe\n", "skip_bad cannot be 'maybe'"),
        ("resume: true\n", "no option is called 'resume'"),
    ],
)
def test_a_recipe_that_does_not_fit_is_misuse_that_names_the_file(text, said, tmp_path, capsys):
    recipe = write(tmp_path, text)
    with pytest.raises(Misuse) as error:
        parse("distill", [*BASE, "--recipe", recipe])
    assert said in str(error.value)
    assert recipe in str(error.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- dm\n", "a recipe is a mapping of options, found list"),
        ("", "found NoneType"),
        ("a: [1\n", "not YAML at line"),
        ("batch-real: 1\nbatch_real: 2\n", "stands there twice"),
        ("!!python/object/apply:os.getcwd []\n", "not YAML"),
        ("lr: 1\nlr: 2\n", "not YAML at line 2 ('lr' stands there twice; keep one)"),
        ("a: &a [1, 1]\nb: [*a, *a]\n", "not YAML at line 2 (an alias (*name), which is not read)"),
        ("[" * 20_000, "limit yaml_depth is 32"),
        ("# a comment\n" * 100_000, "limit yaml_bytes is 1,048,576"),
    ],
)
def test_a_recipe_that_is_none_fails_in_one_line(text, said, tmp_path):
    with pytest.raises(PotstillError) as error:
        parse("distill", [*BASE, "--recipe", write(tmp_path, text)])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_there_fails_in_one_line(tmp_path):
    with pytest.raises(PotstillError, match="cannot read the recipe"):
        parse("distill", [*BASE, "--recipe", str(tmp_path / "none.yaml")])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "-5s", "0", "0m", "1 m", "10m5", "nan", "inf"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="duration above 0"):
        parse_duration(text)


def test_lists_and_sizes():
    assert parse_names("dm, dc") == ("dm", "dc")
    assert parse_integers("1,10") == (1, 10)
    assert (parse_image_size("32"), parse_image_size("8x12")) == ((32, 32), (8, 12))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (parse_names, "dm,"),
        (parse_names, "dm,dm"),
        (parse_integers, "1,a"),
        (parse_integers, "0"),
        (parse_integers, "1,1"),
        (parse_image_size, "3x"),
        (parse_image_size, "0"),
    ],
)
def test_what_is_no_list_or_size(read, text):
    with pytest.raises(ValueError, match="needed"):
        read(text)


@pytest.mark.parametrize(
    ("words", "preset", "options"),
    [
        ([], "quick", {}),
        (["--iterations", "20000"], "quick", {"iterations": 20_000}),
        (["--preset", "good"], "good", {}),
        (["--steps", "3"], "published", {}),
        (["--time-limit", "5m"], "quick", {}),
        (["--time-limit", "5m", "--preset", "published"], "published", {}),
    ],
)
def test_how_hard_it_tries_and_what_is_given_wins(words, preset, options):
    """The published number given on the line is not what quick would set, so it must reach the method."""
    parsed = parse("distill", [*BASE, *words])
    assert (parsed.preset, parsed.options) == (preset, options)


def test_a_recipe_may_say_its_preset(tmp_path):
    assert parse("distill", [*BASE, "--recipe", write(tmp_path, "preset: good\n")]).preset == "good"


@pytest.mark.parametrize(
    ("text", "count"),
    [("20000", 20_000), ("20kB", 20_000), ("1.5 MB", 1_500_000), ("2KiB", 2_048), ("1mib", 2**20), ("3B", 3)],
)
def test_sizes_in_bytes(text, count):
    assert parse_size(text) == count
    assert parse("distill", ["digits", "--out", "a.safetensors", "--bytes", text]).command.bytes == count


@pytest.mark.parametrize("text", ["", "kB", "20 parsecs", "1e3", "20k"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="a size such as"):
        parse_size(text)
