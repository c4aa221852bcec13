"""What a deployed hospital writes down before a reply leaves it; a simulated one sends nothing to anybody."""

import logging

from flwr.app import Context, Message, RecordDict

from medtl_core.errors import MedtlError
from medtl_core.flower.records import wire_bytes
from medtl_core.privacy.asker import Asker
from medtl_core.privacy.receipt import Sent, write_receipt
from medtl_core.values import PrivacyEvent

from .site import Node, Site


def reply_noted(message: Message, site: Site, content: RecordDict, event: PrivacyEvent) -> None:
    """Writes the receipt of a reply.

    Raises:
        PrivacyError: it cannot be written; the reply must not leave.
    """
    if site.home is None or site.simulated:
        return
    arrays = {
        name: (array.dtype, tuple(array.shape), array.data) for name, array in content.array_records["arrays"].items()
    }
    values = {**content.metric_records["metrics"], **content.config_records["about"]}
    task = message.metadata.message_type.partition(".")[2]
    secure = task.startswith("secure_")
    write_receipt(site.home, Sent(task, site.asker, arrays, values, wire_bytes(content), event, secure))


def refusal_noted(message: Message, context: Context, error: Exception) -> None:
    """Writes down that a message was refused, and in which of the fixed sentences; without a folder there is no place."""
    asker, task = Asker.of(context.run_id, context.run_config.get("study")), message.metadata.message_type
    try:
        hospital = Node.of(context.node_config).hospital
        if hospital is not None:
            write_receipt(hospital.folder, Sent(task.partition(".")[2], asker, refused=str(error)))
    except MedtlError:
        logging.getLogger("medtl").exception("a refusal could not be written down")
