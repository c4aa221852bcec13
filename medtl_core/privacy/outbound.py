"""What a hospital may send: every named value, what it is, and what could be learnt from it about a patient."""

from collections.abc import Iterable
from dataclasses import dataclass

#: What may be learnt, in words that return.
_NOTHING = "nothing: the same with and without any patient"
_NOISED = "nearly nothing: noise hides each patient, as epsilon says; without it, who is in and their mean picture"
_OPEN_SUMS = "no noise hides anyone: of few cases, features of single ones; of many, what is common, and who was in"


@dataclass(frozen=True)
class Outbound:
    """One named value a hospital may send.

    Attributes:
        task: whose answer it is in.
        name: of the array or number.
        what: it is, in words.
        private: whether the gate noised and counted it.
        learnt: what could be learnt from it about a patient.
    """

    task: str
    name: str
    what: str
    private: bool
    learnt: str = _NOTHING


#: What the default method, `auto`, sends without privacy, of F folds; tests hold it to that.
#: A fold's root has the Gram matrix of its cases, and so tells what the matrix tells, in fewer numbers.
DEFAULT_OUTBOUND: tuple[Outbound, ...] = (
    Outbound("every reply", "protocol, agreement, site, weight, mechanism, epsilon, delta, cpu-seconds", "version, "
             "hash of agreed settings, site name, true number of cases, that nothing is promised, seconds of work", False,
             "how many cases there are: two runs with one patient more or fewer tell that"),
    Outbound("statistics", "counts, labels, rows", "of no more cases than features: class counts [F, C], and of each "
             "fold's cases the root: rows [n, d + 1], labels [n, C]", False,
             "very much: the cases' features but for a rotation among them; of a class of one case, that case's"),
    Outbound("statistics", "counts, sums, gram", "of more cases: class counts [F, C], class sums [F, C, d], Gram "
             "matrices, packed [F, d(d+1)/2]", False, _OPEN_SUMS),
    Outbound("logistic_gradient", "cases, rows", "of no more cases than features, five times: cases [F], slopes in "
             "the rows of the roots, n numbers a class and head", False,
             "much: how badly each single case fits a known head"),
    Outbound("logistic_gradient", "cases, gradient", "of more cases, five times: cases [F], gradients [C, d + 1] of "
             "every head", False, _OPEN_SUMS),
    Outbound("validate", "losses, hits", "of the folds' heads on the cases left out: losses, right answers by class",
             False, "how well heads fit a fold: of a fold or class of one case, its label and fit"),
    Outbound("compare", "losses, squares", "of candidates on the cases left out: losses, and squares of patients' "
             "differences, by class", False, "how well heads fit a class: of one patient's, that patient's fit"),
)  # fmt: skip

#: Everything that may leave under privacy, and nothing else: tests hold the wire to it.
PRIVATE_OUTBOUND: tuple[Outbound, ...] = (
    Outbound("every reply", "protocol, agreement, site, weight, mechanism, epsilon, delta", "version, hash of agreed "
             "settings, site name, public number of cases, mechanism, epsilon spent, delta", False),
    Outbound("every reply", "witness-ledger, witness-seq, witness-hash", "where the ledger was opened: whose it is, "
             "number and chain hash of its last record", False),
    Outbound("join", "identity, identity-signature", "public identity key, and by it the signature of name, run and "
             "node", False),
    Outbound("private_mean", "sum, count", "noised sum of patients' rows [k], noised number of patients [1]", True,
             _NOISED),
    Outbound("private_sums", "sums, gram", "noised class sums [C, k] and packed second moment [k(k+1)/2] of centred "
             "rows of length one", True, _NOISED),
    Outbound("private_statistics", "counts, sums", "noised class counts [C], class sums [C, k]", True, _NOISED),
    Outbound("private_counts", "counts", "noised class counts [C]", True,
             "nearly nothing, as epsilon says; without noise, who has which class where all others are known"),
    Outbound("private_gradient", "gradient", "noised sum of clipped gradients [C, k], once a round", True, _NOISED),
    Outbound("private_block", "gradient", "noised sum of patients' clipped gradients [D], once a round", True, _NOISED),
    Outbound("secure_keys", "public, identity, least, signature", "fresh public keys with a hash of the own mask's "
             "secret, identity key, the policy's minimum_colluders, signature", False),
    Outbound("secure_shares", "parcels", "sealed shares of mask secrets, one for every hospital", False),
    Outbound("secure_shares", "strangers", "who has another identity than the one exchanged", False),
    Outbound("secure_masked", "masked", "the noised sums under masks, uniform to anyone but the sum", True,
             "nothing by itself; of the hospitals' sum nearly nothing, as epsilon says"),
    Outbound("secure_masked", "closed", "whose sealed shares did not open", False),
    Outbound("secure_survivors", "signature", "of the list of hospitals in the sum", False),
    Outbound("secure_unmask", "shares", "shares of survivors' own masks and of drop-outs' pairwise keys", False),
)  # fmt: skip


def said_of(task: str, names: Iterable[str] = ()) -> str:
    """Returns in words what the answer to a task holds; of one that is not listed, the names of its arrays."""
    if task == "join":
        return "that the hospital takes part: name, identity key, number of cases, hash of the settings"
    rows = [row for row in (*PRIVATE_OUTBOUND, *DEFAULT_OUTBOUND) if row.task == task]
    arrays = {*names}
    rows = [row for row in rows if arrays & {*row.name.split(", ")}] or rows
    fitting = [row for row in rows if {*row.name.split(", ")} <= arrays] or rows
    return "; ".join(dict.fromkeys(row.what for row in fitting)) or f"arrays {', '.join(sorted(arrays)) or 'none'}"
