"""What waits between the threads that read, compute and write."""

import threading
import time

import pytest

from vledge.scoring.channel import MOST_ITEMS, Channel, Stopped


def put_in_a_thread(channel, *arguments):
    thread = threading.Thread(target=channel.put, args=arguments, daemon=True)
    thread.start()
    return thread


def test_items_come_in_order_up_to_the_last():
    channel = Channel(10, threading.Event())
    for item in ("a", "b", None):
        channel.put(item, 1)
    assert list(iter(channel.take, None)) == ["a", "b"]


def test_so_many_bytes_wait_and_small_items_have_room_beside_them():
    channel = Channel(10, threading.Event())
    channel.put("a", 6)
    channel.put("no memory")
    waits = put_in_a_thread(channel, "b", 6)
    waits.join(0.1)
    assert waits.is_alive()
    assert channel.take() == "a"
    waits.join(10)
    assert [channel.take(), channel.take()] == ["no memory", "b"]


def test_what_is_larger_than_the_room_waits_alone():
    channel = Channel(10, threading.Event())
    channel.put("large", 100)
    waits = put_in_a_thread(channel, "small", 1)
    waits.join(0.1)
    assert waits.is_alive()
    assert channel.take() == "large"
    waits.join(10)
    assert channel.take() == "small"


def test_a_million_small_items_do_not_wait_at_a_time():
    channel = Channel(10, threading.Event())
    for number in range(MOST_ITEMS):
        channel.put(number)
    waits = put_in_a_thread(channel, "one more")
    waits.join(0.1)
    assert waits.is_alive()
    channel.take()
    waits.join(10)
    assert not waits.is_alive()


@pytest.mark.parametrize("way", ["put", "take"])
def test_who_waits_is_told_that_the_run_is_over(way):
    stop = threading.Event()
    channel = Channel(10, stop)
    if way == "put":
        channel.put("full", 10)
    threading.Timer(0.05, stop.set).start()
    start = time.monotonic()
    with pytest.raises(Stopped):
        channel.put("more", 10) if way == "put" else channel.take()
    assert time.monotonic() - start < 5
    with pytest.raises(Stopped):
        channel.put("room or not")
