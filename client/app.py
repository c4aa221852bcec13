"""The hospital's ClientApp. Start-up is paid for every message of a deployed hospital, so heavy imports wait."""

import functools
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from medtl_core.errors import MedtlError
from medtl_core.fingerprint import check_protocol
from medtl_core.flower.guard import guarded
from medtl_core.flower.records import decode_request, encode, wire_bytes
from medtl_core.privacy.receipt import Sent, write_receipt
from medtl_core.privacy.registration import Claim, introduction
from medtl_core.privacy.requester import Requester
from medtl_core.runtime import one_thread
from medtl_core.values import PrivacyEvent, Released, Update

from .gate import answered, public_weight, refuse_plain
from .site import Node, OpenHospitals, Site, is_private

#: Joining under privacy tells public facts only: no release, and no cost.
_PUBLIC = PrivacyEvent("public", 0.0, 0.0)


class HospitalApp(ClientApp):
    """Answers every "train.TASK" with one handler: registering them all would read every method's module."""

    def __init__(self) -> None:
        super().__init__()
        self.hospitals = OpenHospitals()

    def __call__(self, message: Message, context: Context) -> Message:
        """Answers one message, see `ClientApp`; what leaves is written down first, a refusal too."""
        try:
            if message.metadata.message_type.startswith("train."):
                return task(message, context)
            return super().__call__(message, context)
        except Exception as error:
            _note_refusal(message, context, error)
            raise

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
    site = app.hospitals.open(context.run_config, context.node_config)
    return replace(site, asker=_asker(context))


def _reply(
    message: Message, site: Site, released: Released, started: float, proof: Mapping[str, str] | None = None
) -> Message:
    if site.settings.privacy == "none":  # else not even the seconds of the work leave
        spent = {**released.metrics, "cpu-seconds": time.thread_time() - started}
        released = Released(released.update, released.event, spent)
    content = encode(released, agreement=site.agreement, site=site.data.name, weight=public_weight(site))
    if proof:
        content.config_records["about"].update(proof)
    _note_reply(message, site, content, released.event)
    return Message(content, reply_to=message)


def _note_reply(message: Message, site: Site, content: RecordDict, event: PrivacyEvent) -> None:
    """Writes a deployed hospital's receipt; where it cannot be written, the reply does not leave."""
    if site.home is None or site.simulated:
        return
    arrays = {name: (one.dtype, one.shape, one.data) for name, one in content.array_records["arrays"].items()}
    values = {**content.metric_records["metrics"], **content.config_records["about"]}
    name = message.metadata.message_type.partition(".")[2]
    secure = name.startswith("secure_")
    write_receipt(site.home, Sent(name, site.asker, arrays, values, wire_bytes(content), event, secure))


def _note_refusal(message: Message, context: Context, error: Exception) -> None:
    """Writes down which fixed sentence left in place of an answer; a hospital without a folder has no place for it."""
    asker, name = _asker(context), message.metadata.message_type.partition(".")[2]
    try:
        hospital = Node.of(context.node_config).hospital
        if hospital is not None:
            write_receipt(hospital.folder, Sent(name, asker, refused=str(error)))
    except MedtlError:
        logging.getLogger("medtl").exception("a refusal could not be written down")


def _asker(context: Context) -> Requester:
    return Requester.of(context.run_id, context.run_config.get("study"))


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
    proof = None
    if site.home is not None and not site.simulated:
        claim = Claim(site.data.name, site.agreement, message.metadata.run_id, message.metadata.dst_node_id)
        proof = introduction(site.home, claim)
    return _reply(message, site, released, started, proof)


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
