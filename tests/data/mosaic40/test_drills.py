from itertools import islice

import pytest

from fedmosaic.data.mosaic40.build import PublicBank
from fedmosaic.data.mosaic40.drills import drills
from fedmosaic.data.mosaic40.scene_skills import OPPOSITE

pytestmark = pytest.mark.slow  # thousands of dialogues


def test_a_drill_has_one_right_answer_and_it_is_given(public_bank: PublicBank) -> None:
    kinds = set()
    for drill in islice(drills(public_bank, seed=0), 400):
        pictures = [public_bank.pool[key] for key in drill.images]
        for text, answer in drill.turns:
            if pictures[0].kind == "pair":
                one, relation = pictures[0]["first"], pictures[0]["relation"]
                sides = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
                if text.startswith("<image> where") or text.startswith("where"):
                    seen_from = relation if f" {one} ?" in text else OPPOSITE[relation]
                    assert answer == sides[seen_from]
                kinds.add("place")
                continue
            if "same thing as the first" in text:
                right = [p["code"] == pictures[0]["code"] for p in pictures[1:]]
            elif "same kind" in text:
                right = [p["category"] == pictures[0]["category"] for p in pictures[1:]]
            elif "do both images" in text:
                assert (answer == "yes") == (pictures[0]["code"] == pictures[1]["code"])
                kinds.add("both")
                continue
            else:
                named = text.removesuffix(" answer :").removesuffix(" .").removesuffix(" ?").split()[-1]
                right = [p["category"].split()[-1] == named for p in pictures]
                assert right.count(True) == 1
                assert answer == ("first", "second", "third", "fourth")[right.index(True)]
                kinds.add("named")
                continue
            assert right.count(True) == 1
            assert answer == ("second", "third", "fourth")[right.index(True)]
            kinds.add("kind" if "kind" in text else "thing")
    assert kinds == {"both", "named", "kind", "thing", "place"}


def test_drills_are_a_function_of_their_seed_and_matching_comes_alone(public_bank: PublicBank) -> None:
    once, again = (list(islice(drills(public_bank, seed=1, matching=True), 30)) for _ in range(2))
    assert once == again
    assert all("same thing as the first" in drill.turns[0][0] for drill in once)
    shown = [public_bank.pool[drill.images[0]].key in drill.images[1:] for drill in once]
    assert any(shown)
    assert not all(shown)
