"""The records of a message as one, between a coordinator and its hospitals.

Flower asks for each record, each array and each part of an array with a request of its own, and to answer these is most
of what an exchange of small messages costs. A long message stays as it is: Flower sends it in parts.
"""

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import make_message
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Wire

from medtl_core.flower.compat import UNREADABLE
from medtl_core.flower.records import wire_bytes

#: Name of the one record, and of its one value.
SINGLE = "medtl-records"
#: Payload bytes above which a message stays as it is.
_LARGEST = 1_000_000


def joined(message: Message) -> Message:
    """Returns the message with its records as one, if they are short."""
    if not message.has_content() or wire_bytes(message.content) > _LARGEST:
        return message
    content = recorddict_to_proto(message.content).SerializeToString()
    return make_message(metadata=message.metadata, content=RecordDict({SINGLE: ConfigRecord({SINGLE: content})}))


def is_joined(message: Message) -> bool:
    """Returns whether the message's records are one."""
    return message.has_content() and [*message.content] == [SINGLE]


def parted(message: Message) -> Message:
    """Returns the message with the records that `joined` found; what cannot be read stays, and is refused later."""
    if not is_joined(message):
        return message
    try:
        content = recorddict_from_proto(Wire.FromString(message.content.config_records[SINGLE][SINGLE]))
    except UNREADABLE:
        return message
    return make_message(metadata=message.metadata, content=content)
