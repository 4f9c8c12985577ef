"""What a request is refused with, in OpenAI's form."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fedmosaic.errors import DataError, FedMosaicError, ModelError, SettingsError


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of the program
    """A request cannot be answered.

    Args:
        status: of the answer.
        message: one line.
        param: the part of the request that it is about.
        code: for programs, e.g. ``model_not_found``.
    """

    def __init__(self, status: HTTPStatus, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    @classmethod
    def of(cls, error: Exception) -> Refusal:
        """Return what an error becomes: the asker's fault, or the server's.

        Args:
            error: raised while the request was answered; of one that is not foreseen only its kind is told.
        """
        if isinstance(error, Refusal):
            return error
        if isinstance(error, SettingsError | DataError | ModelError):
            return cls(HTTPStatus.BAD_REQUEST, str(error))
        if isinstance(error, FedMosaicError):
            return cls(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        return cls(HTTPStatus.INTERNAL_SERVER_ERROR, f"the answer failed ({type(error).__name__}); see the server")

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        line = " ".join(str(self).split())
        return {"error": {"message": line, "type": kind, "param": self.param, "code": self.code}}
