"""What a network does to messages: duplicates, strays, unreadable bytes, unsent messages and vanished nodes."""

from collections.abc import Iterable

import pytest
from flwr.app import Message

from medtl_core.flower.grid import LocalGrid


class Forger(LocalGrid):
    """A grid that repeats, invents and breaks replies."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in super().pull_messages(message_ids):
            yield message
            if message.metadata.message_type != "train.double":
                continue
            if message.metadata.src_node_id == 1001:
                yield message  # the same again
            if message.metadata.src_node_id == 1002:
                stray = Message(message.content, 1, "train.double")
                stray.metadata.__dict__["_reply_to_message_id"] = "never asked"
                stray.metadata.__dict__["_src_node_id"] = 1002
                yield stray


class Breaker(LocalGrid):
    """A grid on which one node's bytes cannot be read, as a hostile SuperNode can bring about."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        if "bad" in message_ids:
            raise ValueError("Unexpected format for object head.")
        return super().pull_messages(message_ids)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            (key,) = super().push_messages([message])
            if message.metadata.message_type == "train.double" and message.metadata.dst_node_id == 1001:
                self._waiting["bad"] = self._waiting.pop(key)
                key = "bad"
            ids.append(key)
        return ids


class Unsent(LocalGrid):
    """A grid that does not take the message for one node."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [
            None if message.metadata.dst_node_id == 1000 and "train" in message.metadata.message_type else key
            for message in messages
            for key in super(Unsent, self).push_messages([message])
        ]


class Vanished(LocalGrid):
    """A grid on which a node goes away: Flower answers in its place, with the SuperLink's own node id."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        from flwr.app import Error

        for message in super().pull_messages(message_ids):
            if message.metadata.src_node_id == 1003 and "train" in message.metadata.message_type:
                message.metadata.__dict__["_src_node_id"] = 1
                message.__dict__["_content"], message.__dict__["_error"] = (
                    None,
                    Error(code=5, reason="Node Unavailable"),
                )
            yield message


def test_a_duplicate_and_a_foreign_reply_change_nothing(ward, ask) -> None:
    hospitals = ward(grid=Forger).hospitals
    replies = list(hospitals.ask(ask()))
    assert [reply.site for reply in replies] == ["h000", "h001", "h002", "h003"]
    assert sorted((failure.site, failure.code) for failure in hospitals.failures) == [
        ("h001", "duplicate"),
        ("h002", "foreign"),
    ]


@pytest.mark.parametrize(
    ("grid", "site", "code"),
    [(Breaker, "h001", "unreadable"), (Unsent, "h000", "not-sent"), (Vanished, "h003", "node-unavailable")],
)
def test_what_the_network_does_is_named(ward, ask, grid: type[LocalGrid], site: str, code: str) -> None:
    hospitals = ward(grid=grid).hospitals
    replies = list(hospitals.ask(ask()))
    assert [reply.site for reply in replies] == [name for name in ("h000", "h001", "h002", "h003") if name != site]
    assert [(failure.site, failure.code) for failure in hospitals.failures] == [(site, code)]
