# SPDX-License-Identifier: Apache-2.0
"""What asynchronous uploads are for: a bridge keeps its messages in order and nobody waits for large files."""

import hashlib

import pytest

from bridge import LARGE, MESSAGES, file_content, run_bridge


def expect_whole(run):
    for message in run.files:
        assert message.digest == hashlib.sha256(file_content(message.number)).hexdigest(), message


@pytest.fixture
def run(stack, tmp_path, request):
    return run_bridge(stack, request.param, stack.user(f"watcher_{request.param}"), tmp_path)


@pytest.mark.parametrize("run", ["live"], indirect=True)
def test_events_come_in_order_at_once_and_files_live(run):
    assert run.order == list(range(MESSAGES))
    # All twenty were seen while the first large file was still on its way to the server.
    assert run.last_seen < run.first_uploaded, run
    for message in run.files:
        assert message.first_byte < message.uploaded, f"not live: {message}"
    expect_whole(run)


@pytest.mark.parametrize("run", ["in_order"], indirect=True)
def test_plain_uploads_keep_the_order_by_making_everybody_wait(run):
    assert run.order == list(range(MESSAGES))
    assert run.last_seen > max(message.uploaded for message in run.files), "later messages waited for the files"
    expect_whole(run)


@pytest.mark.parametrize("run", ["parallel"], indirect=True)
def test_plain_uploads_in_parallel_lose_the_order(run):
    assert sorted(run.order) == list(range(MESSAGES))
    assert run.out_of_place >= len(LARGE), "files come after what was said after them"
    expect_whole(run)
