import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from fedmosaic.data.mosaic40.bank import BankBuilder, Pool
from fedmosaic.data.mosaic40.build import Mosaic40, PublicBank
from fedmosaic.data.mosaic40.categories import disjoint_categories
from fedmosaic.data.mosaic40.recipe import PUBLIC_ICON_DOMAINS
from fedmosaic.data.mosaic40.skills import FAMILIES, SKILLS
from fedmosaic.data.mosaic40.tasks import CLIENTS, SEEN, UNSEEN, parse
from fedmosaic.data.sample import Sample, Task
from fedmosaic.errors import SettingsError

NAMES = (*SEEN, *UNSEEN)
ORDINALS = ("first", "second", "third", "fourth", "fifth")


def all_samples(task: Task) -> tuple[Sample, ...]:
    return (*task.train, *task.validation, *task.test)


def test_ten_clients_have_forty_distinct_tasks(mosaic: Mosaic40) -> None:
    assert [len(client) for client in CLIENTS] == [4] * 10
    assert len(set(NAMES)) == 40 + len(UNSEEN)
    assert mosaic.task_names() == list(SEEN)
    assert len(mosaic.unseen_names()) >= 6


def test_families_lie_as_in_drake() -> None:
    families = [[parse(name)[0].family for name in client] for client in CLIENTS]
    assert {f for client in families for f in client} == set(FAMILIES)
    for clients, family in ((range(3), "relation"), (range(3, 6), "reasoning"), (range(6, 10), "vqa")):
        for client in clients:
            assert Counter(families[client])[family] >= 3


def test_look_and_question_both_shift_over_a_clients_time() -> None:
    for client in CLIENTS:
        skills, domains = zip(*(name.split("@") for name in client), strict=True)
        assert len(set(skills)) == 4
        assert len(set(domains)) >= 3
        assert all(one != other for one, other in pairwise(domains))


def test_some_skills_recur_in_other_looks_on_other_clients() -> None:
    homes: dict[str, set[int]] = {}
    for number, client in enumerate(CLIENTS):
        for name in client:
            homes.setdefault(name.split("@")[0], set()).add(number)
    assert sum(len(clients) >= 2 for clients in homes.values()) >= 9


def test_unseen_tasks_ask_anew_or_look_anew() -> None:
    asked = {name.split("@")[0] for name in SEEN}
    domains = {name.split("@")[1] for name in SEEN}
    for name in UNSEEN:
        skill, domain = name.split("@")
        assert skill not in asked or domain not in domains
    assert "stencil" not in domains
    assert "stencil" not in PUBLIC_ICON_DOMAINS


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_complete_and_well_formed(mosaic: Mosaic40, name: str) -> None:
    task = mosaic.task(name)
    assert task.family == parse(name)[0].family
    assert len(task.train) >= 120
    few = {"use@twemoji": (42, 72), "use@line": (42, 72), "place@photo": (34, 60), "describe@openmoji": (64, 115)}
    least = few.get(name, (80, 120))  # single icons run out
    assert least[0] <= len(task.validation) <= 80
    assert least[1] <= len(task.test) <= 120
    images = [{key for sample in split for key in sample.images} for split in (task.train, task.validation, task.test)]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]
    assert len({s.id for s in all_samples(task)}) == len(all_samples(task))
    assert len({(s.images, s.prompt) for s in all_samples(task)}) == len(all_samples(task))
    for sample in all_samples(task):
        check_prompt(sample)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["validation", "test"])
def test_scored_questions_differ_in_what_they_show_or_ask(mosaic: Mosaic40, split: str) -> None:
    """By pixels, for two drawings may be equal, and by words, for prompts may differ in the order of options alone."""
    for name in NAMES:
        samples = getattr(mosaic.task(name), split)
        asked = {
            (*(mosaic.images.load(key).tobytes() for key in s.images), *sorted(s.prompt.split(" options :")[0].split()))
            for s in samples
        }
        assert len(asked) >= len(samples) - 2  # flags, and windows of one series, that are drawn alike


def check_prompt(sample: Sample) -> None:
    assert re.fullmatch(r"(\S+ )*answer :", sample.prompt)
    assert sample.prompt == sample.prompt.lower()
    number = len(sample.images)
    marks = "<image> " if number == 1 else "".join(f"<image> {o} " for o in ORDINALS[:number])
    assert sample.prompt.startswith(marks)
    assert "<image>" not in sample.prompt.removeprefix(marks)
    for piece in (sample.answer, *(sample.options or ())):
        assert 1 <= len(piece.split()) <= 3
    if " options : " in sample.prompt:
        listed = sample.prompt.split(" options : ")[1].removesuffix(" answer :")
        assert tuple(listed.split(" , ") if " , " in listed else listed.split(" ")) == sample.options


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_wins_by_being_frequent(mosaic: Mosaic40, name: str) -> None:
    task = mosaic.task(name)
    if task.test[0].options is None:
        return
    chance = sum(1 / len(s.options or ()) for s in task.test) / len(task.test)
    most = Counter(s.answer for s in task.test).most_common(1)[0][1] / len(task.test)
    assert most <= chance * 1.25


def test_many_tasks_show_several_images_and_some_are_open(mosaic: Mosaic40) -> None:
    first = [mosaic.task(name).test[0] for name in SEEN]
    assert sum(len(sample.images) > 1 for sample in first) >= 10
    assert sum(sample.options is None for sample in first) >= 3


@pytest.mark.slow
def test_images_are_few_all_used_and_in_one_split_only(mosaic: Mosaic40, public_bank: PublicBank) -> None:
    used: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set()}
    for name in NAMES:
        for split, keys in used.items():
            keys.update(key for sample in getattr(mosaic.task(name), split) for key in sample.images)
    assert set().union(*used.values()) == set(mosaic.images.keys())
    assert len(mosaic.images.keys()) <= 11_500
    assert len(public_bank.images) <= 8_000
    pixels = {split: {mosaic.images.load(key).tobytes() for key in keys} for split, keys in used.items()}
    public = public_bank.images
    pixels["public"] = {public.load(f"{i:06d}").tobytes() for i in range(len(public))}
    splits = list(pixels)
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            assert not pixels[one] & pixels[other], (one, other)


def test_the_document_lists_the_tasks_as_they_are(mosaic: Mosaic40, public_bank: PublicBank) -> None:
    text = (Path(__file__).parents[3] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|") and "@" in line and "`" in line]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    listed = {next(cell for cell in row if "@" in cell).strip("`"): row for row in rows}
    for client, names in enumerate(CLIENTS):
        for order, name in enumerate(names, start=1):
            assert listed[name][:2] == [str(client), str(order)]
    for name in NAMES:
        task = mosaic.task(name)
        cells = listed[name][2 if name in SEEN else 0 :]
        assert cells[1] == task.family
        assert cells[2] == str(len(task.test[0].images))
        assert cells[4] == f"{len(task.train)} / {len(task.validation)} / {len(task.test)}"
    assert f"{len(mosaic.images.keys()):,} images" in text
    assert f"{len(public_bank.images):,} images" in text


@pytest.mark.parametrize("name", ["use@twemoji", "use@line", "place@photo"])
def test_no_wrong_option_is_defensible(mosaic: Mosaic40, name: str) -> None:
    doubtful = {
        "catch": {"eat", "watch"},
        "watch": {"catch", "eat"},
        "wear": {"clean"},
        "kitchen": {"home"},
        "sea": {"kitchen"},
    }
    for sample in all_samples(mosaic.task(name)):
        assert not doubtful.get(sample.answer, set()) & set(sample.options or ())


def test_an_unknown_task_is_answered_with_near_names(mosaic: Mosaic40) -> None:
    with pytest.raises(SettingsError, match="bongard@night"):
        mosaic.task("bongard@nigh")


def _pool(*icons: tuple[str, str, str]) -> Pool:
    builder = BankBuilder()
    blank = Image.new("RGB", (64, 64))
    for code, category, domain in icons:
        builder.add(blank, "icon", domain, code=code, category=category, colour="", name=code)
    return Pool(builder.pictures)


def test_questions_about_kinds_have_right_answers() -> None:
    """Checked from the pictures' facts for each skill, with the rule written anew."""
    kinds = ("bug", "building", "vehicle", "plant")
    pool = _pool(*((f"{kind}{i}", kind, domain) for kind in kinds for i in range(5) for domain in ("openmoji", "line")))
    rng = random.Random(0)
    for _ in range(60):
        odd = SKILLS["odd-one-out"].make(pool, "line", rng)
        counted = Counter(p["category"] for p in odd.images)
        assert sorted(counted.values()) == [1, 3]
        assert counted[odd.images[ORDINALS.index(odd.qa.answer)]["category"]] == 1
        bongard = SKILLS["bongard"].make(pool, "line", rng)
        assert len({p["code"] for p in bongard.images}) == 4
        assert (len({p["category"] for p in bongard.images}) == 1) == (bongard.qa.answer == "yes")
        assert len({p["category"] for p in bongard.images[:3]}) == 1
        pair = SKILLS["same-category"].make(pool, "line", rng)
        assert (pair.images[0]["category"] == pair.images[1]["category"]) == (pair.qa.answer == "yes")
        assert pair.images[0]["code"] != pair.images[1]["code"]
        same = SKILLS["same-thing"].make(pool, "line", rng)
        assert [p.domain for p in same.images] == ["openmoji", "line"]
        assert (same.images[0]["code"] == same.images[1]["code"]) == (same.qa.answer == "yes")
        which = SKILLS["which-image"].make(pool, "line", rng)
        shown = which.images[ORDINALS.index(which.qa.answer)]["category"]
        assert which.qa.text in {f"which image shows a {shown} ?", f"which image shows an {shown} ?"}
        missing = SKILLS["missing"].make(pool, "line", rng)
        assert set(missing.qa.options or ()) - {p["category"] for p in missing.images} == {missing.qa.answer}
        following = SKILLS["pattern"].make(pool, "line", rng)
        sequence = [p["category"] for p in following.images]
        period = 3 if sequence[3] == sequence[0] else 2
        assert following.qa.answer == sequence[4 - period]
        assert len(set(following.qa.options or ())) == 4


@pytest.mark.parametrize("name", [name for name in NAMES if name.split("@")[0] in {"category", "common-concept"}])
def test_no_option_is_a_kind_that_the_thing_may_also_be(mosaic: Mosaic40, name: str) -> None:
    for sample in all_samples(mosaic.task(name)):
        assert {option for option in sample.options or () if option != sample.answer} <= set(
            disjoint_categories(sample.answer)
        )
