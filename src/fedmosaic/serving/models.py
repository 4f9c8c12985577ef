"""The models that are served, and the one place where they answer, a request at a time."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence

from fedmosaic.api.moments import Moment
from fedmosaic.errors import SettingsError
from fedmosaic.models.generation import Said
from fedmosaic.serving.messages import asked, picture
from fedmosaic.serving.request import ChatRequest


class ServedModels:
    """A client's models by the names that requests call them by: ``client-3-final``.

    Args:
        client_id: whose they are.
        moments: the client's models.
        made: when they were, in seconds since 1970.

    Attributes:
        client: the client's id.
        made: see above.
        by_name: the models.

    Raises:
        SettingsError: there are none.
    """

    def __init__(self, client_id: int, moments: Sequence[Moment], *, made: int = 0) -> None:
        if not moments:
            raise SettingsError(
                f"client {client_id} has no such model; leave --after-exchange out to serve those there are"
            )
        self.client = client_id
        self.made = made
        self.by_name = {f"client-{client_id}-{moment.name}": moment for moment in moments}
        self._turn = threading.Lock()

    def load(self) -> None:
        """Load a model, so that the first request does not wait for it.

        Raises:
            FedMosaicError: it is damaged, or has changed since the run.
        """
        next(iter(self.by_name.values())).model.load()

    def answers(self, request: ChatRequest) -> Generator[Said]:
        """Yield an answer as it grows; the last one is complete. Others wait until it is, or the iterator is closed.

        Args:
            request: names one of the models.

        Raises:
            Refusal: a picture would have to be fetched.
            FedMosaicError: the question cannot be answered.
        """
        prompt, uris = asked(request.messages)
        model = self.by_name[request.model].model
        with self._turn:  # the models share weights, in which they take turns; pictures are opened one at a time
            pictures = [picture(uri, number) for number, uri in enumerate(uris, start=1)]
            yield from model.tell(pictures, prompt, request.options, max_tokens=request.max_tokens)
