"""The text benchmark: questions are right, splits share no content, and nothing changes without a new edition."""

import calendar
import itertools
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from fedmosaic.config import load_scenario
from fedmosaic.data.benchmark import load_benchmark
from fedmosaic.data.sheet import contact_sheet
from fedmosaic.data.sheet_page import contact_page
from fedmosaic.data.words import benchmark as words_benchmark
from fedmosaic.data.words import lexicon
from fedmosaic.data.words.language import NOUNS, VERBS
from fedmosaic.data.words.parts import PARTS, SHARES, part_of, part_of_list
from fedmosaic.data.words.public import mixture, public_questions
from fedmosaic.data.words.tasks import CLIENTS, SEEN, UNSEEN
from fedmosaic.errors import SettingsError

NAMES = (*SEEN, *UNSEEN)
KINDS = lexicon.NATURE | lexicon.MADE
KIND_OF = {thing: kind for kind in KINDS for thing in KINDS[kind].split()}
LEXICONS = {
    "sentiment@food": f"{lexicon.FOOD_THINGS} {lexicon.FOOD_GOOD} {lexicon.FOOD_BAD}",
    "sentiment@travel": f"{lexicon.TRAVEL_THINGS} {lexicon.TRAVEL_GOOD} {lexicon.TRAVEL_BAD}",
    "opposite@adjectives": lexicon.ADJECTIVE_OPPOSITES.replace(",", " "),
    "opposite@verbs": lexicon.VERB_OPPOSITES.replace(",", " "),
    "inflect@plural": " ".join(noun for noun, _ in NOUNS),
    **dict.fromkeys(("word-order@statements", "word-order@questions"), f"{lexicon.WHO} {lexicon.WHERE}"),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return load_benchmark("words", home=tmp_path_factory.mktemp("home"))


def samples_of(task):
    return (*task.train, *task.validation, *task.test)


def numbers_in(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def content(name, sample):
    """What a question is about, that no question of another split may be about."""
    skill = name.split("@")[0]
    text = sample.prompt.removesuffix("\nAnswer:").split("\nOptions:")[0]
    if skill in ("sum", "difference") or name == "larger@numbers":
        return {tuple(sorted(numbers_in(text)))}
    if name == "next@numbers":
        return {tuple(numbers_in(text))}
    if name == "larger@lengths":  # the larger unit's number
        units = {
            name: at for at, name in enumerate(("millimetres", "centimetres", "inches", "feet", "metres", "yards"))
        }
        return {max(re.findall(r"(\d+) (\w+)", text), key=lambda each: units.get(each[1], 9))}
    if skill in ("convert", "parity"):
        return set(numbers_in(text))
    if name in ("next@calendar", "inflect@past"):
        return {re.search(r"past tense of (\w+)|Which (.+)", text)[0]}
    own = set(LEXICONS[name].split()) if name in LEXICONS else set(KIND_OF)
    said = sample.prompt.removesuffix("\nAnswer:") if skill in ("odd-one-out", "opposite", "word-order") else text
    return own & set(re.findall(r"[a-z]+", said.lower()))


@pytest.mark.slow
def test_three_families_and_twelve_skills_in_two_domains_on_two_clients(words):
    assert words.task_names() == list(SEEN)
    assert words.unseen_names() == list(UNSEEN)
    assert Counter(words.task(name).family for name in SEEN) == {"language": 8, "numbers": 8, "knowledge": 8}
    homes = {name: number for number, client in enumerate(CLIENTS) for name in client}
    skills = Counter(name.split("@")[0] for name in SEEN)
    assert set(skills.values()) == {2}
    assert len(skills) == 12
    for skill in skills:
        assert len({homes[name] for name in SEEN if name.split("@")[0] == skill}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_content_is_in_two_splits(words, name):
    task = words.task(name)
    splits = [set().union(*(content(name, sample) for sample in split)) for split in
              (task.train, task.validation, task.test)]  # fmt: skip
    assert all(splits)
    for one, other in itertools.combinations(splits, 2):
        assert not one & other
    asked = [sample.prompt for sample in samples_of(task)]
    assert len(set(asked)) == len(asked)
    assert not any(sample.images for sample in samples_of(task))


@pytest.mark.parametrize("name", [name for name in NAMES if name.split("@")[0] in ("sum", "difference", "parity")])
def test_sums_are_right(words, name):
    for sample in samples_of(words.task(name)):
        found = numbers_in(sample.prompt)
        right = {"sum": sum(found), "difference": found[0] - found[-1], "parity": ["even", "odd"][found[0] % 2]}
        assert sample.answer == str(right[name.split("@")[0]])


def test_comparisons_sequences_units_and_dates_are_right(words):
    metres = {"millimetres": 0.001, "centimetres": 0.01, "metres": 1, "kilometres": 1000,
              "inches": 1 / 36, "feet": 1 / 3, "yards": 1,
              "seconds": 1, "minutes": 60, "hours": 3600, "days": 86400, "weeks": 604800,
              "months": 1, "years": 12}  # fmt: skip
    size = lambda text: int(text.split()[0]) * metres[text.split()[1]]  # noqa: E731
    for sample in samples_of(words.task("larger@lengths")):
        assert size(sample.answer) == max(map(size, sample.options))
        assert size(sample.options[0]) != size(sample.options[1])
    for sample in samples_of(words.task("larger@numbers")):
        assert int(sample.answer) == max(map(int, sample.options))
    for sample in samples_of(words.task("next@numbers")):
        shown = numbers_in(sample.prompt.split("?")[0])
        steps = {after - before for before, after in itertools.pairwise([*shown, int(sample.answer)])}
        assert len(steps) == 1
    for name in ("convert@length", "convert@time"):
        for sample in samples_of(words.task(name)):
            small, number, large = re.search(r"How many (\w+) are (\d+) (\w+)\?", sample.prompt).groups()
            assert int(sample.answer) * metres[small] == pytest.approx(int(number) * metres[large])
    english = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    for sample in samples_of(words.task("next@calendar")):
        number, way, start = re.search(r"is (\w+) \w+ (after|before) (\w+)\?", sample.prompt).groups()
        names = list(calendar.day_name) if start in calendar.day_name else list(calendar.month_name)[1:]
        steps = (english.index(number) + 1) * (1 if way == "after" else -1)
        assert names[(names.index(start) + steps) % len(names)] == sample.answer


@pytest.mark.parametrize("domain", ["nature", "made"])
def test_things_are_of_their_kinds(words, domain):
    for sample in samples_of(words.task(f"odd-one-out@{domain}")):
        kinds = Counter(KIND_OF[option] for option in sample.options)
        assert sorted(kinds.values()) == [1, 3]
        assert kinds[KIND_OF[sample.answer]] == 1
    for sample in samples_of(words.task(f"same-kind@{domain}")):
        one, other = (KIND_OF[word] for word in re.findall(r"[a-z]+", sample.prompt.split("the same")[0])
                      if word in KIND_OF)  # fmt: skip
        assert (one == other) == (sample.answer == "yes")
    for sample in samples_of(words.task(f"kind@{domain}")):
        thing = re.search(r"is (?:an? )?(\w+)\?", sample.prompt)[1]
        assert sample.answer == KIND_OF[thing]


def test_wrong_options_are_wrong(words):
    for name in ("use@purposes", "use@places"):
        for sample in samples_of(words.task(name)):
            kind = KIND_OF[re.search(r"(\w+)(?: for)?\?", sample.prompt)[1]]
            right = (lexicon.USES if name == "use@purposes" else lexicon.PLACES)[kind]
            assert sample.answer == right
            assert not set(lexicon.ALSO_FOUND.get(kind, ())) & set(sample.options)
    alike = [{"loud", "noisy"}, {"quiet", "silent"}, {"small", "tiny"}, {"big", "huge"}, {"true", "real"}]
    for sample in samples_of(words.task("opposite@adjectives")):
        assert not any(len(group & set(sample.options)) > 1 for group in alike if sample.answer in group)
    for kind in ("statements", "questions"):
        for sample in samples_of(words.task(f"word-order@{kind}")):
            shapes = [re.fullmatch(r"(does )?the \w+ \w+ in the \w+", option) for option in sample.options]
            spoken = [shape for shape in shapes if shape]
            assert any(shape[0] == sample.answer for shape in spoken)
            for option in sample.options:
                assert sorted(option.split()) == sorted(sample.answer.split())
                nouns = {sample.answer.split()[-1], sample.answer.split("the ")[1].split()[0]}
                articles = [after for word, after in itertools.pairwise([*option.split(), ""]) if word == "the"]
                assert option == sample.answer or not set(articles) <= nouns


def test_forms_of_words_are_english():
    assert dict(NOUNS)["baby"] == "babies"
    assert dict(NOUNS)["toy"] == "toys"
    assert dict(NOUNS)["watch"] == "watches"
    assert dict(NOUNS)["child"] == "children"
    assert {"walked", "smiled", "carried", "played", "stopped", "went"} <= {past for _, past in VERBS}
    assert not [past for _, past in VERBS if re.search(r"(eed|yed)$", past) and not re.search(r"[aeo]yed$", past)]
    for table in (NOUNS, VERBS):
        assert len({word for word, _ in table}) == len(table)
    assert len(KIND_OF) == sum(len(each.split()) for each in KINDS.values())


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_wins_by_being_frequent(words, name):
    task = words.task(name)
    if task.test[0].options is None:
        most = Counter(sample.answer for sample in task.test).most_common(1)[0][1]
        assert most <= 0.1 * len(task.test)
        return
    chance = sum(1 / len(sample.options) for sample in task.test) / len(task.test)
    assert Counter(sample.answer for sample in task.test).most_common(1)[0][1] <= 1.25 * chance * len(task.test)
    places = Counter(sample.options.index(sample.answer) for sample in task.train)
    if set(task.train[0].options) != set(task.train[1].options):  # no fixed labels
        assert max(places.values()) <= 1.4 * len(task.train) / len(task.train[0].options)


def test_parts_are_disjoint_and_as_large_as_they_should_be():
    items = list(range(200))
    dealt = [part_of_list("test", items, part) for part in PARTS]
    assert sorted(itertools.chain(*dealt)) == items
    assert [len(each) for each in dealt] == [round(200 * share) for share in SHARES.values()]
    counted = Counter(part_of("test", number) for number in range(4000))
    for part in PARTS:
        assert counted[part] / 4000 == pytest.approx(SHARES[part], abs=0.03)


def test_public_questions_are_about_other_words_than_the_clients_and_the_same_each_time(words):
    drawn = words.public(400, 3)
    assert [sample.prompt for sample in drawn] == [sample.prompt for sample in words.public(400, 3)]
    assert drawn[0].prompt != words.public(1, 4)[0].prompt
    own = {thing for name in ("kind@nature", "kind@made", "odd-one-out@made", "odd-one-out@nature")
           for sample in samples_of(words.task(name)) for thing in content(name, sample)}  # fmt: skip
    about = [sample for sample in drawn if sample.prompt.startswith(("Pick the kind", "Words:"))]
    assert len(about) > 50
    for sample in about:
        assert not own & set(re.findall(r"[a-z]+", sample.prompt))
    asked = {sample.prompt for name in NAMES for sample in samples_of(words.task(name))}
    told = list(itertools.islice(mixture(random.Random(1)), 2000))
    assert not asked & {sample.prompt for sample in (*drawn, *told)}
    assert all(sample.options for sample in public_questions(50, random.Random(0)))


def test_the_tasks_do_not_change_without_a_new_edition():
    """If this fails, what is asked has changed: raise EDITION, and put the new digest beside the new number."""
    assert (words_benchmark.EDITION, words_benchmark.checksum()) == (1, "a0714a19f889bbbb570ccda3ae53696a")


def test_names_and_keys_are_checked(words, tmp_path):
    with pytest.raises(SettingsError, match="opposite@verbs"):
        words.task("opposite@verb")
    path = tmp_path / "mine.toml"
    path.write_text('benchmark = "words"\ndata = "x"\n[[clients]]\nid = 0\nmodel = "m"\ntasks = ["sum@numbers"]\n')
    with pytest.raises(SettingsError, match="'data' is about data of your own, but benchmark is 'words'"):
        load_scenario(str(path))


def test_sheets_of_questions_without_images_have_no_empty_space_for_them(words):
    sheet = contact_sheet(words, "sum@numbers", n=2)
    assert sheet.height < 40 + 112
    page = contact_page(words, "opposite@verbs", n=3)
    assert "<img" not in page
    assert words.task("opposite@verbs").test[0].answer in page


def test_the_document_lists_the_tasks_as_they_are(words):
    text = (Path(__file__).parents[3] / "docs" / "words.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    listed = {cell.strip("`"): row for row in rows for cell in row if re.fullmatch(r"`[a-z-]+@[a-z]+`", cell)}
    for name in NAMES:
        task = words.task(name)
        assert f"{len(task.train)} / {len(task.validation)} / {len(task.test)}" in listed[name]
        assert task.family in listed[name]
        options = {len(sample.options or ()) for sample in samples_of(task)}
        assert ("open" if options == {0} else f"{max(options)}") in listed[name]
    for number, client in enumerate(CLIENTS):
        for order, name in enumerate(client, start=1):
            assert listed[name][:2] == [str(number), str(order)]
