"""The tasks, and which client has which in which order. Fixed before any method was run; never tuned to one.

The structure follows DRAKE (FedMosaic's benchmark): clients 0 to 2 have mostly visual-relation tasks, 3 to 5 mostly
abstract reasoning, 6 to 9 mostly visual question answering. Within a client the domain and the question both change
from task to task. The same skill occurs in different domains on different clients, and the same domain with different
skills.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from fedmosaic.data.distinct import Drawn, Wanted, distinct
from fedmosaic.data.mosaic40 import scene_skills  # noqa: F401  (registers its skills)
from fedmosaic.data.mosaic40.bank import Pool
from fedmosaic.data.mosaic40.catalog import TEST, TRAIN, VALIDATION
from fedmosaic.data.mosaic40.skills import SKILLS, Skill
from fedmosaic.data.sample import Sample, Task
from fedmosaic.seeding import derive

CLIENTS: tuple[tuple[str, str, str, str], ...] = (
    ("same-category@openmoji", "edit-type@photo", "which-differs@line", "count-compare@twemoji"),
    ("which-differs@twemoji", "same-category@blueprint", "digit-compare@ink", "change-type@openmoji"),
    ("which-image@pixel", "edit-type@blueprint", "count-compare@photo", "same-thing@night"),
    ("category@photo", "odd-one-out@openmoji", "bongard@blueprint", "use@twemoji"),
    ("common-concept@line", "bongard@night", "pattern@twemoji", "odd-one-out@pixel"),
    ("bongard@twemoji", "common-concept@night", "odd-one-out@blueprint", "analogy@openmoji"),
    ("describe@openmoji", "which-image@blueprint", "lowest-bar@bars", "count@night"),
    ("spatial@photo", "bar-count@hbars", "trend@lines", "use@line"),
    ("highest-bar@hbars", "count-thing@twemoji", "peak@lines", "category@blueprint"),
    ("trend@screen", "arrangement@photo", "bar-count@bars", "flag-colour@flags"),
)
# The first five have skills of no client; the last three a domain that neither clients nor base models have seen.
UNSEEN: tuple[str, ...] = (
    "digit-parity@chalk",
    "smallest-slice@pies",
    "place@photo",
    "same-arrangement@twemoji",
    "missing@openmoji",
    "bongard@stencil",
    "category@stencil",
    "same-category@stencil",
)
SEEN: tuple[str, ...] = tuple(name for client in CLIENTS for name in client)

# So many repeated questions in a row end the search for new ones.
_MAX_REPEATS = 800

SAMPLES = {TRAIN: 240, VALIDATION: 80, TEST: 120}
# Fewer than these are no task; single icons of a few kinds allow fewer different questions than SAMPLES.
_LEAST = {TRAIN: 120, VALIDATION: 30, TEST: 55}


def parse(name: str) -> tuple[Skill, str]:
    """Return a task's skill and domain.

    Args:
        name: the task's name, ``skill@domain``.
    """
    skill, _, domain = name.partition("@")
    return SKILLS[skill], domain


def make_task(name: str, pools: Mapping[str, Pool], seed: int) -> Task:
    """Return a task, its samples made from the pools of the clients' parts.

    Args:
        name: the task's name, ``skill@domain``.
        pools: the pictures of ``train``, ``validation`` and ``test``.
        seed: the benchmark's seed.

    Raises:
        DataError: the pictures suffice for too few different samples of a part.
    """
    skill, domain = parse(name)
    splits = {
        part: _samples(name, skill, pools[part], domain, part, random.Random(derive(seed, "task", name, part)))
        for part in SAMPLES
    }
    return Task(name, skill.family, splits[TRAIN], splits[VALIDATION], splits[TEST])


def _samples(name: str, skill: Skill, pool: Pool, domain: str, part: str, rng: random.Random) -> tuple[Sample, ...]:
    """Return distinct samples with balanced answers.

    If the images do not suffice, train samples may differ in their options alone. Scored samples differ in their images
    or in the words of their questions, whatever the words' order.
    """

    def draw(key: str, options_differ: bool) -> Drawn:
        question = skill.make(pool, domain, rng)
        sample = question.sample(key)
        text = question.qa.text if part == TRAIN else " ".join(sorted(question.qa.text.split()))
        asked = (sample.images, sample.prompt if options_differ else text)
        return Drawn(sample, asked, {(sample.images, sample.prompt), (sample.images, text)})

    wanted = Wanted(name, part, SAMPLES[part], _LEAST[part], _MAX_REPEATS, options_may_differ=part == TRAIN)
    return distinct(wanted, draw)
