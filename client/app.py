"""The hospital's ClientApp. Start-up is paid for every message of a deployed hospital, so heavy imports wait."""

import functools
import json
import time
from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from medtl_core.fingerprint import check_protocol
from medtl_core.flower.guard import guarded
from medtl_core.flower.records import decode_request, encode
from medtl_core.privacy.registration import Claim, introduction
from medtl_core.runtime import one_thread
from medtl_core.values import PrivacyEvent, Released, Update

from .gate import answered, public_weight, refuse_plain
from .site import OpenHospitals, Site, is_private

#: Joining under privacy tells public facts only: no release, and no cost.
_PUBLIC = PrivacyEvent("public", 0.0, 0.0)


class HospitalApp(ClientApp):
    """Answers every "train.TASK" with one handler: registering them all would read every method's module."""

    def __init__(self) -> None:
        super().__init__()
        self.hospitals = OpenHospitals()

    def __call__(self, message: Message, context: Context) -> Message:
        """Answers one message, see `ClientApp`."""
        if message.metadata.message_type.startswith("train."):
            return task(message, context)
        return super().__call__(message, context)

    def __reduce__(self) -> "tuple[Callable[[], HospitalApp], tuple[()]]":
        """Another process, as one of Ray's, answers with its own app: open hospitals do not travel."""
        return _app_of_this_process, ()


app = HospitalApp()


def _app_of_this_process() -> HospitalApp:
    return app


#: Under privacy no error tells its class.
_told = functools.partial(guarded, private=lambda context: is_private(context.run_config, context.node_config))


def _open(context: Context) -> Site:
    one_thread()
    return app.hospitals.open(context.run_config, context.node_config)


def _reply(message: Message, site: Site, released: Released, started: float) -> Message:
    if site.settings.privacy == "none":  # else not even the seconds of the work leave
        spent = {**released.metrics, "cpu-seconds": time.thread_time() - started}
        released = Released(released.update, released.event, spent)
    content = encode(released, agreement=site.agreement, site=site.data.name, weight=public_weight(site))
    return Message(content, reply_to=message)


@app.query("join")
@_told
def join(message: Message, context: Context) -> Message:
    """Computes the hospital's features once and tells its name, its number of cases and what it understood.

    A hospital with a folder of its own proves that the name is its: it signs with its identity key.
    """
    started = time.thread_time()
    check_protocol(message.metadata.group_id)
    site, released = _open(context), Released(Update({}), _PUBLIC)
    site.compare(json.loads(str(decode_request(message)[1].get("columns", "[]"))))
    if site.settings.privacy == "none":
        refuse_plain(site, "join")
        released = Released(Update({}))
    reply = _reply(message, site, released, started)
    if site.home is not None and not site.simulated:
        claim = Claim(site.data.name, site.agreement, message.metadata.run_id, message.metadata.dst_node_id)
        reply.content.config_records["about"].update(introduction(site.home, claim))
    return reply


@_told
def task(message: Message, context: Context) -> Message:
    """Answers one task of the server; see `medtl_core.federation.registry.all_tasks`."""
    started = time.thread_time()
    site = _open(context)
    arrays, config = decode_request(message)
    name = message.metadata.message_type.partition(".")[2]
    if name.startswith("secure_"):
        from .secure import staged

        released = staged(site, name, arrays, config)
    else:
        released = answered(site, name, arrays, config)
    return _reply(message, site, released, started)
