"""What Hypothesis explores: the only part of the kits that needs it."""

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from resetkit.testing._kit import BrokenPromiseError, Conformance, expect
from resetkit.testing.hashers import SECRET, TokenHasherConformance


def exploring(kit: Conformance[Any]) -> settings:
    """The loaded Hypothesis profile, with the kit's own number of examples where it states one."""
    profile = settings()
    if Phase.generate not in profile.phases:
        raise BrokenPromiseError("the Hypothesis profile has no phase that generates examples: this checks nothing")
    return settings(
        profile,
        max_examples=profile.max_examples if kit.examples is None else kit.examples,
        deadline=None,
        report_multiple_bugs=False,  # one that is short and clear
        database=None,  # the examples of one adapter are of no use to another
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


def explore_verify(kit: TokenHasherConformance) -> None:
    """Any stored text and any bytes: no hasher made the one from the other."""
    with kit.opened() as hasher:

        @exploring(kit)
        @given(stored=st.text(), secret=st.binary(max_size=64))
        def any_text_is_false(stored: str, secret: bytes) -> None:
            kit.transcript.begin_anew()
            for text in (stored, f"$argon2id$v=19${stored}"):
                expect(kit.run(hasher.verify(text, secret)), False, "no hasher made it")

        any_text_is_false()
        expect(kit.run(hasher.verify(kit.run(hasher.hash(SECRET)), SECRET)), True, "it verifies what it made")
