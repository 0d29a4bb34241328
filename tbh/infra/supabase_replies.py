"""What the database's functions answer, as models: nothing of a reply is used before its shape is checked.

Whole numbers and seconds may come as JSON numbers or as text; keys that are not named here are left alone, for a
later database may say more.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
)

from tbh.infra.supabase_errors import bad_reply
from tbh.messages.controls import OperatorRequest
from tbh.messages.orders import OrderStatus
from tbh.ports import Controls, SyncResult


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("is no number")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, lt=2**63)]
Seconds = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]


class Reply(BaseModel):
    """A JSON object of known keys."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Renewed(Reply):
    """Of a claim or a heartbeat."""

    epoch: Whole
    renewals: Whole
    expires_in_s: Seconds
    expires_at: AwareDatetime | None = None
    token_expires_at: AwareDatetime | None = None
    token_ttl_s: Seconds | None = None


class Beat(Renewed):
    """Of a heartbeat."""

    controls_version: Whole


class RequestRow(Reply):
    """What an operator asked to be done once. ``outcome`` is a word of ``OrderStatus``."""

    version: Whole
    action: StrictStr
    reason: StrictStr = ""
    client_order_id: StrictStr | None = None
    outcome: OrderStatus | None = None

    def request(self) -> OperatorRequest:
        """The same as the actors know it."""
        return OperatorRequest(**self.model_dump())


class ControlConfig(Reply):
    """What the operator asks for; ``flatten_version`` is null once that was acknowledged."""

    paused: StrictBool = False
    killed: StrictBool = False
    observe_only: StrictBool = False
    flatten_version: Whole | None = None
    requests: list[RequestRow] = Field(default_factory=list)


class ControlsRow(Reply):
    """Of ``bot_runtime_refresh_controls``, and in the context."""

    version: Whole
    control_config: ControlConfig
    execution_config: dict[str, Any] = Field(default_factory=dict)
    subscription_status: StrictStr
    acknowledged: Whole = 0

    def controls(self) -> Controls:
        """The same as the actors know it."""
        asked = self.control_config
        return Controls(
            version=self.version,
            paused=asked.paused,
            killed=asked.killed,
            observe_only=asked.observe_only,
            subscription_active=self.subscription_status == "active",
            flatten_version=asked.flatten_version,
            requests=tuple(each.request() for each in asked.requests),
        )


class Refused(Reply):
    """One entry that the database will never take."""

    seq: Whole
    reason: StrictStr


class Synced(Reply):
    """Of ``bot_runtime_sync``."""

    last_seq: Whole
    refused: list[Refused] = Field(default_factory=list)

    def result(self) -> SyncResult:
        """The same as the actors know it."""
        return SyncResult(last_seq=self.last_seq, refused=tuple((each.seq, each.reason) for each in self.refused))


class Acknowledged(Reply):
    """Of ``bot_runtime_acknowledge``."""

    acknowledged: Whole


class Recorded(Reply):
    """Of ``bot_runtime_write_event`` and ``bot_runtime_notify``: false for a repeat."""

    recorded: StrictBool


class Released(Reply):
    """Of ``bot_runtime_release``: false when the lease was not ours."""

    released: StrictBool


class TokenTaken(Reply):
    """Of ``bot_runtime_rotate_token``."""

    expires_at: AwareDatetime


_Model = TypeVar("_Model", bound=Reply)


def read_reply(model: type[_Model], data: Any, *, fn: str) -> _Model:
    """``data`` as ``model``. ``Unknown('bad_reply')`` for another shape: what the call did is not known then."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join([fn, *map(str, first["loc"])])
        raise bad_reply(where, first["msg"]) from None
