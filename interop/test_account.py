"""The account: it has to notice whatever may go wrong."""

import unittest

from account import Account, Published, Verdict


def published():
    """Odd numbers on `a`, even ones on `b`, 1 to 8."""
    events = Published()
    for number in range(1, 9):
        events.begin(number, "ba"[number % 2], f"{number} text")
    return events


def account(arrivals, channels=("a", "b")):
    """The account of these arrivals, and its verdict."""
    events = published()
    made = Account(channels)
    for text in arrivals:
        made.receive(f"{text} text" if isinstance(text, int) else text, events)
    return made, made.verdict(events)


class Accounts(unittest.TestCase):
    """Arrivals in, counts out."""

    def test_everything_once_and_in_order_is_clean(self):
        made, verdict = account(range(1, 9))
        self.assertEqual(verdict, Verdict(owed=8, received=8))
        self.assertTrue(verdict.is_clean() and made.is_complete(published()))
        self.assertEqual(account([1, 3, 5, 7], ["a"])[1], Verdict(owed=4, received=4))

    def test_what_is_missing_is_lost(self):
        made, verdict = account([2, 3, 6, 7])
        self.assertEqual(verdict, Verdict(owed=8, received=4, lost=4))
        self.assertFalse(verdict.is_clean() or made.is_complete(published()))
        self.assertEqual(made.holes(published()), [(None, [1], 2), (3, [4, 5], 6), (7, [8], None)])
        self.assertEqual(account([])[1], Verdict(owed=8, lost=8))

    def test_repeated_and_late_ones_are_counted(self):
        verdict = account([1, 2, 2, 4, 3, 1, 5, 6, 7, 8])[1]
        self.assertEqual(verdict, Verdict(owed=8, received=8, duplicated=2, out_of_order=1))
        self.assertFalse(verdict.is_clean())

    def test_what_nobody_published_there_is_altered(self):
        for text in ("1 tex", "1 text\n", "", "text", "9 text", "-1 text", "², text"):
            self.assertEqual(account([text])[1].altered, 1, text)
        self.assertEqual(account([2], ["a"])[1], Verdict(owed=4, lost=4, altered=1))

    def test_a_stream_without_events_owes_none(self):
        made, verdict = account([], ["c"])
        self.assertTrue(verdict.is_clean() and made.is_complete(published()))


if __name__ == "__main__":
    unittest.main()
