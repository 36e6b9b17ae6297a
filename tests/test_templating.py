"""The sandbox for what people typed, and the filters of the mails."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from campaign.templating import TemplateRefusedError, file_size, grouped, localtime, render_text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ count * 2 }} of {{ name }}", "14 of <b>"),
        ("{{ count % 4 }}", "3"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
    ],
)
def test_template_renders(template: str, text: str) -> None:
    assert render_text(template, {"count": 7, "name": "<b>"}, name="mine") == text


def test_html_is_escaped() -> None:
    assert render_text("{{ name }}", {"name": "<b>"}, name="mine", autoescape=True) == "&lt;b&gt;"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ name.__init__.__globals__ }}",
        "{{ 'x' * 10**10 }}",
        "{{ 'x' * 10000000000 }}",
        "{{ [0] * 10000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% for i in range(10000000) %}{{ i }}{% endfor %}",
        "{{ nobody_knows_this }}",
        "{{ unclosed",
        "{{ 1 / 0 }}",
        "{{ items.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{{ '{x}'.format() }}",
        "{{ 7 | localtime }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{% include '../../requirements.txt' %}",
    ],
)
def test_template_that_reaches_out_of_the_sandbox_is_refused_by_name(template: str) -> None:
    with pytest.raises(TemplateRefusedError, match=r"^file_name_template of the service: "):
        render_text(template, {"name": "x", "items": []}, name="file_name_template of the service")


def test_moment_is_written_as_its_reader_sees_it() -> None:
    moment = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    assert localtime(moment, "Europe/Paris") == "2026-07-02 00:30 CEST"
    assert localtime(moment.isoformat(), "UTC") == "2026-07-01 22:30 UTC"
    assert localtime(None) == ""


@pytest.mark.parametrize("name", ["europe/paris", "Mars/Olympus", "../../etc/passwd", ""])
def test_time_zone_that_python_does_not_know_gives_utc(name: str) -> None:
    assert localtime("2026-07-01T22:30:00+00:00", name) == "2026-07-01 22:30 UTC"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, ""),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
    ],
)
def test_file_size(size: int | None, text: str) -> None:
    assert file_size(size) == text


def test_count_is_grouped_with_spaces_that_do_not_break() -> None:
    assert grouped(23570) == "23\N{NO-BREAK SPACE}570"
    assert grouped(None) == ""
