"""Signatures of webhooks, against a signer that is not ours and the specification's own example."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from magistrate.gateway.signatures import BadSignature, is_signed, key_of, sign, verify

NOW = 1_750_000_000
KEY, OTHER = b"k" * 24, b"o" * 32


def signed(
    body: bytes, *keys: bytes, name: str = "req_1", at: str = str(NOW), version: str = "v1"
) -> dict[str, str]:
    """The headers of a body that other people's code signed."""
    found = [
        f"{version},"
        + base64.b64encode(
            hmac.digest(key, b"%s.%s." % (name.encode(), at.encode()) + body, hashlib.sha256)
        ).decode()
        for key in keys
    ]
    return {"webhook-id": name, "webhook-timestamp": at, "webhook-signature": " ".join(found)}


def test_the_example_of_the_specification() -> None:
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(), st.binary(min_size=16, max_size=64), st.from_regex(r"\A[\w.:-]{1,40}\Z"))
def test_raw_bytes_are_signed_whatever_they_are(body: bytes, key: bytes, name: str) -> None:
    headers = signed(body, key, name=name)
    assert sign(key, name, str(NOW), body) == headers["webhook-signature"]
    verify([key], headers, body, NOW)
    with pytest.raises(BadSignature):
        verify([key], headers, body + b" ", NOW)


@pytest.mark.parametrize("keys", [[KEY], [OTHER, KEY], [KEY, OTHER]])
def test_any_key_may_have_signed(keys: list[bytes]) -> None:
    verify(keys, signed(b"{}", KEY), b"{}", NOW)


@pytest.mark.parametrize("keys", [(KEY, OTHER), (OTHER, KEY), (OTHER, OTHER, KEY)])
def test_any_signature_may_match(keys: tuple[bytes, ...]) -> None:
    verify([KEY], signed(b"{}", *keys), b"{}", NOW)


def test_signatures_of_other_versions_are_no_reason_to_refuse() -> None:
    headers = signed(b"{}", KEY)
    headers["webhook-signature"] = f"v1a,abc v2 , {headers['webhook-signature']}"
    verify([KEY], headers, b"{}", NOW)


@pytest.mark.parametrize("off", [-300, -299, 0, 299, 300])
def test_a_clock_may_be_off_by_five_minutes(off: int) -> None:
    verify([KEY], signed(b"{}", KEY, at=str(NOW + off)), b"{}", NOW)


GOOD = signed(b"{}", KEY)
BAD: dict[str, dict[str, str]] = {
    "nothing": {},
    "no id": {k: v for k, v in GOOD.items() if k != "webhook-id"},
    "no timestamp": {k: v for k, v in GOOD.items() if k != "webhook-timestamp"},
    "no signature": {k: v for k, v in GOOD.items() if k != "webhook-signature"},
    "empty signature": GOOD | {"webhook-signature": ""},
    "empty id": GOOD | {"webhook-id": ""},
    "other id": GOOD | {"webhook-id": "req_2"},
    "too old": signed(b"{}", KEY, at=str(NOW - 301)),
    "too new": signed(b"{}", KEY, at=str(NOW + 301)),
    "other time": GOOD | {"webhook-timestamp": str(NOW - 1)},
    "no number": signed(b"{}", KEY, at="soon"),
    "not a number": signed(b"{}", KEY, at="nan"),
    "a fraction": signed(b"{}", KEY, at=f"{NOW}.0"),
    "other digits": signed(b"{}", KEY, at="١٧٥٠٠٠٠٠٠٠"),
    "a sign": signed(b"{}", KEY, at=f"+{NOW}"),
    "huge": signed(b"{}", KEY, at="9" * 5000),
    "other key": signed(b"{}", OTHER),
    "other body": signed(b"[]", KEY),
    "other version": signed(b"{}", KEY, version="v1a"),
    "no version": signed(b"{}", KEY, version=""),
    "only the version": GOOD | {"webhook-signature": "v1,"},
    "no separator": GOOD | {"webhook-signature": GOOD["webhook-signature"].replace(",", "")},
    "commas between": GOOD | {"webhook-signature": f"v1,abc,{GOOD['webhook-signature']}"},
    "not ascii": GOOD | {"webhook-signature": "v1,é"},
    "in hex": GOOD | {"webhook-signature": "v1," + "0" * 64},
}


@pytest.mark.parametrize("name", BAD)
def test_any_other_is_bad(name: str) -> None:
    with pytest.raises(BadSignature) as raised:
        verify([KEY, b"x" * 20], BAD[name], b"{}", NOW)
    assert GOOD["webhook-signature"][3:] not in str(raised.value)


def test_without_a_key_nothing_is_valid() -> None:
    with pytest.raises(BadSignature):
        verify([], GOOD, b"{}", NOW)
    with pytest.raises(BadSignature):
        verify([KEY], signed(b"{}", b""), b"{}", NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_one_header_is_enough_to_count_as_signed(name: str) -> None:
    assert is_signed({name: ""})
    assert not is_signed({"content-type": "application/json"})


KEYS = {
    "whsec_" + base64.b64encode(KEY).decode(): KEY,
    "whsec_" + base64.b64encode(b"\xfb\xff" * 10).decode(): b"\xfb\xff" * 10,
    "whsec_" + base64.b64encode(b"\xfb\xff" * 10).decode().rstrip("="): b"\xfb\xff" * 10,
}


@pytest.mark.parametrize("secret", KEYS)
def test_the_key_is_what_follows_the_prefix(secret: str) -> None:
    assert key_of(secret) == KEYS[secret]


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        base64.b64encode(KEY).decode(),
        "sk-ant-" + base64.b64encode(KEY).decode(),
        "whsec_" + base64.urlsafe_b64encode(b"\xfb\xff" * 10).decode(),
        "whsec_" + base64.b64encode(b"short").decode(),
        "whsec_" + base64.b64encode(KEY).decode() + "\n",
        "whsec_é",
        "whsec_A",
    ],
)
def test_what_is_no_secret_is_refused_without_a_quote(secret: str) -> None:
    with pytest.raises(ValueError, match="not a secret") as raised:
        key_of(secret)
    assert len(secret) < 10 or secret[6:] not in str(raised.value)
