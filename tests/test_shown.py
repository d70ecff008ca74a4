"""What is shown has no secrets and steers no terminal."""

from __future__ import annotations

import json

import pytest

from qatplan.cli.output import emit, note
from qatplan.errors import DataError, QatplanWarning
from qatplan.shown import shown, shown_json, without_secrets


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("s3://KEY:SECRET@bucket/runs", "s3://bucket/runs"),
        ("s3://KEY:sec/ret+1@bucket/runs", "s3://bucket/runs"),
        ("s3://KEY@bucket/runs", "s3://bucket/runs"),
        ("s3://bucket/runs?secret_key=SECRET&region=eu&token=KEY", "s3://bucket/runs?region=eu"),
        ("s3://bucket/runs?endpoint_override=http%3A%2F%2FKEY:SECRET@host", "s3://bucket/runs?endpoint_override=http%3A//host"),
        ("s3://bucket/runs?endpoint_override=host:90&scheme=http", "s3://bucket/runs?endpoint_override=host:90&scheme=http"),
        ("s3://bucket/run@1/x", "s3://bucket/run@1/x"),
        ("runs/a@b?token=c", "runs/a@b?token=c"),
        ("qatplan fit 's3://KEY:SECRET@b/a' x", "qatplan fit 's3://b/a' x"),
    ],
)  # fmt: skip
def test_an_address_keeps_where_and_loses_who(address: str, public: str) -> None:
    assert without_secrets(address) == public
    assert without_secrets(public) == public


def test_errors_and_warnings_have_no_secrets() -> None:
    assert str(DataError("s3://KEY:SECRET@bucket/a cannot be read.")) == "s3://bucket/a cannot be read."
    assert str(QatplanWarning("s3://KEY:SECRET@bucket/a is old")) == "s3://bucket/a is old"


def test_what_steers_a_terminal_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b]0;mine\x07\x9b2J\u202eb\ud800"
    assert shown(name) == r"a\x1b]0;mine\x07\x9b2J\u202eb\ud800"
    assert shown("é\n\t—") == "é\n\t—"
    note(name)
    emit({"name": name, "at": "s3://KEY:SECRET@bucket/a"}, "", True)
    said = capsys.readouterr()
    assert said.err == shown(name) + "\n"
    assert json.loads(said.out) == {"name": name, "at": "s3://bucket/a"}
    assert said.out.isascii()
    assert shown_json(json.dumps([name], ensure_ascii=False)).isascii()
