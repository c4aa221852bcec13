"""Which node may speak for a hospital: the one that signs with the identity key by which its name is known.

A hospital signs its answer to "join"; the server keeps to the key that it first heard under a name, or that a person
wrote into its folder before (`privacy.witnesses`). The signature names run and node, so that it is of no use to another
node. Flower knows keys of nodes, too, but does not tell a run whether it checks them, and draws new ones at every start
where it does not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medtl_core.errors import PrivacyError

_KEY, _SIGNATURE = "identity", "identity-signature"


@dataclass(frozen=True)
class Claim:
    """Who says to be which hospital: what is signed.

    Attributes:
        site: the hospital's name.
        agreement: hash of what it understood of the run.
        run, node: ids that Flower gave them.
    """

    site: str
    agreement: str
    run: int
    node: int

    @property
    def statement(self) -> bytes:
        """The bytes that are signed."""
        return json.dumps(["medtl join", self.site, self.agreement, self.run, self.node]).encode()


def introduction(home: Path, claim: Claim) -> dict[str, str]:
    """Returns the flat values by which a hospital proves a claim: its public identity key, and its signature.

    Raises:
        PrivacyError: the identity key in the hospital's folder cannot be read or made.
    """
    from medtl_core.privacy import masking
    from medtl_core.privacy.identity import own_identity

    identity = own_identity(home)
    signature = masking.signed(identity, claim.statement)
    return {_KEY: masking.identity_public(identity).hex(), _SIGNATURE: signature.hex()}


def introduced(values: Mapping[str, object], claim: Claim) -> str:
    """Returns the public identity key, as hex, that signed a claim; "" where none is named.

    Raises:
        PrivacyError: the key that is named did not sign it.
    """
    key, signature = values.get(_KEY), values.get(_SIGNATURE)
    if key is None and signature is None:
        return ""
    from medtl_core.privacy import masking

    try:
        public = bytes.fromhex(str(key))
        masking.check_signature(public, bytes.fromhex(str(signature)), claim.statement, claim.site)
    except (ValueError, PrivacyError) as error:
        raise PrivacyError("the answer is not signed by the identity key that it names") from error
    return public.hex()
