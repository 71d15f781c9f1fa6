"""The account of one event stream: what was published on its channels against what arrived. Pure."""

from array import array
from dataclasses import dataclass, field, fields


@dataclass
class Verdict:
    """Counts of one stream, or sums over many."""

    owed: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    altered: int = 0

    def add(self, other):
        """Adds another stream's."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def is_clean(self):
        """Whether every event arrived once, in order, as it was published."""
        return self.received == self.owed and not (self.lost or self.duplicated or self.out_of_order or self.altered)


@dataclass
class Published:
    """All events of a run. Their numbers rise from 1 in the order in which they were published, over all channels."""

    texts: dict = field(default_factory=dict)
    channels: dict = field(default_factory=dict)
    # The highest number on each channel.
    last: dict = field(default_factory=dict)

    def begin(self, number, channel, text):
        """An event that is about to be published."""
        self.texts[number] = text
        self.channels[number] = channel
        self.last[channel] = number

    def on(self, channels):
        """Numbers of the events on these channels, in their order."""
        return [number for number, channel in self.channels.items() if channel in channels]


def number_of(text):
    """The number at the start of an event's data; None where there is none."""
    head = text.split(" ", 1)[0]
    return int(head) if head.isascii() and head.isdigit() else None


class Account:
    """What arrived on one stream, in the order of its arrival."""

    def __init__(self, channels):
        self.channels = frozenset(channels)
        self.numbers = array("L")
        self.highest = 0
        self.altered = 0

    def receive(self, text, published):
        """Takes an event's data. Returns its number; None when nobody published that."""
        number = number_of(text)
        if number is None or published.texts.get(number) != text or published.channels[number] not in self.channels:
            self.altered += 1
            return None
        self.numbers.append(number)
        self.highest = max(self.highest, number)
        return number

    def verdict(self, published):
        """The counts, once nothing more will arrive."""
        verdict = Verdict(altered=self.altered)
        owed = published.on(self.channels)
        seen, highest = set(), 0
        for number in self.numbers:
            if number in seen:
                verdict.duplicated += 1
                continue
            seen.add(number)
            verdict.out_of_order += number < highest
            highest = max(highest, number)
        verdict.owed = len(owed)
        verdict.received = len(seen)
        verdict.lost = len(set(owed) - seen)
        return verdict

    def is_complete(self, published):
        """Whether the last event that is owed, or a later one, has arrived."""
        return self.highest >= max((published.last.get(channel, 0) for channel in self.channels), default=0)

    def holes(self, published):
        """Runs of lost events: `(last received before, [numbers], first received after)`, None at the ends."""
        seen = set(self.numbers)
        runs, before = [], None
        run = []
        for number in published.on(self.channels):
            if number not in seen:
                run.append(number)
                continue
            if run:
                runs.append((before, run, number))
                run = []
            before = number
        if run:
            runs.append((before, run, None))
        return runs
