"""The queue in front of the captioner: batched, bounded, and never a reason to wait for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from caption_support import PixelCaptioner, caption_of
from serving_support import wait_for

from bls_models.captions.queue import CaptionQueue, GeneratedCaption
from bls_models.errors import CaptionerBusyError, CaptionerError
from bls_models.specs import IMAGE_CAPTIONER

PATIENT = 60.0


def picture(value: int) -> npt.NDArray[np.uint8]:
    return np.full((4, 4, 3), value, np.uint8)


@pytest.fixture
def captioner() -> Iterator[PixelCaptioner]:
    captioner = PixelCaptioner()
    yield captioner
    captioner.go_on()


def test_a_picture_gets_its_caption(captioner: PixelCaptioner) -> None:
    queue = CaptionQueue(captioner, 4, PATIENT)
    future = queue.submit(picture(7))
    assert future.result(PATIENT) == GeneratedCaption(caption_of(picture(7)), 0.75)
    queue.close()


def test_what_waits_during_a_call_makes_up_the_next_ones(captioner: PixelCaptioner) -> None:
    most = IMAGE_CAPTIONER.max_batch_size
    queue = CaptionQueue(captioner, 100, PATIENT)
    captioner.hold()
    futures = [queue.submit(picture(0))]
    captioner.wait_for_call()
    futures += [queue.submit(picture(value)) for value in range(1, most + 4)]
    captioner.go_on()
    texts = [future.result(PATIENT).text for future in futures]
    assert texts == [caption_of(picture(value)) for value in range(most + 4)]
    assert [len(batch) for batch in captioner.batches] == [1, most, 3]
    queue.close()


def test_a_full_queue_refuses_until_someone_stops_waiting(captioner: PixelCaptioner) -> None:
    queue = CaptionQueue(captioner, 2, PATIENT)
    captioner.hold()
    first = queue.submit(picture(0))
    captioner.wait_for_call()
    waiting = [queue.submit(picture(value)) for value in (1, 2)]
    with pytest.raises(CaptionerBusyError, match=r"queue is full \(its size is 2\)"):
        queue.submit(picture(3))
    assert waiting[0].cancel()
    late = queue.submit(picture(4))
    captioner.go_on()
    assert first.result(PATIENT).text == caption_of(picture(0))
    assert late.result(PATIENT).text == caption_of(picture(4))
    assert [batch[:, 0, 0, 0].tolist() for batch in captioner.batches] == [[0], [2, 4]], (
        "a picture that nobody waits for is not captioned"
    )
    queue.close()


def test_a_failing_call_fails_its_pictures_alone(captioner: PixelCaptioner) -> None:
    queue = CaptionQueue(captioner, 4, PATIENT)
    captioner.error = CaptionerError("caption_decoder failed")
    with pytest.raises(CaptionerError, match="caption_decoder failed"):
        queue.submit(picture(1)).result(PATIENT)
    captioner.error = None
    assert queue.submit(picture(2)).result(PATIENT).text == caption_of(picture(2))
    queue.close()


def test_an_unexpected_error_is_logged_and_fails_as_a_captioner_error(
    captioner: PixelCaptioner, caplog: pytest.LogCaptureFixture
) -> None:
    queue = CaptionQueue(captioner, 4, PATIENT)
    captioner.error = KeyError("caption")
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(CaptionerError, match="unexpected KeyError from image_captioner"),
    ):
        queue.submit(picture(1)).result(PATIENT)
    assert "KeyError" in caplog.text
    queue.close()


def test_a_call_that_hangs_is_not_waited_for_again_and_the_queue_recovers(
    captioner: PixelCaptioner,
) -> None:
    queue = CaptionQueue(captioner, 4, patience_s=0.05)
    captioner.hold()
    first = queue.submit(picture(0))
    captioner.wait_for_call()
    time.sleep(0.1)
    with pytest.raises(CaptionerError, match=r"has not answered for \d+\.\d s") as info:
        queue.submit(picture(1))
    assert not isinstance(info.value, CaptionerBusyError)
    captioner.go_on()
    first.result(PATIENT)

    def taken() -> bool:
        try:
            return bool(queue.submit(picture(2)).result(PATIENT).text)
        except CaptionerError:
            return False

    wait_for(taken, "pictures are taken again")
    queue.close()


def test_closing_lets_the_waiting_ones_go(captioner: PixelCaptioner) -> None:
    queue = CaptionQueue(captioner, 4, PATIENT)
    captioner.hold()
    first = queue.submit(picture(0))
    captioner.wait_for_call()
    second = queue.submit(picture(1))
    closer = threading.Thread(target=queue.close)
    closer.start()
    wait_for(lambda: queue._thread.stopping, "the queue is told to close")
    captioner.go_on()
    closer.join()
    assert first.result(PATIENT).text
    wait_for(second.cancelled, "the one that waits is let go")


def test_a_queue_that_was_never_asked_closes_too(captioner: PixelCaptioner) -> None:
    CaptionQueue(captioner, 4, PATIENT).close()
