# SPDX-License-Identifier: Apache-2.0
"""What asynchronous uploads are for: a bridge keeps its messages in order and nobody waits for large files."""

import hashlib

import pytest

from bridge import LARGE, MESSAGES, file_content, run_bridge


def expect_whole(run):
    for message in run.files:
        assert message.digest == hashlib.sha256(file_content(message.number)).hexdigest(), message


@pytest.fixture
def run(stack, tmp_path):
    return lambda way, **options: run_bridge(stack, way, stack.user(f"watcher_{way}"), tmp_path, **options)


def test_events_come_in_order_at_once_and_files_live(run):
    """No file ends before all twenty messages and the beginning of each file were seen: it does not end otherwise."""
    live = run("live", holds_ends=True)
    assert live.order == list(range(MESSAGES))
    assert live.last_seen < live.first_uploaded, live
    for message in live.files:
        assert message.first_byte < message.uploaded, f"not live: {message}"
    expect_whole(live)


def test_plain_uploads_in_parallel_lose_the_order(run):
    parallel = run("parallel")
    assert sorted(parallel.order) == list(range(MESSAGES))
    assert parallel.out_of_place >= len(LARGE), "files come after what was said after them"
    expect_whole(parallel)
